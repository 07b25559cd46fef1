/* Whose an address is that ARP or neighbour discovery asks about: a machine's of the virtual subnet, or the gateway's own. */
#pragma once

#include "reflect.h"
#include "route.h"

/* The VSID inside which an exact entry's address is. */
static __always_inline __u32 vsid_of(const struct packet *p, __u32 target, __u32 index)
{
	struct table_services *services = services_of(p);

	if (!is_frontend(target))
		return subnet_of(p, index)->vsid;
	struct frontend *frontend = line_of(&p->table, services->frontends + index);

	return frontend->vsid;
}

/* Whose MAC answers for an address asked about inside a virtual subnet; 0: nobody's. */
static __always_inline __u64 mac_in_subnet(const struct packet *p, const __u32 *target, const __u32 *sender, __u64 sender_mac, bool *router)
{
	struct table *table = table_of(p);
	__u32 leaf, entry = 0, index = 0;
	__u64 mac = 0;

	if (is_six(p)) {
		struct cell6 *cell = find_cell6(&p->table, &table->exact6, target);

		leaf = search6(&p->table, table->prefixes6, target);
		if (cell) {
			mac = mac_of(cell->mac);
			entry = cell->target;
			index = cell->index;
			*router = cell->target == TARGET_LOCAL || is_frontend(cell->target);
		}
	} else {
		struct cell *cell = find_cell(&p->table, &table->exact4, target[V4]);

		leaf = search4(&p->table, table->prefixes4, target[V4]);
		if (cell) {
			mac = mac_of(cell->mac);
			entry = cell->target;
			index = cell->index;
			*router = cell->target == TARGET_LOCAL || is_frontend(cell->target);
		}
	}
	if (mac) {
		if (!*router && (mac == sender_mac || same6(sender, target)))
			return 0;
		return vsid_of(p, entry, index) == p->vsid ? mac : 0;
	}
	struct next_hop *hop = line_of(&p->table, leaf & LEAF_LINE_MASK);

	return leaf & LEAF_LINE_MASK && hop->inside == p->vsid ? own_mac(p) : 0;
}

/* Is an exact entry one of the external port's addresses, or public and on the port's own network? */
static __always_inline bool is_for_link(const struct packet *p, __u32 leaf, __u32 target, __u32 index, __u32 link)
{
	struct next_hop *hop = line_of(&p->table, leaf & LEAF_LINE_MASK);

	if (target == TARGET_LOCAL)
		return index == link;
	return is_frontend(target) && leaf & LEAF_LINE_MASK && hop->kind == NEXT_HOP_EXTERNAL && hop->target == p->port && zero6(hop->gateway);
}

/* Is it an address of the gateway's on the external port that the question came in by? */
static __always_inline bool is_link_address(const struct packet *p, const __u32 *target)
{
	struct table *table = table_of(p);
	struct cell *link = find_cell(&p->table, &more_of(p)->links, p->port);

	if (!link)
		return false;
	if (is_six(p)) {
		struct cell6 *cell = find_cell6(&p->table, &table->exact6, target);

		return cell && is_for_link(p, search6(&p->table, table->prefixes6, target), cell->target, cell->index, link->index);
	}
	struct cell *cell = find_cell(&p->table, &table->exact4, target[V4]);

	return cell && is_for_link(p, search4(&p->table, table->prefixes4, target[V4]), cell->target, cell->index, link->index);
}
