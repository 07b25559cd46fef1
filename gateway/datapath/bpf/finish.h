/* What is left of every packet: counters, captures, and the action that the driver is told. */
#pragma once

#include "packet.h"

/* The packet that this CPU is at; it outlives a tail call, and the stack is too small for it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct packet);
} in_hand SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct capture_record);
} before SEC(".maps");

static __always_inline bool is_drop(int verdict)
{
	return verdict > VERDICT_NONE && verdict < DROP_REASONS;
}

static __always_inline void load_frame(struct xdp_md *ctx, struct capture_record *record)
{
	__u32 length = bpf_xdp_get_buff_len(ctx);
	__u32 captured = length < CAPTURE_BYTES ? length : CAPTURE_BYTES;

	record->length = length;
	record->captured = captured;
	asm volatile("" : "+r"(captured)); /* only bounds that are computed from here on reach the verifier before Linux 6.3 */
	bpf_xdp_load_bytes(ctx, 0, record->frame, ((captured - 1) & (CAPTURE_BYTES - 1)) + 1);
}

/* The frame as it came; nothing decides yet whether anybody wants it. */
__noinline int keep_before(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct capture_record *record = bpf_map_lookup_elem(&before, &zero);

	if (!record)
		return 0;
	record->time = bpf_ktime_get_boot_ns();
	record->ingress = ctx->ingress_ifindex;
	load_frame(ctx, record);
	return 0;
}

/* By which the directory finds the port of a frame; `type` is behind the MACs. */
static __always_inline __u32 port_key(__u32 interface, const __u16 *type)
{
	return interface << 12 | (type[0] == bpf_htons(ETH_P_8021Q) ? bpf_ntohs(type[1]) & 0xfff : 0);
}

static __always_inline bool is_of_port(struct xdp_md *ctx, __u32 key, const struct capture_record *record)
{
	__u16 type[2];

	if (port_key(record->ingress, (const __u16 *)&record->frame[2 * ETH_ALEN]) == key)
		return true;
	return record->egress && !bpf_xdp_load_bytes(ctx, 2 * ETH_ALEN, type, sizeof(type)) && port_key(record->egress, type) == key;
}

static __always_inline bool is_wanted(struct xdp_md *ctx, const struct capture_record *record)
{
	__u32 what = root.capture;

	if (what & CAPTURE_PORT && !is_of_port(ctx, root.capture_port, record))
		return false;
	if (what & CAPTURE_DOMAIN && root.capture_domain != record->domain)
		return false;
	if (what & CAPTURE_DROPS && !is_drop(record->verdict))
		return false;
	if (what & CAPTURE_REASON && root.capture_reason != record->verdict)
		return false;
	return root.capture_sample <= 1 || bpf_get_prandom_u32() % root.capture_sample == 0;
}

static __always_inline void send_captured(const struct capture_record *record)
{
	if (bpf_ringbuf_output(&captured, (void *)record, sizeof(*record), 0))
		__sync_fetch_and_add(&root.capture_lost, 1);
}

__noinline int keep_both(struct xdp_md *ctx, __u32 domain, __u32 verdict, __u32 egress)
{
	__u32 zero = 0;
	struct capture_record *record = bpf_map_lookup_elem(&before, &zero);

	if (!record)
		return 0;
	record->domain = domain;
	record->verdict = verdict;
	record->egress = egress;
	record->after = 0;
	if (!is_wanted(ctx, record))
		return 0;
	send_captured(record);
	if (!egress)
		return 0;
	record->after = 1;
	load_frame(ctx, record);
	send_captured(record);
	return 0;
}

static __always_inline void count(const struct packet *p, int verdict)
{
	__u32 number = p->domain;

	if (is_drop(verdict)) {
		struct drop_counters *counters = bpf_map_lookup_elem(&drops, &number);
		__u32 reason = verdict;

		asm volatile("" : "+r"(reason)); /* the verifier must see the bound */
		if (counters)
			counters->packets[reason & (DROP_REASONS - 1)]++;
		return;
	}
	if (verdict != VERDICT_FORWARDED && verdict != VERDICT_ANSWERED)
		return;
	struct traffic *counters = bpf_map_lookup_elem(&traffic, &number);
	__u32 direction = verdict == VERDICT_ANSWERED	    ? ANSWERED_HERE :
			  p->origin == FROM_EXTERNAL	    ? EXTERNAL_TO_OVERLAY :
			  p->hop_kind == NEXT_HOP_EXTERNAL ? OVERLAY_TO_EXTERNAL :
							      OVERLAY_TO_OVERLAY;

	if (counters) {
		counters->packets[direction]++;
		counters->bytes[direction] += p->length;
	}
}

/* `egress`: interface index of the frame that leaves, 0: none does. */
static __always_inline void finish(struct xdp_md *ctx, const struct packet *p, int verdict, __u32 egress)
{
	count(p, verdict);
	if (p->captured)
		keep_both(ctx, p->domain, verdict, egress);
}

static __always_inline struct packet *packet_in_hand(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&in_hand, &zero);
}

/* For a tail call. A packet that is in hand already stays where it is. */
static __always_inline bool hand_over(const struct packet *p, int verdict)
{
	struct packet *to = packet_in_hand();

	if (!to)
		return false;
	if (to != p)
		*to = *p;
	to->verdict = verdict;
	return true;
}
