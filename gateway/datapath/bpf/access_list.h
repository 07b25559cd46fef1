/*
 * One direction of an access list, asked about one packet. Lists are many and seldom in a cache: what counts is how few lines one
 * packet reads. So a tree cuts a list, by whichever parts of the packet cut it best, until few rules are left to be compared.
 *
 * Where rules overlap too much for that, each part of the packet selects a bit vector of the rules that it satisfies; the lowest
 * bit set in all of them is the rule. (T. V. Lakshman and D. Stiliadis, 1998; with summaries, 2001.)
 */
#pragma once

#include "packet.h"

struct tuple {
	__u32 source[4], destination[4];
	__u16 source_port, destination_port;
	__u8 protocol, six;
	__u16 reserved;
};

#define PARTS 5
#define SEARCH_STEPS 23 /* at most 5 for each of four parts or numbers of a packet, 3 for its protocol */

struct search_keys {
	__u32 numbers[SEARCH_KEYS];
};

#define KEYS4 8 /* of an IPv4 packet: the low bits of their numbers tell them apart */

static __always_inline void keys_of(struct search_keys *keys, const struct tuple *tuple)
{
	for (int i = 0; i < 4; i++) {
		keys->numbers[KEY_SOURCE + i] = bpf_ntohl(tuple->source[i]);
		keys->numbers[KEY_DESTINATION + i] = bpf_ntohl(tuple->destination[i]);
	}
	keys->numbers[KEY_SOURCE_PORT] = bpf_ntohs(tuple->source_port);
	keys->numbers[KEY_DESTINATION_PORT] = bpf_ntohs(tuple->destination_port);
	keys->numbers[KEY_PROTOCOL] = tuple->protocol;
}

/* `count`: of the keys, a power of two. */
static __always_inline __u32 search(const struct block *list, __u32 word, const __u32 *keys, const __u32 count)
{
	for (int i = 0; i < SEARCH_STEPS && word & SEARCH_NODE; i++)
		word = search_step(list, word, keys[word >> SEARCH_KEY_SHIFT & (count - 1)]);
	return word;
}

static __always_inline bool rule_matches(const struct access_rule *rule, const __u32 *keys, const __u32 count)
{
	__u64 source = keys[(KEY_SOURCE + V4) % count] ^ rule->source, destination = keys[(KEY_DESTINATION + V4) % count] ^ rule->destination;
	__u32 protocol = (keys[KEY_PROTOCOL % count] ^ rule->protocol) >> (rule->flags & RULE_ANY_PROTOCOL);
	__u32 ports = keys[KEY_SOURCE_PORT % count] << 16 | keys[KEY_DESTINATION_PORT % count];
	__u16 port = (ports >> (rule->flags & RULE_SOURCE_PORT)) - rule->first_port;

	return !(source >> rule->source_shift | destination >> rule->destination_shift | protocol) && port <= rule->more_ports;
}

static __always_inline int compare_rules(const struct block *list, __u32 word, const __u32 *keys, const __u32 count, int otherwise)
{
	for (__u32 i = 0; i < RULES_AT_PLACE && i < word >> SEARCH_COUNT_SHIFT; i++) {
		struct access_rule *rule = address_in(list, 0, ((word & SEARCH_PLACE_MASK) + i) * PLACE_BYTES);

		if (rule_matches(rule, keys, count))
			return rule->flags & RULE_ALLOW;
	}
	return otherwise;
}

/* A function of its own, so that the verifier goes through it once and not for each part. `line` is that of the list. */
__noinline __u32 select_vector(__u32 line, __u32 word, const struct search_keys *keys)
{
	struct block list;

	return keys && open_block(&list, line) ? search(&list, word, keys->numbers, SEARCH_KEYS) & SEARCH_PLACE_MASK : 0;
}

static __always_inline __u32 count_bits(__u64 bits)
{
	bits -= bits >> 1 & 0x5555555555555555;
	bits = (bits & 0x3333333333333333) + (bits >> 2 & 0x3333333333333333);
	bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return bits * 0x0101010101010101 >> 56;
}

/* 64 bits, the first of which is bit `bit` of what begins at a place. */
static __always_inline __u64 bits_at(const struct block *list, __u32 word, __u32 bit)
{
	__u32 bytes = (word & SEARCH_PLACE_MASK) * PLACE_BYTES + bit / 64 * 8;

	return *(__u64 *)address_in(list, 0, bytes) >> bit % 64;
}

static __always_inline int ask_vectors(const struct block *list, const struct classifier *classifier, const __u32 *vectors)
{
	__u32 shift = classifier->word_shift & 7;
	__u64 summaries[PARTS], common = ~0ull;

	for (int i = 0; i < PARTS; i++)
		common &= summaries[i] = bits_at(list, vectors[i], 0);
	for (int i = 0; i < VECTOR_WORDS_MAX && common; i++, common &= common - 1) {
		__u64 below = (common & -common) - 1; /* BPF has no instruction that finds a bit; counting those below does */
		__u64 rules = ~0ull >> (64 - (1 << shift));

		for (int j = 0; j < PARTS; j++)
			rules &= bits_at(list, vectors[j], 64 + (count_bits(summaries[j] & below) << shift));
		if (rules)
			return !!(bits_at(list, classifier->actions, count_bits(below) << shift) & rules & -rules);
	}
	return classifier->otherwise;
}

/* What the tree says; -1: the vectors have to be asked. What is on the stack here is free again by then. */
static __always_inline int search_list(const struct block *list, const struct classifier *classifier, const struct tuple *tuple, __u32 *vectors)
{
	struct search_keys keys = {};

	keys_of(&keys, tuple);
	if (!tuple->six) {
		__u32 word = search(list, classifier->rules4, keys.numbers, SEARCH_KEYS);

		if (word != SEARCH_VECTORS)
			return compare_rules(list, word, keys.numbers, SEARCH_KEYS, classifier->otherwise);
	}
	if (!classifier->actions)
		return classifier->otherwise;
	vectors[0] = select_vector(list->line, tuple->six ? classifier->source6 : classifier->source4, &keys);
	vectors[1] = select_vector(list->line, tuple->six ? classifier->destination6 : classifier->destination4, &keys);
	vectors[2] = select_vector(list->line, classifier->destination_ports, &keys);
	vectors[3] = select_vector(list->line, classifier->source_ports, &keys);
	vectors[4] = select_vector(list->line, classifier->protocols, &keys);
	return -1;
}

/* 1: allowed. `line` is that of the list, over all chunks; `inbound`: towards the VM. */
__noinline int access_list_allows(__u32 line, bool inbound, const struct tuple *tuple)
{
	__u32 vectors[PARTS];
	struct block list;

	if (!tuple || !open_block(&list, line))
		return 0;
	struct classifier *classifier = line_of(&list, inbound ? 0 : 1);
	int found = search_list(&list, classifier, tuple, vectors);

	return found < 0 ? ask_vectors(&list, classifier, vectors) : found;
}
