/* Packets of flows that are known already, the short way: nearly all packets of a domain with access lists. */
#pragma once

#include "connections.h"

/* An IPv4 packet's flow, as its entry has it. */
struct plain_flow {
	__u64 addresses;
	__u32 ports;
	bool sender_high;
};

static __always_inline struct plain_flow plain_flow_of(const struct packet *p)
{
	__u32 source = p->source[V4], destination = p->destination[V4];
	bool high = source != destination ? source > destination : p->source_port > p->destination_port;

	return (struct plain_flow){
		.addresses = high ? (__u64)source << 32 | destination : (__u64)destination << 32 | source,
		.ports = high ? (__u32)p->source_port << 16 | p->destination_port : (__u32)p->destination_port << 16 | p->source_port,
		.sender_high = high,
	};
}

#define PLACE_NONE 0

/* The place of a flow's entry, counted over the whole map from 1 on. */
__noinline __u32 find_place(__u32 number, __u64 addresses, __u32 ports, __u32 protocol)
{
	const __u64 mask = (__u64)CONNECTION_KIND_MASK << 32 | 0xffffffff;
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	__u32 hash = hash_of_flow(fold4(addresses), fold4(addresses >> 32), ports, ports >> 16, protocol);

	if (!domain || !domain->connections4_used)
		return PLACE_NONE;
	for (int set = 0; set < 2; set++, hash >>= 16) {
		__u32 at = domain->connections4 + (hash & (domain->connections4_used - 1));
		struct line *line = connection_line(at);
		__u32 way = line ? way_of(line, addresses, ~0ull, (__u64)protocol << 32 | ports, mask) : CELLS_PER_LINE;

		if (way < CELLS_PER_LINE)
			return at * CELLS_PER_LINE + way + 1;
	}
	return PLACE_NONE;
}

/*
 * The place for what nearly all packets are, IPv4 with ports. To be asked early, so that the way from memory and the rest of the
 * work overlap.
 */
static __always_inline void look_up_flow(struct packet *p)
{
	if (is_six(p) || p->fragment || !has_ports(p->protocol))
		return;
	struct plain_flow flow = plain_flow_of(p);

	p->looked_up = true;
	p->place = find_place(p->domain, flow.addresses, flow.ports, p->protocol);
}

/* Lets a packet pass whose flow the lists in force have allowed. */
static __always_inline bool pass_known(const struct packet *p, __u8 generation)
{
	struct entry entry;

	if (!entry_at_place(&entry, p->place))
		return false;
	struct plain_flow flow = plain_flow_of(p);
	__u64 word = *(volatile __u64 *)entry.ports_and_meta;
	__u32 meta = meta_of(word);

	if ((__u32)word != flow.ports || meta >> CONNECTION_GENERATION_SHIFT != generation || is_expired(meta, now_tick()))
		return false;
	bool from_initiator = !(meta >> CONNECTION_STATE_SHIFT & CONNECTION_INITIATOR_HIGH) == !flow.sender_high;

	touch_connection(&entry, word, from_initiator, p->tcp_flags, generation);
	return true;
}
