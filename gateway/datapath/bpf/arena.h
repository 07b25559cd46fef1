/* The one hash table and the one trie, as seen by a packet. gateway/programming/blocks.py builds them. */
#pragma once

#include "maps.h"

static __always_inline void *arena_line(__u32 number)
{
	return bpf_map_lookup_elem(&arena, &number);
}

static __always_inline __u32 rotate_left(__u32 value, __u32 by)
{
	return by ? value << by | value >> (32 - by) : value;
}

static __always_inline __u32 mix(__u32 h)
{
	h ^= h >> 16;
	h *= 0x7feb352d;
	h ^= h >> 15;
	h *= 0x846ca68b;
	h ^= h >> 16;
	return h;
}

static __always_inline __u32 fold(const __u32 *address6)
{
	return address6[0] ^ rotate_left(address6[1], 9) ^ rotate_left(address6[2], 18) ^ rotate_left(address6[3], 27);
}

/* Multiplicative hashing; the builder has tried the multiplier on these very keys. */
static __always_inline __u32 home(__u32 key, const struct region *region)
{
	return (__u64)(key * region->multiplier) * region->size >> 32;
}

static __always_inline struct cell *find_cell(__u32 block, const struct region *region, __u32 key)
{
	__u32 slot = home(key, region);

	if (!key) /* would be found in an empty cell */
		return NULL;
	for (int i = 0; i < PROBE_LIMIT; i++, slot++) {
		struct cell *cells = arena_line(block + region->first + slot / CELLS_PER_LINE);

		if (!cells)
			return NULL;
		struct cell *cell = &cells[slot % CELLS_PER_LINE];

		if (cell->key == key)
			return cell;
		if (!cell->key)
			return NULL;
	}
	return NULL;
}

static __always_inline bool same6(const __u32 *a, const __u32 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

static __always_inline bool zero6(const __u32 *a)
{
	return !(a[0] | a[1] | a[2] | a[3]);
}

static __always_inline struct cell6 *find_cell6(__u32 block, const struct region *region, const __u32 *key)
{
	__u32 slot = home(fold(key), region);

	if (zero6(key))
		return NULL;
	for (int i = 0; i < PROBE_LIMIT; i++, slot++) {
		struct cell6 *cells = arena_line(block + region->first + slot / CELLS6_PER_LINE);

		if (!cells)
			return NULL;
		struct cell6 *cell = &cells[slot % CELLS6_PER_LINE];

		if (same6(cell->key, key))
			return cell;
		if (zero6(cell->key))
			return NULL;
	}
	return NULL;
}

/* One step: the word for `byte` in the node at `node`. */
static __always_inline __u32 trie_step(__u32 block, __u32 node, __u32 byte)
{
	__u32 *words = arena_line(block + node + (byte >> 4));

	return words ? words[byte & 15] : 0;
}

/* The leaf for the longest prefix of the key's first `levels` bytes; the key in host order, its first byte on top. */
static __always_inline __u32 trie_find(__u32 block, __u32 node, __u32 key, int levels)
{
	for (int i = 0; i < levels; i++, key <<= 8) {
		__u32 word = trie_step(block, node, key >> 24);

		if (!(word & LEAF_CHILD))
			return word;
		node = word & LEAF_LINE_MASK;
	}
	return 0;
}

/* The same over an IPv6 address in network order. */
static __always_inline __u32 trie_find6(__u32 block, __u32 node, const __u32 *address)
{
	for (int i = 0; i < 4; i++) {
		__u32 key = __builtin_bswap32(address[i]);

		for (int j = 0; j < 4; j++, key <<= 8) {
			__u32 word = trie_step(block, node, key >> 24);

			if (!(word & LEAF_CHILD))
				return word;
			node = word & LEAF_LINE_MASK;
		}
	}
	return 0;
}
