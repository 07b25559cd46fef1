/* The programs, how one hands a packet over to the next, and how it ends. */
#pragma once

#include "finish.h"

enum stage {
	STAGE_ANSWER = 0,
	STAGE_NEIGHBOUR = 1,
	STAGE_RESOLVE = 2,
	STAGE_ADMIT = 3,
	STAGE_LEAVE = 4,
	STAGE_BALANCE = 5,
	STAGE_SETTLE = 6,
	STAGE_ORDER = 7,
	STAGE_ARRIVE = 8,
	STAGE_TURN = 9,
	STAGES = 10,
};

int gateway_answer(struct xdp_md *ctx);
int gateway_neighbour(struct xdp_md *ctx);
int gateway_resolve(struct xdp_md *ctx);
int gateway_admit(struct xdp_md *ctx);
int gateway_leave(struct xdp_md *ctx);
int gateway_balance(struct xdp_md *ctx);
int gateway_settle(struct xdp_md *ctx);
int gateway_order(struct xdp_md *ctx);
int gateway_arrive(struct xdp_md *ctx);
int gateway_turn(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STAGES);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} stages SEC(".maps") = {
	.values = {
		[STAGE_ANSWER] = (void *)&gateway_answer,
		[STAGE_NEIGHBOUR] = (void *)&gateway_neighbour,
		[STAGE_RESOLVE] = (void *)&gateway_resolve,
		[STAGE_ADMIT] = (void *)&gateway_admit,
		[STAGE_LEAVE] = (void *)&gateway_leave,
		[STAGE_BALANCE] = (void *)&gateway_balance,
		[STAGE_SETTLE] = (void *)&gateway_settle,
		[STAGE_ORDER] = (void *)&gateway_order,
		[STAGE_ARRIVE] = (void *)&gateway_arrive,
		[STAGE_TURN] = (void *)&gateway_turn,
	},
};

static __always_inline void continue_in(struct xdp_md *ctx, const struct packet *p, __u32 stage, int verdict)
{
	if (hand_over(p, verdict))
		bpf_tail_call(ctx, &stages, stage);
}

static __always_inline int done(struct xdp_md *ctx, const struct packet *p, int verdict)
{
	finish(ctx, p, verdict, 0);
	return verdict == VERDICT_PASSED ? XDP_PASS : XDP_DROP;
}

/* A packet that another program of these has begun with: the rest of what was known is in map memory, pointers are not. */
static __always_inline bool take_over(struct packet *p, bool where_it_arrived)
{
	struct packet *handed = packet_in_hand();

	if (!handed)
		return false;
	*p = *handed;
	return open_block(&p->directory, p->directory_line) && open_block(&p->table, where_it_arrived ? p->arrival_line : p->table_line);
}
