/* Flows move within their region: to their other set, or to the part that is taken into use. */
#pragma once

#include "connections.h"

/* The hash of the entry at a place, as far as it decides about sets; 0: there is none. */
__noinline __u32 hash_at(__u32 place, __u32 six)
{
	struct entry entry;

	if (!entry_at_place(&entry, place))
		return 0;
	__u64 word = *(volatile __u64 *)entry.ports_and_meta;
	__u32 low, high, last;

	if (six) {
		__u32 *addresses = (void *)addresses6_at(place);

		if (!addresses)
			return 0;
		low = fold(addresses);
		high = fold(addresses + 4);
		last = addresses[4 + V4];
	} else {
		__u64 *addresses = addresses_at(place);

		if (!addresses)
			return 0;
		low = fold4(*addresses);
		last = *addresses >> 32;
		high = fold4(last);
	}
	if (!is_entry(word))
		return 0;
	__u32 state = meta_of(word) >> CONNECTION_STATE_SHIFT;
	__u16 lent = word >> 16;

	if (!(state & CONNECTION_TRANSLATED))
		return hash_of_flow(low, high, word, lent, meta_of(word));
	if (!lent || state & CONNECTION_FRAGMENT)
		return hash_of_client(low, last, meta_of(word));
	return hash_of_lent_port(lent, state & CONNECTION_OUTBOUND ? part_of_remote(word) : 0);
}

/* Of two entries: have they the same addresses? `copies`: they have then. */
static __always_inline bool same_or_copied(__u32 from, __u32 to, __u32 six, bool copies)
{
	__u64 difference = 0;

	if (!six) {
		__u64 *source = addresses_at(from), *target = addresses_at(to);

		if (!source || !target)
			return false;
		if (copies)
			*(volatile __u64 *)target = *source;
		return *source == *target;
	}
	__u64 *source = addresses6_at(from), *target = addresses6_at(to);

	if (!source || !target)
		return false;
	for (int i = 0; i < 4; i++) {
		if (copies)
			*(volatile __u64 *)&target[i] = source[i];
		difference |= source[i] ^ target[i];
	}
	return !difference;
}

static __always_inline __u64 *end_at(__u32 place)
{
	struct line *line = connection_line(place / WORDS_PER_LINE);

	return line ? &line->words[place % WORDS_PER_LINE] : NULL;
}

/* Copies an entry to an empty place. Returns whether it is there then, or was. */
__noinline int copy_entry(__u32 from, __u32 to, __u32 six)
{
	__u64 *end = end_at(from), word = end ? *(volatile __u64 *)end : 0;

	end = end_at(to);
	if (!end)
		return 0;
	__u64 there = __sync_val_compare_and_swap(end, 0, BEING_WRITTEN);

	asm volatile("" : "+r"(from), "+r"(to)); /* what clang would keep of them does not fit on the stack: 32 bytes are left */
	if (there)
		return (__u32)there == (__u32)word && same_or_copied(from, to, six, false);
	same_or_copied(from, to, six, true);
	end = end_at(from);
	bool stayed = end && is_entry(word) && *(volatile __u64 *)end == word;

	end = end_at(to);
	if (!end)
		return 0;
	*(volatile __u64 *)end = stayed ? word : 0;
	return stayed;
}

/*
 * Takes away an entry after it was copied: in this order, whoever looks for it meanwhile meets it at the one place or the other.
 * Returns whether it has moved: one that is touched or goes at this moment has not, and `undoes` forgets the copy then.
 */
__noinline int take_entry(__u32 from, __u32 to, __u32 undoes)
{
	__u64 *old = end_at(from), *new = end_at(to);

	if (!old || !new)
		return 0;
	__u64 word = *(volatile __u64 *)old, copy = *(volatile __u64 *)new;

	if (is_entry(word) && (__u32)word == (__u32)copy && __sync_val_compare_and_swap(old, word, 0) == word) {
		__sync_val_compare_and_swap(new, copy, word); /* as it was touched since it was copied */
		return 1;
	}
	if (undoes)
		__sync_val_compare_and_swap(new, copy, 0);
	return 0;
}

/* The part of a region in use doubles: what was in set i is in set i or i + sets then, as one more bit of its hash says. */
struct growth {
	__u32 first, six; /* line, IP family */
	__u32 sets; /* in use before */
	__u32 takes; /* the first pass copies, the second takes away what is elsewhere then */
};

static long move_up(__u32 number, struct growth *growth)
{
	__u32 six = growth->six, set = number / (ways_of(six) / 2), way = number % (ways_of(six) / 2);
	__u32 from = place_in_set(growth->first, set, way, six), to = place_in_set(growth->first, set + growth->sets, way, six);
	__u32 hash = hash_at(from, six);

	if (((hash & (growth->sets - 1)) == set ? hash : hash >> 16) & growth->sets && copy_entry(from, to, six) && growth->takes)
		take_entry(from, to, false);
	return 0;
}

static __always_inline bool may_grow(const struct domain *domain, __u32 six)
{
	__u32 lines = sets_in_use(domain, six) * 2 * (six ? LINES_OF_SET6 : 1);

	return lines <= (six ? domain->connections6_lines : domain->connections4_lines);
}

/* Done at once, by whoever found no place: some 0.1 ms for 10,000 flows. */
__noinline int grow_connections(__u32 number, __u32 six)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);

	if (!domain || !may_grow(domain, six) || __sync_val_compare_and_swap(&domain->moving, 0, 1))
		return 0;
	struct growth growth = {.first = first_line(domain, six), .six = six, .sets = sets_in_use(domain, six)};
	__u32 places = growth.sets * ways_of(six) / 2;

	bpf_loop(places, move_up, &growth, 0);
	*(volatile __u32 *)(six ? &domain->connections6_used : &domain->connections4_used) = growth.sets * 2;
	growth.takes = 1;
	bpf_loop(places, move_up, &growth, 0);
	*(volatile __u32 *)&domain->moving = 0;
	return 1;
}

/* A place of a set, given by its first, that nobody has after what has expired went; 0: all are taken. */
__noinline __u32 free_place(__u32 place, __u32 six)
{
	__u32 now = now_tick();

	for (__u32 way = 0; way < ways_of(six) / 2; way++) {
		__u64 *end = end_at(place), word = end ? *(volatile __u64 *)end : BEING_WRITTEN;

		if (!word || (end && is_entry(word) && is_expired(meta_of(word), now) && __sync_val_compare_and_swap(end, word, 0) == word))
			return place;
		place += six ? 1 : 2;
	}
	return 0;
}
