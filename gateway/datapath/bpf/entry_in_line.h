/* Which of a line's four IPv4 entries is meant, found by comparing all of them at once. */
#pragma once

#include "connections.h"

enum half { /* of a line's IPv4 entries, as 32-bit words */
	HALF_LOW = 0, /* address */
	HALF_PORTS = 2,
};

/* What is looked for among a line's IPv4 entries: the one with these words, as far as the masks go. One half of them tells most apart. */
struct wanted {
	__u64 addresses, addresses_mask;
	__u64 word, word_mask;
	enum half half;
};

static __always_inline __u64 difference_at(const struct line *line, __u32 way, const struct wanted *wanted)
{
	return ((*(volatile __u64 *)&line->words[way * 2] ^ wanted->addresses) & wanted->addresses_mask) |
	       ((*(volatile __u64 *)&line->words[way * 2 + 1] ^ wanted->word) & wanted->word_mask);
}

static __always_inline __u64 half_difference_at(const struct line *line, __u32 way, const struct wanted *wanted)
{
	return ((volatile __u32 *)line->words)[way * 4 + wanted->half] ^ (__u32)(wanted->half == HALF_PORTS ? wanted->word : wanted->addresses);
}

/* CELLS_PER_LINE: none is negative; above it: several are. */
static __always_inline __u32 only_negative(__u64 *numbers)
{
	__u32 way = 0, matches = 0;

	for (__u32 i = 0; i < CELLS_PER_LINE; i++) {
		barrier_var(numbers[i]); /* else the compiler makes branches of it */
		__u32 same = numbers[i] >> 63;

		matches += same;
		way += same * i;
	}
	way &= CELLS_PER_LINE - 1;
	barrier_var(way); /* the verifier must see the bound */
	return matches == 1 ? way : CELLS_PER_LINE + matches;
}

/*
 * Nothing can tell beforehand which one it is: all four are compared, and no branch has to be guessed. While they are on their way from
 * memory the processor goes on with what comes behind, as far as it has room for those that wait for them: so first it is one half.
 */
static __always_inline __u32 way_of(const struct line *line, const struct wanted *wanted)
{
	__u64 zero_is_negative[CELLS_PER_LINE];

	for (int i = 0; i < CELLS_PER_LINE; i++)
		zero_is_negative[i] = half_difference_at(line, i, wanted) - 1;
	__u32 way = only_negative(zero_is_negative);

	if (way == CELLS_PER_LINE || (way < CELLS_PER_LINE && !difference_at(line, way, wanted)))
		return way;
	for (int i = 0; i < CELLS_PER_LINE; i++) {
		__u64 difference = difference_at(line, i, wanted);

		zero_is_negative[i] = ~difference & (difference - 1);
	}
	return only_negative(zero_is_negative);
}
