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

/* The block of the only domain that has seen the first fragment; 0: none has, or several have. */
static __always_inline __u32 block_of_fragment(const struct lenders *lenders, struct sought *sought)
{
	__u32 found = 0, last = 0;
	bool several = false;

	for (__u32 block = 1; block < BLOCKS; block++) {
		__u32 number = lenders->of_block[block].domain;

		if (number == last || !number || !find_translation(number, sought))
			continue;
		several |= found && lenders->of_block[found & (BLOCKS - 1)].domain != number;
		found = block;
		last = number;
		forget(found);
		forget(several);
	}
	return several ? 0 : found;
}

/* The block of ports that a packet to a shared address belongs to, or the packet that an ICMP error is about; 0: none. */
static __always_inline __u32 lent_block(struct xdp_md *ctx, const struct packet *p, struct balancing *b, const struct lenders *lenders)
{
	if (p->fragment & 2) {
		seek_fragment(&b->sought, p, 0);
		return block_of_fragment(lenders, &b->sought);
	}
	if (is_icmp_error(p))
		return read_quote(ctx, p, &b->quoted) ? bpf_ntohs(b->quoted.source_port) >> BLOCK_SHIFT : 0;
	return bpf_ntohs(p->destination_port) >> BLOCK_SHIFT;
}

/* From the Internet's domain, where several share the address, to the one that lends the port. */
static __always_inline MUST_CHECK int enter_lender(struct xdp_md *ctx, struct packet *p, struct balancing *b, const struct frontend *shared)
{
	struct lenders *lenders = line_of(&p->table, shared->lenders);
	__u32 block = lent_block(ctx, p, b, lenders) & (BLOCKS - 1);
	int unserved = p->fragment & 2 ? DROP_FRAGMENT_UNMATCHED : DROP_VIP_NOT_SERVED;

	if (!lenders->of_block[block].domain)
		return unserved;
	p->owner = lenders->of_block[block].domain;
	p->frontend = lenders->of_block[block].frontend;
	if (!enter_owner(p) || !has_services(p))
		return unserved;
	struct frontend *own = frontend_of(p, p->frontend);

	return own && own->blocks >> block & 1 ? VERDICT_NONE : unserved;
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
	bool shared = frontend->kind == FRONTEND_SHARED;

	if (shared) {
		int verdict = enter_lender(ctx, p, b, frontend);

		if (verdict)
			return verdict == DROP_VIP_NOT_SERVED ? not_served(p) : verdict;
	}
	if (is_icmp_error(p))
		return error_to_frontend(ctx, p, r, b);
	if (!shared && is_overtaken(p, &b->sought))
		return VERDICT_ORDERED;
	if (p->fragment & 2) {
		int verdict = follow_fragment(p, r, b);

		return b->found || shared ? verdict : overtook(p); /* whose compartment would it be? */
	}
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
		if (!find_lent_port(p->domain, &b->sought, hash_of_remote(p, p->source, p->source_port)))
			return not_served(p);
		if (!restore(p, r, b))
			return VERDICT_NONE;
	}
	return not_served(p);
}
