/*
 * Places for new IPv4 entries, the short way: functions of the first program have no room for a struct flow. Where others would have to
 * make room, another program sees to it.
 */
#pragma once

#include "new_connections.h"

/* The best of an entry's places, and what is there; 0: room has to be made first. */
static __always_inline __u32 choose_plain_place(const struct domain *domain, __u32 hash, __u64 *replaced)
{
	__u32 now = now_tick(), best = 0, place = 0;

	for (int set = 0; set < 2 && best < PLACE_EMPTY; set++, hash >>= 16) {
		__u32 number = line_of_set(domain, hash);
		struct line *line = connection_line(number);

		if (!line)
			return 0;
		for (int way = 0; way < CELLS_PER_LINE && best < PLACE_EMPTY; way++) {
			__u64 word = *(volatile __u64 *)&line->words[way * 2 + 1];
			__u32 rank = dispensable(word, now);

			forget(rank);
			if (rank > best) {
				best = rank;
				*replaced = word;
				place = number * WORDS_PER_LINE + way * 2 + 1;
			}
		}
	}
	return best >= PLACE_EXPIRED || !may_grow(domain, false) ? place : 0;
}

/* `word`: without the time. Another flow may have been quicker: then this one has no entry yet. */
static __always_inline void take_plain_place(__u32 place, __u64 replaced, __u64 addresses, __u64 word)
{
	struct line *line = connection_line(place / WORDS_PER_LINE);

	if (!line)
		return;
	__u64 *words = &line->words[place / 2 % CELLS_PER_LINE * 2];

	if (__sync_val_compare_and_swap(&words[1], replaced, BEING_WRITTEN) != replaced)
		return;
	*(volatile __u64 *)words = addresses;
	*(volatile __u64 *)&words[1] = word | (__u64)now_tick() << (32 + CONNECTION_SEEN_SHIFT);
}
