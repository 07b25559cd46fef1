/*
 * Fragments that overtake their first one, and so have no ports: Linux puts them in order in a compartment of the domain's, and they
 * come back. What they arrived by is noted under their addresses. While the note stands, all fragments between these go there.
 */
#pragma once

#include "budget.h"
#include "leave.h"
#include "translations.h"
#include "tunnel.h"

#define FRAGMENTS_PER_SECOND 4000
#define FRAGMENTS_AT_ONCE 1000

/* A note says: VSID 24 bits | origin 2 | whether from the Internet 1. */
#define NOTE_VSID_MASK 0xffffff
#define NOTE_ORIGIN_SHIFT 24
#define NOTE_ORIGIN_MASK 3
#define NOTE_INTERNET (1 << 26)

static __always_inline struct table_compartment *compartment_of(const struct packet *p)
{
	return line_of(&p->table, 3);
}

/* For as long as the packet's addresses are those that it came with. */
static __always_inline bool find_note(const struct packet *p, struct sought *sought)
{
	__u16 destination = mix(fold(p->destination));

	seek(sought, p, p->source, destination, RULE_OF_NOTES, BY_CLIENT_AND_RULE);
	sought->flow.state |= CONNECTION_FRAGMENT;
	sought->flow.protocol = IPPROTO_FRAGMENT; /* no fragment is one of this */
	sought->flow.hash = hash_of_client(fold(p->source), destination, IPPROTO_FRAGMENT);
	return find_translation(p->domain, sought);
}

static __always_inline void write_note(const struct packet *p, struct sought *sought)
{
	bool internet = p->turned || p->arrival_line != p->table_line;
	__u32 note = p->vsid | (__u32)p->origin << NOTE_ORIGIN_SHIFT | (internet ? NOTE_INTERNET : 0);
	bool found = find_note(p, sought);

	if (found && (__u32)sought->flow.word == note) {
		touch_translation(p->domain, sought, true, 0);
		return;
	}
	sought->flow.low_port = note;
	sought->flow.high_port = note >> 16;
	put_connection(p->domain, sought, found);
}

/* What became of an earlier packet with the id of this one is over. */
static __always_inline void forget_fragments(const struct packet *p, struct sought *sought)
{
	seek_fragment(sought, p, 0);
	if (find_translation(p->domain, sought))
		forget_translation(p->domain, sought);
}

static __always_inline bool may_be_put_in_order(const struct packet *p)
{
	__u32 number = p->domain;
	struct budget *budget = bpf_map_lookup_elem(&fragment_budgets, &number);

	return !p->ordered && compartment_of(p)->fragments && budget && spend(budget, FRAGMENTS_PER_SECOND, FRAGMENTS_AT_ONCE);
}

static __always_inline void count_ordered(const struct packet *p)
{
	__u32 number = p->domain;
	struct drop_counters *counters = bpf_map_lookup_elem(&drops, &number);

	if (counters)
		counters->ordered++;
}

/* What becomes of a later fragment whose first one was not seen. */
static __always_inline MUST_CHECK int overtook(const struct packet *p)
{
	return may_be_put_in_order(p) ? VERDICT_ORDERED : DROP_FRAGMENT_UNMATCHED;
}

/* A fragment after one, between the same ends, that had overtaken its first. The way of an earlier packet with its number is not its own. */
static __always_inline bool is_overtaken(const struct packet *p, struct sought *sought)
{
	return p->fragment && !p->ordered && compartment_of(p)->fragments && find_note(p, sought) && may_be_put_in_order(p);
}

/* The outer header's congestion mark, which stays behind. */
static __always_inline MUST_CHECK int keep_congestion(struct xdp_md *ctx, const struct packet *p)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *start = (void *)(long)ctx->data + (p->network & 0xff);
	struct iphdr *ip = start;

	if ((void *)(ip + 1) > data_end)
		return DROP_INTERNAL;
	if (is_six(p))
		write_traffic_class6(start, p->tos);
	else
		write_traffic_class4(ip, p->tos);
	return VERDICT_NONE;
}

/* Linux has counted a hop, which is not over yet. */
static __always_inline MUST_CHECK int take_back_hop(struct xdp_md *ctx, struct packet *p)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *start = (void *)(long)ctx->data + (p->network & 0xff);

	p->ttl++;
	if (is_six(p)) {
		struct ipv6hdr *ip = start;

		if ((void *)(ip + 1) > data_end)
			return DROP_INTERNAL;
		ip->hop_limit = p->ttl;
		return VERDICT_NONE;
	}
	struct iphdr *ip = start;

	if ((void *)(ip + 1) > data_end)
		return DROP_INTERNAL;
	ip->check = exchange_sum(ip->check, ip->ttl, p->ttl);
	ip->ttl = p->ttl;
	return VERDICT_NONE;
}

/* To the compartment; once it is there, the rest of its packet has to go there too. */
static __always_inline MUST_CHECK int hand_to_compartment(struct xdp_md *ctx, struct packet *p, const struct port *out)
{
	if (p->ttl <= 1)
		return DROP_TTL_EXCEEDED;
	if (p->length > out->mtu)
		return DROP_TOO_BIG;
	int verdict = keep_congestion(ctx, p);

	if (verdict)
		return verdict;
	verdict = leave_plain(ctx, p, out, mac_of(compartment_of(p)->fragments_mac));
	return verdict == VERDICT_FORWARDED ? VERDICT_ORDERED : verdict;
}

/* A fragment that was put in order is again what it was when it arrived. */
static __always_inline MUST_CHECK int arrive_again(struct xdp_md *ctx, struct packet *p, struct sought *sought, __u32 internet)
{
	if (!p->fragment || !find_note(p, sought))
		return DROP_FRAGMENT_UNMATCHED;
	__u32 note = sought->flow.word;

	p->ordered = true;
	p->vsid = note & NOTE_VSID_MASK;
	p->origin = note >> NOTE_ORIGIN_SHIFT & NOTE_ORIGIN_MASK;
	if (note & NOTE_INTERNET && !enter_domain(p, internet))
		return DROP_FRAGMENT_UNMATCHED;
	return take_back_hop(ctx, p);
}
