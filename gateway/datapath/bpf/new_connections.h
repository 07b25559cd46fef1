/* A new flow gets a place, for which others may have to move, or the part of its domain's region that is in use has to grow. */
#pragma once

#include "moving_connections.h"

#define DOUBLINGS 11 /* from what is in use at first to all of a region */
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

/* Is this an entry's first set, and its second another one, where it would be found as well? */
static __always_inline bool can_go(__u32 hash, __u32 set, __u32 mask)
{
	return hash && (hash & mask) == set && (hash >> 16 & mask) != set;
}

/*
 * One of those in a flow's way goes from its first set to its second: who looks for it comes to the second later. Not where the region is
 * full and an unanswered one can be forgotten.
 */
__noinline int vacate_place(__u32 number, const struct flow *flow, struct place *place)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);

	if (!domain || !flow || !place || (place->rank && !may_grow(domain, flow->six)) || __sync_val_compare_and_swap(&domain->moving, 0, 1))
		return 0;
	int vacated = 0;

	for (__u32 way = 0; way < ways_of(flow->six) && !vacated; way++) {
		__u32 set = set_of_way(domain, flow, flow->six, way), from = place_in_set(first_line(domain, flow->six), set, way, flow->six);
		__u32 hash = hash_at(from, flow->six);

		if (!can_go(hash, set, sets_in_use(domain, flow->six) - 1))
			continue;
		set = hash >> 16 & (sets_in_use(domain, flow->six) - 1);
		__u32 to = free_place(place_in_set(first_line(domain, flow->six), set, 0, flow->six), flow->six);

		vacated = to && copy_entry(from, to, flow->six) && take_entry(from, to, true);
		if (vacated)
			*place = (struct place){PLACE_EMPTY, way, 0};
	}
	*(volatile __u32 *)&domain->moving = 0;
	return vacated;
}

/* The best of a flow's places, where others have moved and as much of the region is taken into use as it needs. */
__noinline int make_place(__u32 number, const struct flow *flow, struct place *place)
{
	if (!flow || !place)
		return 0;
	for (__u32 i = 0; i <= DOUBLINGS; i++) {
		choose_place(number, flow, place);
		if (place->rank >= PLACE_EXPIRED || vacate_place(number, flow, place) || !grow_connections(number, flow->six))
			break;
	}
	return 0;
}

static __always_inline void write_addresses(__u32 place, const struct flow *flow, __u32 six)
{
	if (six) {
		__u32 *addresses = (void *)addresses6_at(place);

		if (!addresses)
			return;
		copy6(addresses, flow->low);
		copy6(addresses + 4, flow->high);
	} else {
		__u64 *addresses = addresses_at(place);

		if (addresses)
			*(volatile __u64 *)addresses = (__u64)flow->high[V4] << 32 | flow->low[V4];
	}
}

/* Writes a flow to a place that was chosen for it. */
__noinline int take_place(__u32 number, const struct flow *flow, const struct place *place, __u32 generation)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	struct entry entry;

	if (!domain || !domain->connections4_used || !flow || !place)
		return 0;
	__u32 six = flow->six;

	if (!place->rank || !entry_at(&entry, domain, flow, six, place->way))
		return 0;
	__u32 state = flow->state | (flow->sender_high ? CONNECTION_INITIATOR_HIGH : 0);
	__u32 meta = flow->protocol | state << CONNECTION_STATE_SHIFT | now_tick() << CONNECTION_SEEN_SHIFT | generation << CONNECTION_GENERATION_SHIFT;

	if (__sync_val_compare_and_swap(entry.ports_and_meta, place->replaced, BEING_WRITTEN) != place->replaced)
		return 0;
	write_addresses(entry.place, flow, six);
	*(volatile __u64 *)entry.ports_and_meta = flow_word(flow, meta);
	return 1;
}

/* A flow that finds no place goes on without an entry: its packets are asked about one by one. */
static __always_inline int add_connection(__u32 number, const struct flow *flow, __u32 generation)
{
	struct place place = {};

	if (!flow)
		return 0;
	make_place(number, flow, &place);
	return take_place(number, flow, &place, generation);
}
