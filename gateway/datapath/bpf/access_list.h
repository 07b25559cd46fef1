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
#define LIST_STRIDE 4 /* lists are sparse and many: nodes of one line */

struct vectors {
	__u32 lines[PARTS]; /* 0: no rule is satisfied */
};

/* `root` is a word like those of the nodes: a part that no rule cares about is a leaf at once. */
static __always_inline __u32 part4(const struct block *list, __u32 root, __u32 key, int levels)
{
	return (root & LEAF_CHILD ? trie_find(list, root & LEAF_LINE_MASK, key, levels, LIST_STRIDE) : root) & LEAF_LINE_MASK;
}

static __always_inline __u32 part6(const struct block *list, __u32 root, const __u32 *address)
{
	return (root & LEAF_CHILD ? trie_find6(list, root & LEAF_LINE_MASK, address, LIST_STRIDE) : root) & LEAF_LINE_MASK;
}

static __always_inline void select_vectors(const struct block *list, const struct classifier *classifier, const struct tuple *tuple, struct vectors *v)
{
	if (tuple->six) {
		v->lines[0] = part6(list, classifier->source6, tuple->source);
		v->lines[1] = part6(list, classifier->destination6, tuple->destination);
	} else {
		v->lines[0] = part4(list, classifier->source4, bpf_ntohl(tuple->source[V4]), 8);
		v->lines[1] = part4(list, classifier->destination4, bpf_ntohl(tuple->destination[V4]), 8);
	}
	v->lines[2] = part4(list, classifier->protocols, (__u32)tuple->protocol << 24, 2);
	/* rules with ports are not among those that the other protocols select */
	__u32 source_port = has_ports(tuple->protocol) ? bpf_ntohs(tuple->source_port) : 0;
	__u32 destination_port = has_ports(tuple->protocol) ? bpf_ntohs(tuple->destination_port) : 0;

	v->lines[3] = part4(list, classifier->source_ports, source_port << 16, 4);
	v->lines[4] = part4(list, classifier->destination_ports, destination_port << 16, 4);
}

static __always_inline __u32 count_bits(__u64 bits)
{
	bits -= bits >> 1 & 0x5555555555555555;
	bits = (bits & 0x3333333333333333) + (bits >> 2 & 0x3333333333333333);
	bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return bits * 0x0101010101010101 >> 56;
}

static __always_inline __u64 summary_of(const struct block *list, __u32 line)
{
	return *(__u64 *)address_in(list, line, 0);
}

/* The rules of one word that all vectors have. `lower`: the bits of the summary below the word's. */
static __always_inline __u64 intersect(const struct block *list, const struct vectors *v, __u64 lower)
{
	__u64 word = ~0ull;

	for (int i = 0; i < PARTS; i++) {
		__u32 index = 1 + count_bits(summary_of(list, v->lines[i]) & lower);

		word &= *(__u64 *)address_in(list, v->lines[i], index * sizeof(word));
	}
	return word;
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
	__u64 summary = ~0ull;

	for (int i = 0; i < PARTS; i++)
		summary &= summary_of(&list, v.lines[i]);
	for (int i = 0; i < VECTOR_WORDS_MAX && summary; i++, summary &= summary - 1) {
		__u64 lower = (summary & -summary) - 1; /* BPF has no instruction that finds a bit; counting those below does */
		__u64 rules = intersect(&list, &v, lower);

		if (!rules)
			continue;
		__u64 *allowed = address_in(&list, actions, count_bits(lower) * sizeof(*allowed));

		return !!(*allowed & (rules & -rules));
	}
	return otherwise;
}
