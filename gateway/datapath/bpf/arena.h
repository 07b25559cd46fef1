/* The one hash table and the one search tree, as seen by a packet. gateway/programming/{hash_table,search_tree}.py build them. */
#pragma once

#include <bpf/bpf_endian.h>

#include "maps.h"

struct block {
	struct chunk *chunk;
	__u32 first; /* line in it */
	__u32 line;  /* the same, over all chunks */
};

/* `line` counts over all chunks. */
static __always_inline bool open_block(struct block *block, __u32 line)
{
	__u32 number = line / CHUNK_LINES;

	block->chunk = bpf_map_lookup_elem(&arena, &number);
	block->first = line % CHUNK_LINES;
	block->line = line;
	return block->chunk;
}

/* The address `bytes` behind a line of the block. The mask keeps it in the chunk whatever the table says. */
static __always_inline void *address_in(const struct block *block, __u32 line, __u32 bytes)
{
	__u32 offset = (block->first + line) * LINE_BYTES + bytes;

	return (void *)block->chunk + (offset & (sizeof(struct chunk) - 1));
}

static __always_inline void *line_of(const struct block *block, __u32 line)
{
	return address_in(block, line & (CHUNK_LINES - 1), 0);
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

/* The same for an IPv4 address, which is the last of four words. */
static __always_inline __u32 fold4(__u32 address)
{
	return rotate_left(address, 27);
}

/* Multiplicative hashing; the builder has tried the multiplier on these very keys. */
static __always_inline __u32 home(__u32 key, const struct region *region)
{
	return (__u64)(key * region->multiplier) * region->size >> 32;
}

static __always_inline struct cell *find_cell(const struct block *block, const struct region *region, __u32 key)
{
	__u32 slot = home(key, region);

	if (!key) /* would be found in an empty cell */
		return NULL;
	for (int i = 0; i < PROBE_LIMIT; i++, slot++) {
		struct cell *cell = address_in(block, region->first, slot * sizeof(*cell));

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

struct address6 {
	__u32 words[4];
};

/* The slot after that of a key, 0: there is none. A function of its own: the verifier follows it once. */
__noinline __u32 seek6(struct chunk *chunk, __u32 first, __u32 slot, const struct address6 *key)
{
	if (!chunk || !key)
		return 0;
	struct block block = {.chunk = chunk, .first = first};

	for (int i = 0; i < PROBE_LIMIT; i++, slot++) {
		struct cell6 *cell = address_in(&block, 0, slot * sizeof(*cell));

		if (same6(cell->key, key->words))
			return slot + 1;
		if (zero6(cell->key))
			return 0;
	}
	return 0;
}

static __always_inline struct cell6 *find_cell6(const struct block *block, const struct region *region, const __u32 *key)
{
	struct address6 address = {{key[0], key[1], key[2], key[3]}};
	__u32 slot = zero6(key) ? 0 : seek6(block->chunk, block->first + region->first, home(fold(key), region), &address);

	return slot ? address_in(block, region->first, (slot - 1) * sizeof(struct cell6)) : NULL;
}

#define STEPS_OF_NUMBER 7 /* a tree with more would not fit into a chunk */

/* Count the bounds that are not above the key: each is less than `above`, so their difference borrows. No branch waits for memory. */
static __always_inline __u32 search_step(const struct block *block, __u32 word, __u32 key)
{
	struct search_node *node = address_in(block, word & SEARCH_PLACE_MASK, 0);
	__u64 above = (__u64)key + 1, position = 0;

	barrier_var(above); /* clang would make branches of it */
	for (int i = 0; i < NODE_WORDS - 1; i++)
		position += (node->bounds[i] - above) >> 63;
	return node->words[position];
}

/* What a tree leads to from an IPv4 address. */
static __always_inline __u32 search4(const struct block *block, __u32 word, __u32 address)
{
	__u32 key = bpf_ntohl(address);

	for (int i = 0; i < STEPS_OF_NUMBER && word & SEARCH_NODE; i++)
		word = search_step(block, word, key);
	return word;
}

__noinline __u32 descend6(struct chunk *chunk, __u32 first, __u32 word, const struct address6 *address)
{
	if (!chunk || !address)
		return 0;
	struct block block = {.chunk = chunk, .first = first};

	for (int i = 0; i < 4 * STEPS_OF_NUMBER && word & SEARCH_NODE; i++)
		word = search_step(&block, word, bpf_ntohl(address->words[word >> SEARCH_KEY_SHIFT & 3]));
	return word;
}

/* From an IPv6 address. */
static __always_inline __u32 search6(const struct block *block, __u32 word, const __u32 *address)
{
	struct address6 key = {{address[0], address[1], address[2], address[3]}};

	return descend6(block->chunk, block->first, word, &key);
}
