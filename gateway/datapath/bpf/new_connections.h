/* A new flow gets a place, for which the part of its domain's region that is in use may have to grow. */
#pragma once

#include "connections.h"

/* The part of a region in use doubles: what was in set i is in set i or i + sets then, as one more bit of its hash says. */
struct growth {
	__u32 first, used; /* lines */
	__u32 six;
	__u32 copied; /* 0: the first pass, which copies; 1: the second, which takes away what is elsewhere now */
};

static __always_inline bool moves(const struct growth *growth, __u32 hash, __u32 line)
{
	__u32 lines = growth->six ? LINES_OF_SET6 : 1;
	__u32 sets = growth->used / lines, set = line / lines;

	return ((hash & (sets - 1)) == set ? hash : hash >> 16) & sets;
}

static __always_inline __u32 hash_of_entry(__u32 low, __u32 high, __u32 client_port, __u64 word)
{
	__u32 meta = meta_of(word);

	if (meta >> CONNECTION_STATE_SHIFT & CONNECTION_TRANSLATED)
		return hash_of_client(low, client_port, meta);
	return hash_of_flow(low, high, word, word >> 16, meta);
}

static __always_inline void move_entry(const struct growth *growth, __u64 *from, __u64 *to, __u64 *from_word, __u64 *to_word, int addresses)
{
	__u64 word = *(volatile __u64 *)from_word;

	if (!growth->copied) {
		for (int i = 0; i < addresses; i++)
			to[i] = from[i];
		*(volatile __u64 *)to_word = word;
	} else if (__sync_val_compare_and_swap(from_word, word, 0) == word && from[0] == to[0]) {
		*(volatile __u64 *)to_word = word; /* touched since it was copied */
	}
}

static long move_line(__u32 line, struct growth *growth)
{
	struct line *from = connection_line(growth->first + line);
	struct line *to = connection_line(growth->first + growth->used + line);

	if (!from || !to)
		return 1;
	if (growth->six) {
		__u32 *addresses = (void *)from->words;
		__u64 word = from->words[4];

		if (is_entry(word) && moves(growth, hash_of_entry(fold(addresses), fold(addresses + 4), addresses[4 + V4], word), line))
			move_entry(growth, from->words, to->words, &from->words[4], &to->words[4], 4);
		return 0;
	}
	for (int i = 0; i < CELLS_PER_LINE; i++) {
		__u64 addresses = from->words[2 * i], word = from->words[2 * i + 1];

		if (is_entry(word) && moves(growth, hash_of_entry(fold4(addresses), fold4(addresses >> 32), addresses >> 32, word), line))
			move_entry(growth, &from->words[2 * i], &to->words[2 * i], &from->words[2 * i + 1], &to->words[2 * i + 1], 1);
	}
	return 0;
}

/* Done at once, by whoever found no place: some 0.1 ms for 10,000 flows. */
__noinline int grow_connections(__u32 number, __u32 six)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);

	if (!domain)
		return 0;
	__u32 *used = six ? &domain->connections6_used : &domain->connections4_used;
	struct growth growth = {
		.first = six ? domain->connections6 : domain->connections4,
		.used = *used,
		.six = six,
	};

	if (growth.used * 2 > (six ? domain->connections6_lines : domain->connections4_lines))
		return 0;
	if (__sync_val_compare_and_swap(&domain->growing, 0, 1))
		return 0;
	bpf_loop(growth.used, move_line, &growth, 0);
	*(volatile __u32 *)used = growth.used * 2;
	growth.copied = 1;
	bpf_loop(growth.used, move_line, &growth, 0);
	*(volatile __u32 *)&domain->growing = 0;
	return 1;
}

#define DOUBLINGS 6 /* from what is in use at first to all of a region */
#define PLACE_EMPTY (1 << 14)
#define PLACE_EXPIRED (1 << 13)

/* How willingly a place is given up; 0: not at all. */
static __always_inline __u32 dispensable(__u64 word, __u32 now)
{
	__u32 meta = meta_of(word);

	if (!word)
		return PLACE_EMPTY;
	if (word == BEING_WRITTEN)
		return 0;
	if (is_expired(meta, now))
		return PLACE_EXPIRED;
	if (meta >> CONNECTION_STATE_SHIFT & CONNECTION_ANSWERED)
		return 0;
	return 1 + age(meta, now);
}

struct place {
	__u32 rank; /* 0: no place can be had */
	__u32 way;
	__u64 replaced;
};

/* The best of a flow's places. */
__noinline int choose_place(__u32 number, const struct flow *flow, struct place *place)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	__u32 now = now_tick();
	struct entry entry;

	if (!domain || !domain->connections4_used || !flow || !place)
		return 0;
	__u32 six = flow->six;

	place->rank = 0;
	for (__u32 way = 0; way < ways_of(six); way++) {
		if (!entry_at(&entry, domain, flow, six, way))
			return 0;
		__u64 word = *(volatile __u64 *)entry.ports_and_meta;
		__u32 rank = dispensable(word, now);

		if (rank > place->rank)
			*place = (struct place){rank, way, word};
	}
	return 0;
}

/* The same, where as much of the region is taken into use as it needs: doubled once, four flows may be in the way still. */
__noinline int make_place(__u32 number, const struct flow *flow, struct place *place)
{
	if (!flow || !place)
		return 0;
	choose_place(number, flow, place);
	for (__u32 i = 0; i < DOUBLINGS; i++) {
		if (place->rank >= PLACE_EXPIRED || !grow_connections(number, flow->six))
			break;
		choose_place(number, flow, place);
	}
	return 0;
}

/* Writes a flow to a place that was chosen for it. */
__noinline int take_place(__u32 number, const struct flow *flow, const struct place *place, __u32 generation)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	struct entry entry;

	if (!domain || !domain->connections4_used || !flow || !place)
		return 0;
	__u32 six = flow->six;

	if (!place->rank || !entry_at(&entry, domain, flow, six, place->way & (WAYS4 - 1)))
		return 0;
	__u32 state = flow->state | (flow->sender_high ? CONNECTION_INITIATOR_HIGH : 0);
	__u32 meta = flow->protocol | state << CONNECTION_STATE_SHIFT | now_tick() << CONNECTION_SEEN_SHIFT | generation << CONNECTION_GENERATION_SHIFT;

	if (__sync_val_compare_and_swap(entry.ports_and_meta, place->replaced, BEING_WRITTEN) != place->replaced)
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

/* A flow that finds no place goes on without an entry: its packets are asked about one by one. */
__noinline int add_connection(__u32 number, const struct flow *flow, __u32 generation)
{
	struct place place = {};

	if (!flow)
		return 0;
	make_place(number, flow, &place);
	return take_place(number, flow, &place, generation);
}
