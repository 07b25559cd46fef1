/* Ports that translated connections are lent: the connection of one, and one for a new connection. */
#pragma once

#include "translations.h"

/* The way in a set, given by its first place, where the live entry with a lent port is; -1: there is none. */
__noinline int way_of_lent_port(__u32 place, const struct sought *sought)
{
	if (!sought)
		return -1;
	const struct flow *flow = &sought->flow;
	__u32 kind = flow->protocol | (__u32)flow->state << CONNECTION_STATE_SHIFT;

	for (__u32 way = 0; way < ways_of(flow->six) / 2; way++, place += flow->six ? 1 : 2) {
		__u64 *end = end_at(place), word = end ? *(volatile __u64 *)end : 0;

		if ((__u16)(word >> 16) == flow->high_port && (meta_of(word) & CONNECTION_KIND_MASK) == kind && is_entry(word) &&
		    !is_expired(meta_of(word), now_tick()))
			return way;
	}
	return -1;
}

/* Fills in what an entry has; `place` is the first of its set. Returns whether it is still there. */
__noinline int read_lent_port(__u32 place, struct sought *sought)
{
	if (!sought)
		return 0;
	struct flow *flow = &sought->flow;

	place += sought->way * (flow->six ? 1 : 2);
	__u64 *end = end_at(place), word = end ? *(volatile __u64 *)end : 0;

	read_client(flow, place);
	flow->low_port = word;
	flow->word = word;
	return end && (__u16)(word >> 16) == flow->high_port && *(volatile __u64 *)end == word;
}

/* The place of the entry with a lent port, by the hash of the remote end: in its part of the region, or in that of balanced connections. */
__noinline __u32 place_of_lent_port(__u32 number, struct sought *sought, __u32 remote)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);

	if (!domain || !domain->connections4_used || !sought)
		return 0;
	__u32 six = sought->flow.six, sets = sets_in_use(domain, six);

	for (__u32 i = 0; i < (sets >> BLOCK_SHIFT > 1 ? 2 * PORT_SETS : PORT_SETS); i++) {
		__u32 part = part_of_remote(remote) & (i / PORT_SETS - 1); /* first the remote end's, then 0 */
		__u32 hash = hash_of_lent_port(sought->flow.high_port, part) ^ i % PORT_SETS * 0x10001;
		__u32 place = place_in_set(first_line(domain, six), hash & (sets - 1), 0, six);

		sought->flow.hash = hash;
		sought->way = way_of_lent_port(place, sought);
		if (sought->way >= 0 && !sought->skip--)
			return place;
	}
	return 0;
}

/* The connection that a port is lent to. */
static __always_inline bool find_lent_port(__u32 number, struct sought *sought, __u32 remote)
{
	__u32 place = place_of_lent_port(number, sought, remote);

	return place && read_lent_port(place, sought);
}

/* Also of a connection from before the rule lent other ports. */
static __always_inline bool lends(const struct rule *rule, __u16 port)
{
	return rule->blocks >> (bpf_ntohs(port) >> BLOCK_SHIFT) & 1;
}

/* The blocks whose port is lent, by its lowest bits, of those that one set leads to. */
struct lending {
	__u16 taken[PORT_SETS];
};

static __always_inline void note_lent_port(struct lending *lending, const struct flow *flow, __u64 word)
{
	__u32 kind = flow->protocol | (__u32)flow->state << CONNECTION_STATE_SHIFT, lent = bpf_ntohs((__u16)(word >> 16));
	bool near = !((lent ^ flow->hash) & PORT_LOW & ~(PORT_SETS - 1));

	if (near && (meta_of(word) & CONNECTION_KIND_MASK) == kind && is_entry(word) && !is_expired(meta_of(word), now_tick()))
		lending->taken[lent % PORT_SETS] |= 1 << (lent >> BLOCK_SHIFT);
}

/* In a set, given by its first place. `sought`: any port. */
__noinline int note_lent_ports(__u32 place, const struct sought *sought, struct lending *lending)
{
	if (!sought || !lending)
		return 0;
	const struct flow *flow = &sought->flow;

	for (__u32 way = 0; way < ways_of(flow->six) / 2; way++, place += flow->six ? 1 : 2) {
		__u64 *end = end_at(place);

		if (end)
			note_lent_port(lending, flow, *(volatile __u64 *)end);
	}
	return 0;
}

/* `sought`: any port, with the hash of the sets of which one will be the connection's. */
__noinline int find_taken(__u32 number, const struct sought *sought, struct lending *lending)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);

	if (!domain || !domain->connections4_used || !sought || !lending)
		return 0;
	__u32 six = sought->flow.six, set = sought->flow.hash & (sets_in_use(domain, six) - 1) & ~(PORT_SETS - 1);

	__builtin_memset(lending, 0, sizeof(*lending));
	for (__u32 i = 0; i < PORT_SETS; i++)
		note_lent_ports(place_in_set(first_line(domain, six), set + i, 0, six), sought, lending);
	return 0;
}

/* A port of these blocks that is neither lent nor a rule's, as near to the one in the key as can be; 0: there is none. */
__noinline int choose_port(__u32 table_line, __u32 key, __u32 blocks, __u32 first, const struct lending *lending)
{
	if (!lending)
		return 0;
	for (__u32 i = 0; i < PORT_SETS; i++, key = (key & ~(PORT_SETS - 1)) | ((key + 1) % PORT_SETS)) {
		__u32 free = blocks & ~lending->taken[key % PORT_SETS];

		for (__u32 turn = 0; turn < BLOCKS - 1 && free; turn++) {
			__u32 block = 1 + (first + turn) % (BLOCKS - 1);

			if (free >> block & 1 && !is_rule(table_line, key | block << BLOCK_SHIFT))
				return (key & PORT_LOW) | block << BLOCK_SHIFT;
		}
	}
	return 0;
}

/* A port of the rule for a new connection that will be in the given half of its ways; 0: all are taken. */
static __always_inline __u16 free_port(const struct packet *p, const struct flow *flow, struct sought *other, struct lending *lending,
				       const struct rule *rule, bool second)
{
	__u32 half = second ? flow->hash >> 16 : flow->hash & 0xffff;

	seek_nat_port(other, p, 0);
	other->flow.hash = half;
	find_taken(p->domain, other, lending);
	return bpf_htons(choose_port(p->table_line, rule_key(rule->frontend, p->protocol, bpf_htons(half & PORT_LOW)), rule->blocks,
				      flow->hash >> 24 & (BLOCKS - 1), lending));
}

/* Makes a place for a connection, and gives it a port if it needs one. Returns whether it has both. */
static __always_inline bool place_translation(const struct packet *p, struct flow *flow, struct sought *other, struct lending *lending,
					      const struct rule *rule, bool needs_port, struct place *place)
{
	for (int i = 0; i < 2; i++) {
		make_place(p->domain, flow, place);
		if (!place->rank || !needs_port)
			return place->rank;
		bool second = place->way >= ways_of(flow->six) / 2;

		flow->high_port = free_port(p, flow, other, lending, rule, second);
		if (flow->high_port)
			return true;
		flow->hash = (second ? flow->hash & 0xffff : flow->hash >> 16) * 0x10001; /* the other set alone, for its ports */
	}
	return false;
}
