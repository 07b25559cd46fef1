/*
 * Flows that access lists have allowed. Each routing domain has a region of its own, so that no tenant's flood reaches another's
 * entries; in it a new flow takes an empty or expired place, else that of the oldest unanswered flow, never an answered one's.
 */
#pragma once

#include "packet.h"

#define WAYS 4
#define BEING_WRITTEN (1ull << 32) /* no generation */
#define SECONDS_TO_TICKS(s) (((__u64)(s) * 1000000000 >> CONNECTION_TICK_SHIFT) + 1)

struct flow {
	__u32 low[4], high[4];
	__u16 low_port, high_port;
	__u8 protocol, state; /* state: CONNECTION_FRAGMENT or nothing */
	__u8 sender_high, six;
	__u32 hash;
	__u64 word; /* of the entry found */
};

struct entry {
	__u64 *addresses4, *addresses6; /* one word, four words */
	__u64 *ports_and_meta; /* 0: empty. Written last, read first and again */
};

static __always_inline __u32 meta_of(__u64 word)
{
	return word >> 32;
}

static __always_inline void flow_of(struct flow *flow, const __u32 *source, const __u32 *destination, __u16 source_port,
				    __u16 destination_port, __u8 protocol, bool six)
{
	bool high = false, decided = false;

	for (int i = 0; i < 4; i++) {
		if (!decided && source[i] != destination[i]) {
			decided = true;
			high = source[i] > destination[i];
		}
	}
	if (!decided)
		high = source_port > destination_port;
	copy6(flow->low, high ? destination : source);
	copy6(flow->high, high ? source : destination);
	flow->low_port = high ? destination_port : source_port;
	flow->high_port = high ? source_port : destination_port;
	flow->protocol = protocol;
	flow->state = 0;
	flow->sender_high = high;
	flow->six = six;
	__u32 h = fold(flow->low) ^ mix(fold(flow->high) + 0x9E3779B1);

	flow->hash = mix(h ^ ((__u32)flow->low_port << 16 | flow->high_port) * 0x85EBCA6B ^ protocol);
}


static __always_inline __u64 flow_word(const struct flow *flow, __u32 meta)
{
	return (__u64)meta << 32 | (__u32)flow->high_port << 16 | flow->low_port;
}

static __always_inline __u32 now_tick(void)
{
	return bpf_ktime_get_coarse_ns() >> CONNECTION_TICK_SHIFT & CONNECTION_SEEN_MASK;
}

static __always_inline __u32 lifetime(__u32 meta)
{
	__u8 protocol = meta, state = meta >> CONNECTION_STATE_SHIFT & 0x1f;

	if (state & CONNECTION_FRAGMENT)
		return SECONDS_TO_TICKS(30);
	if (protocol == IPPROTO_UDP)
		return SECONDS_TO_TICKS(180);
	if (protocol == IPPROTO_TCP && (state & (CONNECTION_ANSWERED | CONNECTION_CLOSING)) == CONNECTION_ANSWERED)
		return SECONDS_TO_TICKS(7200);
	return SECONDS_TO_TICKS(60);
}

static __always_inline __u32 age(__u32 meta, __u32 now)
{
	return (now - (meta >> CONNECTION_SEEN_SHIFT)) & CONNECTION_SEEN_MASK;
}

static __always_inline bool entry_at(struct entry *entry, const struct domain *domain, const struct flow *flow, __u32 six, __u32 way)
{
	__u32 line;

	if (six)
		line = domain->connections6 + ((__u64)flow->hash * (domain->connections6_lines / WAYS) >> 32) * WAYS + way;
	else
		line = domain->connections4 + ((__u64)flow->hash * domain->connections4_lines >> 32);
	struct line *at = bpf_map_lookup_elem(&connections, &line);

	if (!at)
		return false;
	entry->addresses4 = &at->words[way * 2];
	entry->addresses6 = at->words;
	entry->ports_and_meta = six ? &at->words[4] : &at->words[way * 2 + 1];
	return true;
}

static __always_inline bool same_addresses(const struct entry *entry, const struct flow *flow, __u32 six)
{
	if (!six)
		return *(volatile __u64 *)entry->addresses4 == ((__u64)flow->high[V4] << 32 | flow->low[V4]);
	return same6((__u32 *)entry->addresses6, flow->low) && same6((__u32 *)entry->addresses6 + 4, flow->high);
}

