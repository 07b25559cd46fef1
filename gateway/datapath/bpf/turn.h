/*
 * From inside to a public address of the gateway's own: the packet becomes what would leave to the Internet, and comes in as it would
 * from there. It is no hop. It turns once: what is for a frontend never goes by the Internet's routes.
 */
#pragma once

#include "balance.h"
#include "leave.h"

/* In the name that it is given outside. Its sender, whom answers go to, is where it was. */
static __always_inline MUST_CHECK int turn(struct xdp_md *ctx, struct packet *p, struct rewriting *r, __u32 internet)
{
	__u32 arrival = p->arrival_line;
	int verdict = translate(ctx);

	if (verdict)
		return verdict;
	p->hop_kind = NEXT_HOP_EXTERNAL;
	finish(ctx, p, VERDICT_FORWARDED, 0);
	copy6(r->came_from.address, p->source);
	r->came_from.port = p->source_port;
	if (p->translated & TRANSLATE_SOURCE) {
		copy6(p->source, r->source.address);
		p->source_port = r->source.port;
		if (!has_ports(p->protocol))
			p->destination_port = p->source_port; /* both are the identifier */
	}
	p->translated = 0;
	p->turned = true;
	p->origin = FROM_EXTERNAL;
	p->service = SERVICE_TO_FRONTEND;
	bool entered = enter_domain(p, internet);

	p->arrival_line = arrival;
	return entered ? VERDICT_NONE : DROP_VIP_NOT_SERVED;
}

/* Before an answer: the packet, if it turned, as it came. */
static __always_inline MUST_CHECK int turn_back(struct xdp_md *ctx)
{
	struct packet *p = packet_in_hand();
	struct rewriting *r = rewriting_in_hand();

	if (!p || !r)
		return DROP_INTERNAL;
	if (!p->turned)
		return VERDICT_NONE;
	p->origin = FROM_OVERLAY;
	copy6(p->source, r->came_from.address);
	p->translated = 0;
	send_from(p, r, p->source, r->came_from.port);
	return translate(ctx);
}
