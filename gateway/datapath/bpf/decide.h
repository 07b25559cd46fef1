/* What becomes of a parsed packet: the route, and what has a say besides. */
#pragma once

#include "known_translations.h"

/* Back to where it came from? */
static __always_inline MUST_CHECK int check_hairpin(struct xdp_md *ctx, const struct packet *p)
{
	if (p->hop_kind == NEXT_HOP_EXTERNAL)
		return p->origin == FROM_EXTERNAL && p->target == p->port ? DROP_HAIRPIN : VERDICT_NONE;
	if (p->origin == FROM_EXTERNAL)
		return VERDICT_NONE;
	struct ethhdr *ethernet = (void *)(long)ctx->data + (p->ethernet & 0x7f);

	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return refuse(DROP_INTERNAL);
	return subnet_of(p, p->subnet)->vsid == p->vsid && p->mac == mac_of(ethernet->h_source) ? DROP_HAIRPIN : VERDICT_NONE;
}

/* Is a packet of a connection that stands to leave by the Internet's routes, and these lead to the gateway's own address there? */
static __always_inline bool is_to_turn(const struct packet *p)
{
	return p->translated && p->service && p->table.line != p->table_line;
}

/* From a parsed packet to where it goes. */
static __always_inline MUST_CHECK int decide(struct xdp_md *ctx, struct packet *p)
{
	int verdict = find_route(p);

	if (is_to_turn(p)) { /* other programs see to that, from the beginning */
		p->translated = 0;
		p->service = SERVICE_FROM_MACHINE;
		return DROP_NO_ROUTE;
	}
	if (p->translated)
		return verdict ?: p->local || p->service ? DROP_VIP_NOT_SERVED : admit_to_forwarding(p);
	if (verdict || p->service)
		return verdict;
	verdict = admit_to_forwarding(p);
	return verdict || p->local ? verdict : check_hairpin(ctx, p);
}

/* Packets that more than a route decides about. */
static __always_inline bool needs_service(struct packet *p, int verdict)
{
	if (p->translated)
		return false;
	if (p->service || p->origin != FROM_OVERLAY || !has_services(p))
		return p->service;
	struct address source;

	copy6(source.words, p->source);
	if (is_icmp_error(p) || p->fragment & 2 || is_translated(p->table_line, &source, p->six))
		p->service = SERVICE_FROM_MACHINE;
	else if (verdict == DROP_NO_ROUTE)
		p->service = SERVICE_OUTBOUND;
	return p->service;
}

/* Between a probe's compartment and what it probes: no list is asked. */
static __always_inline bool is_probe(const struct packet *p)
{
	struct table_compartment *compartment = line_of(&p->table, 3);
	bool back = p->hop_kind == NEXT_HOP_EXTERNAL && p->target == compartment->port;

	if (!compartment->port || (!back && p->port != compartment->port))
		return false;
	if (is_six(p))
		return same6(back ? p->destination : p->source, compartment->service6);
	return (back ? p->destination[V4] : p->source[V4]) == compartment->service4;
}
