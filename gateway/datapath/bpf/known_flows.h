/* Packets of flows that are known already, the short way: nearly all packets of a domain with access lists. */
#pragma once

#include "entry_in_line.h"

/*
 * What nearly all packets are, IPv4 with ports, as two words: functions of the first program have no room for more. Ends: source
 * above destination. Rest: their ports in the same order, in 32 bits; then protocol, TCP's flags, generation of the lists in force.
 */
static __always_inline __u64 ends_of(const struct packet *p)
{
	return (__u64)p->source[V4] << 32 | p->destination[V4];
}

static __always_inline __u64 rest_of(const struct packet *p)
{
	__u32 above = p->protocol | p->tcp_flags << 8 | (more_of(p)->generation & 0xff) << 16;

	return (__u64)above << 32 | (__u32)p->source_port << 16 | p->destination_port;
}

static __always_inline __u8 protocol_of(__u64 rest)
{
	return rest >> 32;
}

static __always_inline __u8 tcp_flags_of(__u64 rest)
{
	return rest >> 40;
}

static __always_inline __u8 generation_of(__u64 rest)
{
	return rest >> 48;
}

/* Its flow, as an entry has it. */
struct plain_flow {
	__u64 addresses;
	__u32 ports;
	bool sender_high;
};

static __always_inline struct plain_flow plain_flow_of(__u64 ends, __u64 rest)
{
	__u32 source = ends >> 32, destination = ends;
	__u16 source_port = rest >> 16, destination_port = rest;
	bool high = source != destination ? source > destination : source_port > destination_port;

	return (struct plain_flow){
		.addresses = high ? ends : ends << 32 | source,
		.ports = high ? (__u32)rest : (__u32)destination_port << 16 | source_port,
		.sender_high = high,
	};
}

static __always_inline __u32 hash_of_plain(const struct plain_flow *flow, __u64 rest)
{
	return hash_of_flow(fold4(flow->addresses), fold4(flow->addresses >> 32), flow->ports, flow->ports >> 16, protocol_of(rest));
}

/* The hash of a packet's flow, whose line is not needed before the route is known. */
static __always_inline __u32 expect_flow(const struct packet *p)
{
	__u64 rest = rest_of(p);
	__u32 number = p->domain;
	struct plain_flow flow = plain_flow_of(ends_of(p), rest);
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	__u32 hash = hash_of_plain(&flow, rest);

	if (domain)
		expect_set(domain, hash);
	return hash;
}

enum acquaintance {
	FLOW_KNOWN = 0, /* the lists in force have allowed it */
	FLOW_NEW = 1,
	FLOW_DOUBTFUL = 2, /* anything else */
};

static __always_inline int touch_flow(__u64 *place, const struct plain_flow *flow, __u64 rest)
{
	struct entry entry = {.ports_and_meta = place};
	__u64 word = *(volatile __u64 *)place;
	__u32 meta = meta_of(word);

	if ((__u32)word != flow->ports || meta >> CONNECTION_GENERATION_SHIFT != generation_of(rest) || is_expired(meta, now_tick()))
		return FLOW_DOUBTFUL;
	bool from_initiator = !(meta >> CONNECTION_STATE_SHIFT & CONNECTION_INITIATOR_HIGH) == !flow->sender_high;

	touch_connection(&entry, word, from_initiator, tcp_flags_of(rest), generation_of(rest));
	return FLOW_KNOWN;
}

/* Asked late, when all else is known: while the lines are on their way the processor goes on with what comes behind. */
__noinline int pass_flow(__u32 number, __u64 ends, __u64 rest, __u32 hash)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	struct plain_flow flow = plain_flow_of(ends, rest);
	const struct wanted wanted = {
		.addresses = flow.addresses,
		.addresses_mask = ~0ull,
		.word = (__u64)protocol_of(rest) << 32 | flow.ports,
		.word_mask = (__u64)CONNECTION_KIND_MASK << 32 | 0xffffffff,
		.half = HALF_PORTS,
	};

	if (!domain || !domain->connections4_used)
		return FLOW_DOUBTFUL;
	for (int set = 0; set < 2; set++, hash >>= 16) {
		struct line *line = connection_line(line_of_set(domain, hash));

		if (!line)
			return FLOW_DOUBTFUL;
		__u32 way = way_of(line, &wanted);

		if (way < CELLS_PER_LINE)
			return touch_flow(&line->words[way * 2 + 1], &flow, rest);
		if (way > CELLS_PER_LINE)
			return FLOW_DOUBTFUL;
	}
	return FLOW_NEW;
}
