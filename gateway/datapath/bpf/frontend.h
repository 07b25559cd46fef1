/* Packets to an address that stands for others. */
#pragma once

#include "quotes.h"

/* All of the address belongs to one machine: no state. */
static __always_inline void to_machine(struct xdp_md *ctx, struct packet *p, struct rewriting *r, struct balancing *b, const struct frontend *frontend)
{
	struct quoted *q = &b->quoted;

	if (is_icmp_error(p) && read_quote(ctx, p, q) && same6(q->source, p->destination)) {
		quote_from(p, r, frontend->machine, q->source_port);
		view_from(q, frontend->machine, q->source_port);
	}
	send_to(p, frontend->machine, p->destination_port);
}

/* An ICMP error belongs to the compartment whose IKE or ESP it is about: a router on the way is nobody's peer. */
static __always_inline const __u32 *quoted_peer(struct xdp_md *ctx, const struct packet *p, struct quoted *q)
{
	if (!is_icmp_error(p) || !read_quote(ctx, p, q) || !same6(q->source, p->destination))
		return NULL;
	bool ike = q->protocol == IPPROTO_UDP && (q->source_port == bpf_htons(IKE_PORT) || q->source_port == bpf_htons(IKE_NAT_PORT));

	return ike || q->protocol == IPPROTO_ESP ? q->destination : NULL;
}

/* IKE and ESP belong to the compartment that expects this peer. VERDICT_CONSUMED: the way is known. */
static __always_inline MUST_CHECK int steer(struct xdp_md *ctx, struct packet *p, struct quoted *q, const struct frontend *frontend)
{
	bool ike = p->protocol == IPPROTO_UDP &&
		   (p->fragment & 2 || p->destination_port == bpf_htons(IKE_PORT) || p->destination_port == bpf_htons(IKE_NAT_PORT));
	const __u32 *peer = ike || p->protocol == IPPROTO_ESP ? p->source : quoted_peer(ctx, p, q);
	__u64 mac = 0;

	if (peer && is_six(p)) {
		struct cell6 *cell = find_cell6(&p->table, &frontend->peers, peer);

		p->target = cell ? cell->target : 0;
		mac = cell ? mac_of(cell->mac) : 0;
	} else if (peer) {
		struct cell *cell = find_cell(&p->table, &frontend->peers, peer[V4]);

		p->target = cell ? cell->target : 0;
		mac = cell ? mac_of(cell->mac) : 0;
	}
	if (mac) {
		p->hop_kind = NEXT_HOP_EXTERNAL;
		p->mac = mac;
		return admit_to_forwarding(p) ?: VERDICT_CONSUMED;
	}
	if (!frontend->own)
		return not_served(p);
	p->local = 1;
	return VERDICT_CONSUMED;
}

/* Which rule, or which connection, a packet to a frontend is for. */
static __always_inline MUST_CHECK int to_frontend(struct xdp_md *ctx, struct packet *p, struct rewriting *r, struct balancing *b)
{
	if (p->owner != p->domain && !enter_owner(p))
		return DROP_VIP_NOT_SERVED;
	struct frontend *frontend = has_services(p) ? frontend_of(p, p->frontend) : NULL;

	if (!frontend)
		return not_served(p);
	if (frontend->kind == FRONTEND_ONE_TO_ONE) {
		to_machine(ctx, p, r, b, frontend);
		return VERDICT_NONE;
	}
	if (frontend->kind == FRONTEND_STEERED)
		return steer(ctx, p, &b->quoted, frontend);
	if (is_echo_request(p)) {
		p->local = 1;
		return VERDICT_CONSUMED;
	}
	if (is_icmp_error(p))
		return error_to_frontend(ctx, p, r, b);
	if (p->fragment & 2) {
		int verdict = follow_fragment(p, r, b);

		return b->found ? verdict : overtook(p);
	}
	if (is_overtaken(p, &b->sought))
		return VERDICT_ORDERED;
	b->rule = has_ports(p->protocol) ? find_rule(p, p->frontend, p->protocol, p->destination_port) : 0;
	if (b->rule) {
		struct rule *rule = rule_of(p, b->rule);

		return rule ? balance(p, b, rule) : DROP_VIP_NOT_SERVED;
	}
	if (!has_ports(p->protocol) && !is_echo(p->protocol, p->icmp_type, is_six(p)))
		return not_served(p);
	seek_nat_port(&b->sought, p, p->destination_port);
	for (__u32 i = 0; i < SAME_KEY_TRIES; i++) {
		b->sought.skip = i;
		if (!find_translation(p->domain, &b->sought))
			return not_served(p);
		if (!restore(p, r, b))
			return VERDICT_NONE;
	}
	return not_served(p);
}
