/* The first packets of flows, the short way: IPv4 with ports, asked about and entered without another program. */
#pragma once

#include "access_list.h"
#include "decide.h"
#include "known_flows.h"
#include "plain_places.h"

#define LISTS_MAX 4 /* those of the sender's virtual subnet and of its address, then the receiver's */
#define LIST_UNKNOWN 2 /* beside 0 and 1: the vectors have to be asked */

/* Whose lists, as one word: the sender's VSID, the receiver's subnet by its index after 1; 0: outside. */
static __always_inline __u64 sides_of(const struct packet *p)
{
	__u64 receiver = p->hop_kind == NEXT_HOP_OVERLAY ? p->subnet + 1 : 0;

	return receiver << 32 | (p->origin == FROM_EXTERNAL ? 0 : p->vsid);
}

static __always_inline __u32 list_of_subnet_at(const struct block *table, __u32 index)
{
	struct table *header = line_of(table, 0);
	struct subnet *subnet = line_of(table, header->subnets + index);

	return subnet->access_list;
}

static __always_inline __u32 target_or_none(const struct cell *cell)
{
	return cell ? cell->target : 0;
}

static __always_inline void find_lists(__u32 *lists, const struct block *table, __u64 sides, __u64 ends)
{
	struct table_more *more = line_of(table, 1);
	struct cell *sender = find_cell(table, &more->vsids, sides);

	lists[0] = sender ? list_of_subnet_at(table, sender->index) : 0;
	lists[1] = (__u32)sides ? target_or_none(find_cell(table, &more->listed4, ends >> 32)) : 0;
	lists[2] = sides >> 32 ? list_of_subnet_at(table, (sides >> 32) - 1) : 0;
	lists[3] = sides >> 32 ? target_or_none(find_cell(table, &more->listed4, ends)) : 0;
}

static __always_inline int ask_tree(__u32 line, bool inbound, const __u32 *keys)
{
	struct block list;

	if (!open_block(&list, line))
		return 0;
	struct classifier *classifier = line_of(&list, inbound ? 0 : 1);
	__u32 word = search(&list, classifier->rules4, keys, KEYS4);

	return word == SEARCH_VECTORS ? LIST_UNKNOWN : compare_rules(&list, word, keys, KEYS4, classifier->otherwise);
}

/* What the lists say, VERDICT_CONSUMED: this cannot be told here. */
__noinline int ask_trees(__u32 table_line, __u64 sides, __u64 ends, __u64 rest)
{
	__u32 lists[LISTS_MAX], keys[KEYS4];
	struct block table;

	if (!open_block(&table, table_line))
		return DROP_INTERNAL;
	find_lists(lists, &table, sides, ends);
	keys[(KEY_SOURCE + V4) % KEYS4] = bpf_ntohl(ends >> 32);
	keys[(KEY_DESTINATION + V4) % KEYS4] = bpf_ntohl(ends);
	keys[KEY_SOURCE_PORT % KEYS4] = bpf_ntohs(rest >> 16);
	keys[KEY_DESTINATION_PORT % KEYS4] = bpf_ntohs(rest);
	keys[KEY_PROTOCOL % KEYS4] = protocol_of(rest);
	for (int i = 0; i < LISTS_MAX; i++) {
		bool inbound = i >= LISTS_MAX / 2;
		int allowed = lists[i] ? ask_tree(table_line + lists[i], inbound, keys) : 1;

		if (allowed == LIST_UNKNOWN)
			return VERDICT_CONSUMED;
		if (!allowed)
			return inbound ? DROP_ACCESS_LIST_INBOUND : DROP_ACCESS_LIST_OUTBOUND;
	}
	return VERDICT_NONE;
}

/* Enters a flow that the lists allow. 0: only another program makes room for it. */
__noinline int add_flow(__u32 number, __u64 ends, __u64 rest, __u32 hash)
{
	struct plain_flow flow = plain_flow_of(ends, rest);
	__u32 state = closing(tcp_flags_of(rest)) | (flow.sender_high ? CONNECTION_INITIATOR_HIGH : 0);
	__u32 meta = protocol_of(rest) | state << CONNECTION_STATE_SHIFT | generation_of(rest) << CONNECTION_GENERATION_SHIFT;

	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	__u64 replaced = 0;
	__u32 place = domain && domain->connections4_used ? choose_plain_place(domain, hash, &replaced) : 0;

	if (place)
		take_plain_place(place, replaced, flow.addresses, (__u64)meta << 32 | flow.ports);
	return place;
}

/* What access lists say, and what they have said before. VERDICT_CONSUMED: another program has to ask them. */
static __always_inline int admit_plain(const struct packet *p, __u32 hash)
{
	__u64 ends = ends_of(p), rest = rest_of(p);
	int acquaintance = is_plain(p) ? pass_flow(p->domain, ends, rest, hash) : FLOW_DOUBTFUL;

	if (acquaintance == FLOW_KNOWN || is_probe(p))
		return VERDICT_NONE;
	if (acquaintance != FLOW_NEW || (p->hop_kind == NEXT_HOP_OVERLAY && p->hop))
		return VERDICT_CONSUMED;
	int verdict = ask_trees(p->table_line, sides_of(p), ends, rest);

	if (verdict)
		return verdict;
	return add_flow(p->domain, ends, rest, hash) ? VERDICT_NONE : VERDICT_CONSUMED;
}
