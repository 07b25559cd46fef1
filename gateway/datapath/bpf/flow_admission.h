/* Stateful access lists: the first packet of a flow is asked about, the others pass by its connection. */
#pragma once

#include "access_list.h"
#include "new_connections.h"
#include "route.h"

struct lists { /* that hold for one side of a packet: lines over all chunks, 0: none */
	__u32 of_subnet, of_address;
};

static __always_inline __u32 over_all_chunks(const struct packet *p, __u32 line)
{
	return line ? p->table_line + line : 0;
}

/* The list of an address's own, line over all chunks, 0: it has none. By itself it needs no stack of its caller's, which has none left. */
__noinline __u32 list_of_address(__u32 table_line, const struct address *address, __u32 six)
{
	struct block block;
	__u32 line;

	if (!address || !open_block(&block, table_line))
		return 0;
	struct table_more *more = line_of(&block, 1);

	if (six) {
		struct cell6 *cell = find_cell6(&block, &more->listed6, address->words);

		line = cell ? cell->target : 0;
	} else {
		struct cell *cell = find_cell(&block, &more->listed4, address->words[V4]);

		line = cell ? cell->target : 0;
	}
	return line ? table_line + line : 0;
}

static __always_inline __u32 list_of_subnet(const struct packet *p, const struct block *block, __u32 index)
{
	struct table *table = line_of(block, 0);
	struct subnet *subnet = line_of(block, table->subnets + index);

	return over_all_chunks(p, subnet->access_list);
}

static __always_inline bool both_allow(const struct lists *lists, bool inbound, const struct tuple *tuple)
{
	if (lists->of_subnet && !access_list_allows(lists->of_subnet, inbound, tuple))
		return false;
	return !lists->of_address || access_list_allows(lists->of_address, inbound, tuple);
}

static __always_inline int ask(const struct lists *sender, const struct lists *receiver, const struct tuple *tuple)
{
	if (!both_allow(sender, false, tuple))
		return DROP_ACCESS_LIST_OUTBOUND;
	return both_allow(receiver, true, tuple) ? VERDICT_NONE : DROP_ACCESS_LIST_INBOUND;
}

static __always_inline void tuple_of(struct tuple *tuple, const struct packet *p, bool swapped)
{
	copy6(tuple->source, swapped ? p->destination : p->source);
	copy6(tuple->destination, swapped ? p->source : p->destination);
	tuple->source_port = swapped ? p->destination_port : p->source_port;
	tuple->destination_port = swapped ? p->source_port : p->destination_port;
	tuple->protocol = p->protocol;
	tuple->six = p->six;
	tuple->reserved = 0;
}

/* The packet that an ICMP error is about. */
struct quoted {
	__u32 source[4], destination[4];
	__u16 source_port, destination_port;
	__u8 protocol;
};

/* The flow that an ICMP error speaks of: the quoted packet's header, and eight bytes behind it. */
static __always_inline bool quoted_flow(struct xdp_md *ctx, const struct packet *p, struct flow *flow)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *quote = (void *)(long)ctx->data + (p->transport & 0xff) + 8;
	__u32 source[4] = {}, destination[4] = {};
	__u8 *transport, protocol;
	__u32 needed = (is_six(p) ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + 8;

	if (p->transport + 8 + needed > p->network + p->length)
		return false;
	if (is_six(p)) {
		struct ipv6hdr *ip = quote;

		transport = (void *)(ip + 1);
		if ((void *)(transport + 8) > data_end)
			return false;
		copy6(source, ip->saddr.in6_u.u6_addr32);
		copy6(destination, ip->daddr.in6_u.u6_addr32);
		protocol = ip->nexthdr;
	} else {
		struct iphdr *ip = quote;

		transport = (void *)(ip + 1);
		if ((void *)(transport + 8) > data_end || ip->ihl != 5 || ip->frag_off & bpf_htons(0x1fff))
			return false;
		source[V4] = ip->saddr;
		destination[V4] = ip->daddr;
		protocol = ip->protocol;
	}
	__u16 *ports = (void *)transport;

	if (has_ports(protocol))
		flow_of(flow, source, destination, ports[0], ports[1], protocol, is_six(p));
	else if (is_echo(protocol, transport[0], is_six(p)))
		flow_of(flow, source, destination, ports[2], ports[2], protocol, is_six(p));
	else
		flow_of(flow, source, destination, 0, 0, protocol, is_six(p));
	return true;
}

