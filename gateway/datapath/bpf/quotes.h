/* ICMP errors about balanced and translated packets: whose the quoted packet was, on either side of the frontend. */
#pragma once

#include "balance.h"

static __always_inline bool read_quote(struct xdp_md *ctx, const struct packet *p, struct quoted *q)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *at = (void *)(long)ctx->data + (p->transport & 0xff) + 8;
	__u32 needed = (is_six(p) ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + 8;
	__u16 *ports;

	__builtin_memset(q, 0, sizeof(*q));
	if (p->transport + 8 + needed > p->network + p->length)
		return false;
	if (is_six(p)) {
		struct ipv6hdr *ip = at;

		ports = (void *)(ip + 1);
		if ((void *)(ports + 4) > data_end)
			return false;
		copy6(q->source, ip->saddr.in6_u.u6_addr32);
		copy6(q->destination, ip->daddr.in6_u.u6_addr32);
		q->protocol = ip->nexthdr;
	} else {
		struct iphdr *ip = at;

		ports = (void *)(ip + 1);
		if ((void *)(ports + 4) > data_end || ip->ihl != 5 || ip->frag_off & bpf_htons(0x1fff))
			return false;
		q->source[V4] = ip->saddr;
		q->destination[V4] = ip->daddr;
		q->protocol = ip->protocol;
	}
	if (has_ports(q->protocol)) {
		q->source_port = ports[0];
		q->destination_port = ports[1];
	} else if (is_echo(q->protocol, *(__u8 *)ports, is_six(p))) {
		q->source_port = q->destination_port = ports[2];
	}
	return true;
}

/* Is the connection found the one that the quoted packet went to the other side by? */
static __always_inline bool went_to_remote(const struct packet *p, const struct balancing *b, const struct rule *rule)
{
	const struct quoted *q = &b->quoted;

	if (rule->kind == RULE_OUTBOUND)
		return lends(rule, q->source_port) && b->sought.flow.low_port == hash_of_remote(p, q->destination, q->destination_port);
	return q->destination_port == machine_port(rule) && is_address_of_member(rule, b->sought.flow.low_port, q->destination);
}

static __always_inline void quote_from(struct packet *p, struct rewriting *r, const __u32 *address, __u16 port)
{
	copy6(r->quoted_source.address, address);
	r->quoted_source.port = port;
	p->translated |= TRANSLATE_QUOTED_SOURCE;
}

static __always_inline void quote_to(struct packet *p, struct rewriting *r, const __u32 *address, __u16 port)
{
	copy6(r->quoted_destination.address, address);
	r->quoted_destination.port = port;
	p->translated |= TRANSLATE_QUOTED_DESTINATION;
}

/* Whose packet it was, as access lists know it. */
static __always_inline void view_from(struct quoted *q, const __u32 *address, __u16 port)
{
	copy6(q->source, address);
	q->source_port = port;
	if (!has_ports(q->protocol))
		q->destination_port = port;
}

/* An ICMP error about what left in a frontend's name: to the machine behind it. */
static __always_inline MUST_CHECK int error_to_frontend(struct xdp_md *ctx, struct packet *p, struct rewriting *r, struct balancing *b)
{
	struct quoted *q = &b->quoted;

	if (!read_quote(ctx, p, q) || !same6(q->source, p->destination))
		return DROP_VIP_NOT_SERVED;
	__u8 protocol = p->protocol;
	__u32 number = has_ports(q->protocol) ? find_rule(p, p->frontend, q->protocol, q->source_port) : 0;

	p->protocol = q->protocol; /* of the connection that is sought */
	if (number) {
		b->found = find_of_rule(p, &b->sought, q->destination, q->destination_port, number);
	} else {
		seek_nat_port(&b->sought, p, q->source_port);
		b->found = find_lent_port(p->domain, &b->sought, hash_of_remote(p, q->destination, q->destination_port));
	}
	struct rule *rule = b->found ? rule_of(p, sought_rule(&b->sought)) : NULL;
	bool other = rule && !number && !went_to_remote(p, b, rule);

	p->protocol = protocol;
	if (other)
		return DROP_VIP_NOT_SERVED;
	struct block block;

	if (!rule || rule->frontend != p->frontend)
		return DROP_VIP_NOT_SERVED;
	if (!number) {
		send_to(p, b->sought.flow.low, 0);
		quote_from(p, r, b->sought.flow.low, sought_port(&b->sought));
		view_from(q, b->sought.flow.low, sought_port(&b->sought));
		if (rule->kind != RULE_BALANCED)
			return VERDICT_NONE;
		quote_to(p, r, rule->address, rule->port);
		if (same6(p->source, q->destination))
			send_from(p, r, rule->address, 0);
		return VERDICT_NONE;
	}
	if (!open_choice(&block, rule->choice) || !member_of(&block, b->sought.flow.low_port))
		return DROP_VIP_NOT_SERVED;
	__u32 *address = member_of(&block, b->sought.flow.low_port)->address;

	view_from(q, address, machine_port(rule));
	if (b->sought.flow.high_port)
		quote_to(p, r, rule->address, b->sought.flow.high_port);
	if (rule->floating) {
		copy6(p->destination, address);
	} else {
		send_to(p, address, 0);
		quote_from(p, r, address, rule->backend_port);
	}
	return VERDICT_NONE;
}
