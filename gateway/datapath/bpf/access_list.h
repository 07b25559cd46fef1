/*
 * One direction of an access list, asked about one packet: every part of the packet selects a bit vector of the rules that it
 * satisfies; the lowest bit set in all of them is the rule. (T. V. Lakshman and D. Stiliadis, 1998; with summaries, 2001.)
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

struct vectors {
	__u32 lines[PARTS]; /* 0: no rule is satisfied */
};

/* `root` is a word like those of the nodes: a part that no rule cares about is a leaf at once. */
static __always_inline __u32 part4(const struct block *list, __u32 root, __u32 key, int levels)
{
	return (root & LEAF_CHILD ? trie_find(list, root & LEAF_LINE_MASK, key, levels) : root) & LEAF_LINE_MASK;
}

static __always_inline __u32 part6(const struct block *list, __u32 root, const __u32 *address)
{
	return (root & LEAF_CHILD ? trie_find6(list, root & LEAF_LINE_MASK, address) : root) & LEAF_LINE_MASK;
}

static __always_inline void select_vectors(const struct block *list, const struct classifier *classifier, const struct tuple *tuple, struct vectors *v)
{
	if (tuple->six) {
		v->lines[0] = part6(list, classifier->source6, tuple->source);
		v->lines[1] = part6(list, classifier->destination6, tuple->destination);
	} else {
		v->lines[0] = part4(list, classifier->source4, bpf_ntohl(tuple->source[V4]), 4);
		v->lines[1] = part4(list, classifier->destination4, bpf_ntohl(tuple->destination[V4]), 4);
	}
	v->lines[2] = part4(list, classifier->protocols, (__u32)tuple->protocol << 24, 1);
	/* rules with ports are not among those that the other protocols select */
	__u32 source_port = has_ports(tuple->protocol) ? bpf_ntohs(tuple->source_port) : 0;
	__u32 destination_port = has_ports(tuple->protocol) ? bpf_ntohs(tuple->destination_port) : 0;

	v->lines[3] = part4(list, classifier->source_ports, source_port << 16, 2);
	v->lines[4] = part4(list, classifier->destination_ports, destination_port << 16, 2);
}

/* Word `index` of all vectors; 0 is the summary. */
static __always_inline __u64 intersect(const struct block *list, const struct vectors *v, __u32 index)
{
	__u64 word = ~0ull;

	for (int i = 0; i < PARTS; i++)
		word &= *(__u64 *)address_in(list, v->lines[i], index * sizeof(word));
	return word;
}

/* Position of the lowest bit set: the number of bits below it, counted in parallel. BPF has no instruction for either. */
static __always_inline __u32 lowest_bit(__u64 word)
{
	__u64 bits = (word & -word) - 1;

	bits -= bits >> 1 & 0x5555555555555555;
	bits = (bits & 0x3333333333333333) + (bits >> 2 & 0x3333333333333333);
	bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return bits * 0x0101010101010101 >> 56;
}

/* 1: allowed. `line` is that of the list, over all chunks; `inbound`: towards the VM. */
__noinline int access_list_allows(__u32 line, bool inbound, const struct tuple *tuple)
{
	struct block list;
	struct vectors v;

	if (!tuple || !open_block(&list, line))
		return 0;
	struct access_list *parts = line_of(&list, 0);
	struct classifier *classifier = inbound ? &parts->inbound : &parts->outbound;
	bool otherwise = classifier->actions & ACTIONS_DEFAULT_ALLOW;
	__u32 actions = classifier->actions & LEAF_LINE_MASK;

	if (!actions)
		return otherwise;
	select_vectors(&list, classifier, tuple, &v);
	for (int i = 0; i < PARTS; i++)
		if (!v.lines[i])
			return otherwise;
	__u64 summary = intersect(&list, &v, 0);

	for (int i = 0; i < VECTOR_WORDS_MAX && summary; i++, summary &= summary - 1) {
		__u32 word = lowest_bit(summary) + 1;
		__u64 rules = intersect(&list, &v, word);

		if (!rules)
			continue;
		__u64 *allowed = address_in(&list, actions, word * sizeof(*allowed));

		return !!(*allowed & (rules & -rules));
	}
	return otherwise;
}
