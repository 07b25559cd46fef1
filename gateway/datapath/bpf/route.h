/* Where a packet of a routing domain goes: the exact record, then the longest prefix. */
#pragma once

#include "services.h"

static __always_inline bool is_frontend(__u32 target)
{
	return target != TARGET_LOCAL && (target & (TARGET_FRONTEND | TARGET_HERE)) == TARGET_FRONTEND;
}

/* An exact entry decides, unless it only lends its rewritten address. */
static __always_inline bool take_exact(struct packet *p, __u32 target, __u16 subnet, const __u8 *mac)
{
	if (target == TARGET_LOCAL) {
		p->subnet = subnet;
		p->local = 1;
		return true;
	}
	if (target & TARGET_HERE)
		return false;
	if (is_frontend(target)) {
		p->service = SERVICE_TO_FRONTEND;
		p->owner = target & (DOMAINS_MAX - 1);
		p->frontend = subnet;
		return true;
	}
	p->subnet = subnet;
	p->hop_kind = NEXT_HOP_OVERLAY;
	p->target = target;
	p->hop = 0;
	p->mac = mac_of(mac);
	return true;
}

static __always_inline int unreachable(struct packet *p, __u8 reason)
{
	if (reason == DROP_NO_RECORD)
		owe_error(p, ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, ICMPV6_DEST_UNREACH, ICMPV6_ADDR_UNREACH, 0);
	else
		owe_error(p, ICMP_DEST_UNREACH, ICMP_NET_UNREACH, ICMPV6_DEST_UNREACH, ICMPV6_NOROUTE, 0);
	return reason;
}

static __always_inline bool find_exact(struct packet *p, const struct table *table)
{
	if (is_six(p)) {
		struct cell6 *cell = find_cell6(&p->table, &table->exact6, p->destination);

		return cell && take_exact(p, cell->target, cell->index, cell->mac);
	}
	struct cell *cell = find_cell(&p->table, &table->exact4, p->destination[V4]);

	return cell && take_exact(p, cell->target, cell->index, cell->mac);
}

static __always_inline __u32 find_prefix(const struct packet *p, const struct table *table)
{
	return is_six(p) ? search6(&p->table, table->prefixes6, p->destination) :
			   search4(&p->table, table->prefixes4, p->destination[V4]);
}

static __always_inline MUST_CHECK int find_route(struct packet *p)
{
	const struct table *table = table_of(p);
	bool from_outside = p->origin == FROM_EXTERNAL;

	/* the same meaning in either order: from outside most packets go to a record, from inside most do not */
	if (from_outside && find_exact(p, table))
		return VERDICT_NONE;
	__u32 leaf = find_prefix(p, table);

	if (!from_outside && leaf & LEAF_EXACT && find_exact(p, table))
		return VERDICT_NONE;
	__u32 line = leaf & LEAF_LINE_MASK;

	if (!line)
		return unreachable(p, DROP_NO_ROUTE);
	__u32 others = leaf >> LEAF_COUNT_SHIFT & LEAF_COUNT_MASK;

	if (others)
		line += (flow_hash(p) >> 16) % (others + 1);
	struct next_hop *hop = line_of(&p->table, line);

	if (hop->kind == NEXT_HOP_UNREACHABLE)
		return unreachable(p, hop->reason);
	p->hop_kind = hop->kind;
	p->target = hop->target;
	p->subnet = hop->subnet;
	p->hop = p->table.line + line;
	p->next = hop->gateway[V4] ?: p->destination[V4];
	p->mac = mac_of(hop->mac);
	return VERDICT_NONE;
}

/* Who takes the packet on: the neighbour or record that its route names, else whom it is for. */
static __always_inline const __u32 *taken_on_by(const struct packet *p, const struct next_hop *hop)
{
	return zero6(hop->gateway) ? p->destination : hop->gateway;
}

/* After the lookup, what a router does before anything else with it (RFC 1812, 5.2.4 and 5.3.1). */
static __always_inline MUST_CHECK int admit_to_forwarding(struct packet *p)
{
	if (p->local)
		return VERDICT_NONE;
	if (p->ttl <= 1) {
		owe_error(p, ICMP_TIME_EXCEEDED, 0, ICMPV6_TIME_EXCEED, 0, 0);
		return refuse(DROP_TTL_EXCEEDED);
	}
	return VERDICT_NONE;
}
