/*
 * The packet path, for XDP: port, decapsulate, admit, look up, access lists, leave. Decisions come first and change nothing;
 * then the packet is changed at once. Answers of the gateway's own are programs of their own, reached by tail calls.
 */
#include "answer.h"
#include "first_pass.h"
#include "flow_admission.h"
#include "frontend.h"
#include "neighbour_answer.h"
#include "receive.h"
#include "replies.h"
#include "stages.h"
#include "turn.h"

SEC("xdp.frags")
int gateway(struct xdp_md *ctx)
{
	struct packet packet = {}, *p = &packet;

	if (!root.directory)
		return XDP_PASS;
	p->captured = !!root.capture;
	if (p->captured)
		keep_before(ctx);
	p->directory_line = *(volatile __u32 *)&root.directory;
	if (!open_block(&p->directory, p->directory_line))
		return XDP_PASS;
	struct directory *directory = line_of(&p->directory, 0);
	int verdict = receive(ctx, p, directory);

	forget(p->network);
	forget(p->ethernet);

	if (verdict == VERDICT_CONSUMED) {
		continue_in(ctx, p, STAGE_NEIGHBOUR, verdict);
		return done(ctx, p, DROP_INTERNAL);
	}
	if (verdict == VERDICT_ORDERED) {
		continue_in(ctx, p, STAGE_ARRIVE, verdict);
		return done(ctx, p, DROP_INTERNAL);
	}
	if (verdict)
		return conclude(ctx, p, directory, verdict);
	return is_only_routed(p, directory) ? pass_routed(ctx, p, directory) : pass_any(ctx, p, directory);
}

/* A packet of a domain with access lists; asking them needs the stack for itself. */
SEC("xdp.frags")
int gateway_admit(struct xdp_md *ctx)
{
	struct packet *p = packet_in_hand();

	struct balancing *b = balancing_in_hand();

	if (!p || !b)
		return XDP_DROP;
	p->verdict = admit_flow(ctx, p, &b->quoted, &b->sought.flow);
	bpf_tail_call(ctx, &stages, STAGE_LEAVE);
	return done(ctx, p, DROP_INTERNAL);
}

SEC("xdp.frags")
int gateway_leave(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;

	return take_over(p, false) ? conclude_translated(ctx, p, line_of(&p->directory, 0), p->verdict) : XDP_DROP;
}

/* The route of a translated packet, in its domain or, for what is public, in the Internet's. */
static __always_inline MUST_CHECK int route_translated(struct packet *p, const struct balancing *b, const struct directory *directory)
{
	__u8 service = p->service;

	p->error_type = 0;
	p->local = 0;
	p->service = SERVICE_NONE;
	if (b->internet && !open_table(&p->table, directory->internet))
		return DROP_NO_ROUTE;
	int verdict = find_route(p);
	bool turns = p->service && b->internet;

	if (turns)
		p->hop_kind = NEXT_HOP_TURN;
	if (!verdict)
		verdict = p->local || (p->service && !turns) ? DROP_VIP_NOT_SERVED : admit_to_forwarding(p);
	p->service = service;
	p->local = 0;
	return b->internet && !open_block(&p->table, p->table_line) ? DROP_INTERNAL : verdict;
}

/* The end of what these two programs do. */
static __always_inline int after_balancing(struct xdp_md *ctx, struct packet *p, int verdict)
{
	if (verdict) {
		if (p->error_type)
			continue_in(ctx, p, STAGE_ANSWER, verdict);
		return done(ctx, p, verdict);
	}
	bool listed = !p->local && table_of(p)->flags & TABLE_LISTS && !is_probe(p);

	continue_in(ctx, p, listed ? STAGE_ADMIT : STAGE_LEAVE, verdict);
	return done(ctx, p, DROP_INTERNAL);
}

/* A packet to or from an address that stands for others: who is behind it. */
SEC("xdp.frags")
int gateway_balance(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;
	struct rewriting *r = rewriting_in_hand();
	struct balancing *b = balancing_in_hand();

	if (!take_over(p, false) || !r || !b)
		return XDP_DROP;
	__builtin_memset(b, 0, sizeof(*b));
	copy6(r->came_to, p->destination);
	int verdict = p->service == SERVICE_TO_FRONTEND	 ? to_frontend(ctx, p, r, b) :
		      p->service == SERVICE_FROM_MACHINE ? from_machine(ctx, p, r, b) :
							   reach_internet(p, r, b);

	if (!verdict)
		continue_in(ctx, p, STAGE_SETTLE, verdict);
	if (verdict == VERDICT_ORDERED) {
		continue_in(ctx, p, STAGE_ORDER, verdict);
		return done(ctx, p, DROP_INTERNAL);
	}
	if (verdict == VERDICT_CONSUMED && b->ordinary)
		remember(p, r, b);
	if (verdict == VERDICT_CONSUMED)
		verdict = p->service == SERVICE_FROM_MACHINE ? p->verdict : VERDICT_NONE;
	return after_balancing(ctx, p, verdict);
}