static __always_inline void flow_of_packet(struct flow *flow, const struct packet *p)
{
	flow_of(flow, p->source, p->destination, p->source_port, p->destination_port, p->protocol, is_six(p));
}

static __always_inline void flow_of_fragment(struct flow *flow, const struct packet *p)
{
	flow_of(flow, p->source, p->destination, p->fragment_id, p->fragment_id, p->protocol, is_six(p));
	flow->state = CONNECTION_FRAGMENT;
}

/* What the lists say, in the direction of whoever sent the flow's first packet. */
static __always_inline int ask_lists(const struct packet *p, const struct block *block, bool from_initiator)
{
	struct table_more *more = line_of(block, 1);
	struct lists sender = {}, receiver = {};
	struct tuple tuple;

	if (p->origin != FROM_EXTERNAL) {
		struct cell *subnet = find_cell(block, &more->vsids, p->vsid);

		sender.of_subnet = subnet ? list_of_subnet(p, block, subnet->index) : 0;
		sender.of_address = list_of_address(p->table_line, (const struct address *)p->source, p->six);
	}
	if (p->hop_kind == NEXT_HOP_OVERLAY) {
		receiver.of_subnet = list_of_subnet(p, block, p->subnet);
		const __u32 *address = p->destination;

		if (p->hop) { /* a route's: its record's address, which a wildcard record has not */
			struct next_hop *hop = line_of(block, p->hop - block->line);

			address = hop->gateway;
		}
		receiver.of_address = list_of_address(p->table_line, (const struct address *)address, p->six);
	}
	tuple_of(&tuple, p, !from_initiator);
	return from_initiator ? ask(&sender, &receiver, &tuple) : ask(&receiver, &sender, &tuple);
}

/* A packet of a flow that has an entry. */
static __always_inline int admit_known_flow(const struct packet *p, const struct block *block, const struct flow *flow, int way)
{
	__u32 number = p->domain, meta = meta_of(flow->word);
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	bool from_initiator = !(meta >> CONNECTION_STATE_SHIFT & CONNECTION_INITIATOR_HIGH) == !flow->sender_high;
	struct table_more *more = line_of(block, 1);
	struct entry entry;

	if (!domain || !entry_at(&entry, domain, flow, flow->six, way))
		return DROP_INTERNAL;
	if (meta >> CONNECTION_GENERATION_SHIFT != (more->generation & 0xff)) {
		int verdict = ask_lists(p, block, from_initiator);

		if (verdict) {
			__sync_val_compare_and_swap(entry.ports_and_meta, flow->word, 0);
			return verdict;
		}
	}
	touch_connection(&entry, flow->word, from_initiator, p->tcp_flags, more->generation);
	return VERDICT_NONE;
}

/* `quoted`: of a packet that stands for another, what its error speaks of in the view of the machine. */
__noinline int admit_flow(struct xdp_md *ctx, struct packet *p, const struct quoted *quoted, struct flow *flow)
{
	struct block block;

	if (!p || !quoted || !flow || !open_block(&block, p->table_line))
		return DROP_INTERNAL;
	struct table_more *more = line_of(&block, 1);
	__u32 generation = more->generation & 0xff;

	if (p->fragment & 2) {
		flow_of_fragment(flow, p);
		return find_connection(p->domain, flow) < 0 ? DROP_FRAGMENT_UNMATCHED : VERDICT_NONE;
	}
	bool error = is_icmp_error(p), about_flow = error;

	if (error && p->service)
		flow_of(flow, quoted->source, quoted->destination, quoted->source_port, quoted->destination_port, quoted->protocol, p->six);
	else if (error)
		about_flow = quoted_flow(ctx, p, flow);
	if (about_flow && find_connection(p->domain, flow) >= 0)
		return VERDICT_NONE;
	flow_of_packet(flow, p);
	int way = find_connection(p->domain, flow);
	int verdict = way < 0 ? ask_lists(p, &block, true) : admit_known_flow(p, &block, flow, way);

	if (verdict)
		return verdict;
	if (way < 0 && !error) {
		flow->state = closing(p->tcp_flags);
		add_connection(p->domain, flow, generation);
	}
	if (p->fragment) {
		flow_of_fragment(flow, p);
		add_connection(p->domain, flow, generation);
	}
	return VERDICT_NONE;
}
