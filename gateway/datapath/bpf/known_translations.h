/* Packets of balanced connections that stand, the short way: IPv4 with ports, to a member of a pool and back. */
#pragma once

#include "connections.h"
#include "route.h"
#include "services.h"
#include "translate.h"

#define KEY_OF_CLIENT 0x0000ffffffffffffull /* without the rule */

/* A packet; then what becomes of it. */
struct standing {
	__u32 domain, table_line;
	__u32 source, destination;
	__u16 source_port, destination_port;
	__u8 protocol, tcp_flags, origin;
	__u8 internet; /* it leaves by the Internet's routes */
	__u8 from_client;
	__u32 place; /* of its connection's entry, counted over the whole map from 1 on */
	__u64 word;  /* of that entry */
};

static __always_inline bool is_live(__u64 word, __u8 protocol)
{
	__u32 meta = meta_of(word);

	return (meta & CONNECTION_KIND_MASK) == (protocol | CONNECTION_TRANSLATED << CONNECTION_STATE_SHIFT) && is_entry(word) &&
	       !is_expired(meta, now_tick());
}

/* The connection of a client, whose key counts as far as `mask` goes. */
static __always_inline bool find_entry(struct standing *s, __u64 key, __u64 mask, __u64 *addresses)
{
	__u32 domain_number = s->domain; /* Linux 6.1 takes no key from a function's argument */
	struct domain *domain = bpf_map_lookup_elem(&domains, &domain_number);
	__u32 hash = hash_of_client(fold4(key), key >> 32, s->protocol);

	if (!domain || !domain->connections4_used)
		return false;
	for (int set = 0; set < 2; set++, hash >>= 16) {
		__u32 number = domain->connections4 + (hash & (domain->connections4_used - 1));
		struct line *line = connection_line(number);

		if (!line)
			return false;
		__u32 way = way_of(line, key, mask, 0, 0);

		if (way >= CELLS_PER_LINE)
			continue;
		s->word = *(volatile __u64 *)&line->words[way * 2 + 1];
		*addresses = *(volatile __u64 *)&line->words[way * 2];
		s->place = number * CELLS_PER_LINE + way + 1;
		return !((*addresses ^ key) & mask) && is_live(s->word, s->protocol);
	}
	return false;
}

static __always_inline struct member *member_of_rule(struct block *choice, const struct rule *rule, __u16 number)
{
	return open_choice(choice, rule->choice) ? member_of(choice, number) : NULL;
}

/*
 * Begins to fetch the slot that will choose a member, while the entry that nobody has found is still on its way from memory: those
 * two lines are most of what a new connection waits for.
 */
static __always_inline void fetch_slot(const struct standing *s, const struct rule *rule)
{
	struct block choice;

	if (rule->distribution == 5 && open_choice(&choice, rule->choice))
		choose_member(&choice, hash_words(both_addresses4(s->source, s->destination), both_ports(s->source_port, s->destination_port), s->protocol));
}

/* A client's packet: to the member that has the connection. */
static __always_inline bool go_to_member(struct standing *s, const struct block *table, __u32 frontend)
{
	struct table_services *services = line_of(table, 2);
	struct cell *cell = find_cell(table, &services->rules, rule_key(frontend, s->protocol, s->destination_port));
	struct rule *rule = cell ? rule_at(table, cell->target) : NULL;
	__u64 addresses;

	if (!rule || rule->kind != RULE_BALANCED || rule->address[V4] != s->destination || rule->floating)
		return false;
	if (!find_entry(s, (__u64)cell->target << 48 | (__u64)s->source_port << 32 | s->source, ~0ull, &addresses)) {
		fetch_slot(s, rule);
		return false;
	}
	if (is_fresh(s->protocol, s->tcp_flags) && meta_of(s->word) >> CONNECTION_STATE_SHIFT & CONNECTION_CLOSING)
		return false;
	struct block choice;
	struct member *member = member_of_rule(&choice, rule, s->word);

	if (!keeps_connections(member))
		return false;
	s->from_client = true;
	s->destination = member->address[V4];
	s->destination_port = rule->backend_port;
	if ((__u16)(s->word >> 16)) {
		s->source = rule->address[V4];
		s->source_port = s->word >> 16;
	}
	return true;
}