/* Then: the way there, and the connection. */
SEC("xdp.frags")
int gateway_settle(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;
	struct rewriting *r = rewriting_in_hand();
	struct balancing *b = balancing_in_hand();

	if (!take_over(p, false) || !r || !b)
		return XDP_DROP;
	struct directory *directory = line_of(&p->directory, 0);
	int verdict = route_translated(p, b, directory);

	if (!verdict && b->settles)
		verdict = settle(p, r, b, idle_of(p, b));
	if (!verdict)
		remember(p, r, b);
	if (verdict || table_of(p)->flags & TABLE_LISTS)
		return after_balancing(ctx, p, verdict);
	return hand_over(p, verdict) ? conclude_translated(ctx, p, directory, verdict) : XDP_DROP;
}

/* A packet to the Internet that leads to the gateway's own address there comes in again. */
SEC("xdp.frags")
int gateway_turn(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;
	struct rewriting *r = rewriting_in_hand();

	if (!take_over(p, false) || !r)
		return XDP_DROP;
	struct directory *directory = line_of(&p->directory, 0);
	int verdict = turn(ctx, p, r, directory->internet);

	if (verdict)
		return done(ctx, p, verdict);
	continue_in(ctx, p, STAGE_BALANCE, verdict);
	return done(ctx, p, DROP_INTERNAL);
}

/* A fragment that Linux is to put in order. */
SEC("xdp.frags")
int gateway_order(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;
	struct balancing *b = balancing_in_hand();

	if (!b || !take_over(p, false))
		return XDP_DROP;
	struct port *out = port_of(compartment_of(p)->fragments);
	int verdict = hand_to_compartment(ctx, p, out);

	if (verdict != VERDICT_ORDERED)
		return done(ctx, p, verdict);
	if (!(p->fragment & 2))
		forget_fragments(p, &b->sought);
	write_note(p, &b->sought);
	count_ordered(p);
	finish(ctx, p, verdict, out->interface);
	return bpf_redirect_map(&devices, out->device, 0);
}

/* A fragment that has been put in order: only a datagram of its own domain's services may come back. */
SEC("xdp.frags")
int gateway_arrive(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;
	struct balancing *b = balancing_in_hand();

	if (!b || !take_over(p, false))
		return XDP_DROP;
	struct directory *directory = line_of(&p->directory, 0);
	__u32 owner = p->domain;
	int verdict = DROP_FRAGMENT_UNMATCHED;

	p->end = bpf_xdp_get_buff_len(ctx);
	if ((p->type == bpf_htons(ETH_P_IP) || p->type == bpf_htons(ETH_P_IPV6)) && enter_domain(p, owner))
		verdict = parse_packet(ctx, p, p->network & 0xff);
	if (!verdict)
		verdict = arrive_again(ctx, p, &b->sought, directory->internet);
	if (verdict)
		return done(ctx, p, verdict);
	verdict = decide(ctx, p);
	if (needs_service(p, verdict) && (p->service != SERVICE_TO_FRONTEND || p->owner == owner)) {
		continue_in(ctx, p, STAGE_BALANCE, verdict);
		return done(ctx, p, DROP_INTERNAL);
	}
	return done(ctx, p, DROP_FRAGMENT_UNMATCHED);
}

/* An echo reply, or the ICMP error that a dropped packet deserves. */
SEC("xdp.frags")
int gateway_answer(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;
	__u32 egress = 0;

	if (turn_back(ctx) || !take_over(p, true))
		return XDP_DROP;
	int verdict = p->verdict;

	if (verdict == VERDICT_ANSWERED) {
		if (p->origin == FROM_REWRITE)
			verdict = DROP_LOCAL_NOT_SERVED;
		else if (!may_answer(p->domain))
			verdict = DROP_ANSWER_LIMITED;
		else
			verdict = echo_reply(ctx, p);
		if (!verdict) {
			verdict = VERDICT_ANSWERED;
			egress = ctx->ingress_ifindex;
		}
	} else if (deserves_error(p) && may_answer(p->domain) && !icmp_error(ctx, p)) {
		egress = ctx->ingress_ifindex;
	}
	finish(ctx, p, verdict, egress);
	return egress ? XDP_TX : XDP_DROP;
}

/* ARP and neighbour discovery. */
SEC("xdp.frags")
int gateway_neighbour(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;

	if (!take_over(p, false))
		return XDP_DROP;
	int verdict = p->type == bpf_htons(ETH_P_ARP) ? answer_arp(ctx, p) : answer_nd(ctx, p);

	finish(ctx, p, verdict, verdict == VERDICT_ANSWERED ? ctx->ingress_ifindex : 0);
	if (verdict == VERDICT_ANSWERED)
		return XDP_TX;
	return verdict == VERDICT_PASSED ? XDP_PASS : XDP_DROP;
}

/* A packet without a neighbour becomes the question for it. */
SEC("xdp.frags")
int gateway_resolve(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;

	if (!take_over(p, false))
		return XDP_DROP;
	struct port *out = port_of(p->target);
	bool asked = !ask_for_neighbour(ctx, p, out);

	finish(ctx, p, p->verdict, asked ? out->interface : 0);
	return asked ? bpf_redirect_map(&devices, out->device, 0) : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