static __always_inline bool is_entry_of(const struct entry *entry, const struct flow *flow, __u32 six, __u64 word)
{
	__u32 mask = 0xff | CONNECTION_FRAGMENT << CONNECTION_STATE_SHIFT;
	__u32 kind = flow->protocol | (__u32)flow->state << CONNECTION_STATE_SHIFT;

	return (__u32)word == (__u32)flow_word(flow, 0) && (meta_of(word) & mask) == kind && same_addresses(entry, flow, six) &&
	       *(volatile __u64 *)entry->ports_and_meta == word;
}

/* The way in its set where a flow's live entry is, -1: there is none. */
__noinline int find_connection(__u32 number, struct flow *flow)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	struct entry entry;

	if (!domain || !flow)
		return -1;
	__u32 six = flow->six;

	for (__u32 way = 0; way < WAYS; way++) {
		if (!entry_at(&entry, domain, flow, six, way))
			return -1;
		__u64 word = *(volatile __u64 *)entry.ports_and_meta;

		if (meta_of(word) >> CONNECTION_GENERATION_SHIFT && is_entry_of(&entry, flow, six, word)) {
			flow->word = word;
			return age(meta_of(word), now_tick()) <= lifetime(meta_of(word)) ? (int)way : -1;
		}
	}
	return -1;
}

/* How willingly a place is given up; 0: not at all. */
static __always_inline __u32 dispensable(__u64 word, __u32 now)
{
	__u32 meta = meta_of(word);

	if (!word)
		return 1 << 14;
	if (word == BEING_WRITTEN)
		return 0;
	if (age(meta, now) > lifetime(meta))
		return 1 << 13;
	if (meta >> CONNECTION_STATE_SHIFT & CONNECTION_ANSWERED)
		return 0;
	return 1 + age(meta, now);
}

/* A flow that finds no place goes on without an entry: its packets are asked about one by one. */
__noinline int add_connection(__u32 number, struct flow *flow, __u32 generation)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	__u32 most = 0, best = 0, now = now_tick();
	__u64 replaced = 0;
	struct entry entry;

	if (!domain || !flow)
		return 0;
	__u32 six = flow->six;

	for (__u32 way = 0; way < WAYS; way++) {
		if (!entry_at(&entry, domain, flow, six, way))
			return 0;
		__u64 word = *(volatile __u64 *)entry.ports_and_meta;
		__u32 rank = dispensable(word, now);

		if (rank > most) {
			most = rank;
			best = way;
			replaced = word;
		}
	}
	if (!most || !entry_at(&entry, domain, flow, six, best & (WAYS - 1)))
		return 0;
	__u32 state = flow->state | (flow->sender_high ? CONNECTION_INITIATOR_HIGH : 0);
	__u32 meta = flow->protocol | state << CONNECTION_STATE_SHIFT | now << CONNECTION_SEEN_SHIFT | generation << CONNECTION_GENERATION_SHIFT;

	if (__sync_val_compare_and_swap(entry.ports_and_meta, replaced, BEING_WRITTEN) != replaced)
		return 0;
	if (six) {
		copy6((__u32 *)entry.addresses6, flow->low);
		copy6((__u32 *)entry.addresses6 + 4, flow->high);
	} else {
		*(volatile __u64 *)entry.addresses4 = (__u64)flow->high[V4] << 32 | flow->low[V4];
	}
	*(volatile __u64 *)entry.ports_and_meta = flow_word(flow, meta);
	return 1;
}

static __always_inline void touch_connection(const struct entry *entry, __u64 word, bool from_initiator, __u8 tcp_flags, __u8 generation)
{
	__u32 meta = meta_of(word), state = meta >> CONNECTION_STATE_SHIFT & 0x1f;

	if (!from_initiator)
		state |= CONNECTION_ANSWERED;
	if (tcp_flags & 5) /* FIN or RST */
		state |= CONNECTION_CLOSING;
	__u32 newer = (meta & 0xff) | state << CONNECTION_STATE_SHIFT | now_tick() << CONNECTION_SEEN_SHIFT |
		      (__u32)generation << CONNECTION_GENERATION_SHIFT;

	if (newer != meta)
		*((volatile __u32 *)entry->ports_and_meta + 1) = newer;
}