/* A member's packet: in the frontend's name to the client. */
static __always_inline bool go_to_client(struct standing *s, const struct block *table)
{
	struct table_services *services = line_of(table, 2);
	__u64 addresses;

	if (!find_cell(table, &services->translated4, s->source))
		return false;
	if (!find_entry(s, (__u64)s->destination_port << 32 | s->destination, KEY_OF_CLIENT, &addresses) || (__u16)(s->word >> 16))
		return false;
	struct rule *rule = rule_at(table, addresses >> 48);

	if (!rule || rule->kind != RULE_BALANCED || s->source_port != machine_port(rule))
		return false;
	struct block choice;
	struct member *member = member_of_rule(&choice, rule, s->word);

	if (!member || member->address[V4] != s->source)
		return false;
	s->from_client = false;
	s->source = rule->address[V4];
	s->source_port = rule->port;
	s->internet = rule->is_public;
	return true;
}

/* What becomes of a packet whose connection stands, and that no access list has to be asked about. */
__noinline int find_standing(struct standing *s)
{
	struct block block;

	if (!s || !open_block(&block, s->table_line))
		return 0;
	struct table *table = line_of(&block, 0);
	struct cell *cell = find_cell(&block, &table->exact4, s->destination);

	if (cell && is_frontend(cell->target)) {
		__u32 owner = cell->target & (DOMAINS_MAX - 1), frontend = cell->index;

		if (owner != s->domain) {
			s->domain = owner;
			s->table_line = table_line_of(owner);
			if (!s->table_line || !open_block(&block, s->table_line))
				return 0;
			table = line_of(&block, 0);
		}
		return (table->flags & (TABLE_LISTS | TABLE_SERVICES)) == TABLE_SERVICES && go_to_member(s, &block, frontend);
	}
	return s->origin == FROM_OVERLAY && (table->flags & (TABLE_LISTS | TABLE_SERVICES)) == TABLE_SERVICES && go_to_client(s, &block);
}

/* After a packet of it that goes on. */
__noinline int touch_standing(__u32 place, __u64 word, __u32 from_client, __u32 tcp_flags)
{
	struct entry entry;

	if (entry_at_place(&entry, place))
		touch_connection(&entry, word, from_client, tcp_flags, meta_of(word) >> CONNECTION_GENERATION_SHIFT);
	return 0;
}

/* If its connection stands, the packet takes the view of the machine behind the frontend, as the balancing program has it. */
static __always_inline MUST_CHECK int take_standing(struct packet *p, const struct directory *directory, struct standing *s)
{
	if (is_six(p) || p->fragment || !has_ports(p->protocol))
		return VERDICT_NONE;
	if (p->domain != directory->internet && !has_services(p))
		return VERDICT_NONE;
	*s = (struct standing){
		.domain = p->domain,
		.table_line = p->table_line,
		.source = p->source[V4],
		.destination = p->destination[V4],
		.source_port = p->source_port,
		.destination_port = p->destination_port,
		.protocol = p->protocol,
		.tcp_flags = p->tcp_flags,
		.origin = p->origin,
	};
	if (!find_standing(s))
		return VERDICT_NONE;
	p->domain = s->domain;
	p->table_line = s->table_line;
	p->destination[V4] = s->destination;
	p->destination_port = s->destination_port;
	p->sender = s->source;
	p->sender_port = s->source_port;
	p->translated = TRANSLATE_PLAIN;
	__u32 line = s->internet ? table_line_of(directory->internet) : s->table_line;

	return line && open_block(&p->table, line) ? VERDICT_NONE : DROP_NO_ROUTE;
}
