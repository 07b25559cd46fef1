/* Packets of balanced connections, the short way: IPv4 with ports, to a member of a pool and back; new ones from outside, too. */
#pragma once

#include "entry_in_line.h"
#include "plain_places.h"
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
	__u8 is_new; /* its connection has to be entered */
	__u32 place; /* of its connection's entry */
	__u64 word;  /* of that entry, or what is in its place */
	__u64 key, new_word; /* of a new one's */
};

enum finding {
	ENTRY_NONE = 0,
	ENTRY_FOUND = 1,
	ENTRY_DOUBTFUL = 2, /* expired, or several */
};

static __always_inline bool is_live(__u64 word, __u8 protocol)
{
	__u32 meta = meta_of(word);

	return (meta & CONNECTION_KIND_MASK) == (protocol | CONNECTION_TRANSLATED << CONNECTION_STATE_SHIFT) && is_entry(word) &&
	       !is_expired(meta, now_tick());
}

/* The domain, if it has connections. */
static __always_inline struct domain *domain_of(const struct standing *s)
{
	__u32 number = s->domain; /* Linux 6.1 takes no key from a function's argument */
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);

	return domain && domain->connections4_used ? domain : NULL;
}

/* The hash of a client's connections, whose line is not needed before the rule is known. */
static __always_inline __u32 expect_client(const struct standing *s, const struct domain *domain, __u32 client, __u16 port)
{
	__u32 hash = hash_of_client(fold4(client), port, s->protocol);

	if (domain)
		expect_set(domain, hash);
	return hash;
}

/* The connection of a client, whose key counts as far as `mask` goes. */
static __always_inline enum finding find_entry(struct standing *s, const struct domain *domain, __u32 hash, __u64 key, __u64 mask, __u64 *addresses)
{
	const struct wanted wanted = {.addresses = key, .addresses_mask = mask, .half = HALF_LOW};

	for (int set = 0; set < 2; set++, hash >>= 16) {
		__u32 number = line_of_set(domain, hash);
		struct line *line = connection_line(number);

		if (!line)
			return ENTRY_DOUBTFUL;
		__u32 way = way_of(line, &wanted);

		if (way > CELLS_PER_LINE)
			return ENTRY_DOUBTFUL;
		if (way == CELLS_PER_LINE)
			continue;
		s->word = *(volatile __u64 *)&line->words[way * 2 + 1];
		*addresses = *(volatile __u64 *)&line->words[way * 2];
		s->place = number * WORDS_PER_LINE + way * 2 + 1;
		return !((*addresses ^ key) & mask) && is_live(s->word, s->protocol) ? ENTRY_FOUND : ENTRY_DOUBTFUL;
	}
	return ENTRY_NONE;
}

static __always_inline struct member *member_of_rule(struct block *choice, const struct rule *rule, __u16 number)
{
	return open_choice(choice, rule->choice) ? member_of(choice, number) : NULL;
}

static __always_inline __u32 hash_of_standing(const struct standing *s, __u8 distribution)
{
	__u32 ports = distribution == 5 ? both_ports(s->source_port, s->destination_port) : 0;

	return hash_words(both_addresses4(s->source, s->destination), ports, distribution == 2 ? 0 : s->protocol);
}

/* A new connection from outside, which needs no port: its member, and where its entry will be. NULL: another program decides. */
static __always_inline struct member *begin_connection(struct standing *s, const struct domain *domain, __u32 hash, const struct rule *rule,
							__u64 key)
{
	struct block choice;

	if (s->origin != FROM_EXTERNAL || !open_choice(&choice, rule->choice))
		return NULL;
	__u32 number = choose_member(&choice, hash_of_standing(s, rule->distribution));
	__u32 meta = s->protocol | (CONNECTION_TRANSLATED | closing(s->tcp_flags)) << CONNECTION_STATE_SHIFT |
		     rule->idle << CONNECTION_GENERATION_SHIFT;

	s->is_new = true;
	s->key = key;
	s->new_word = (__u64)meta << 32 | number;
	s->place = choose_plain_place(domain, hash, &s->word);
	return s->place && number ? member_of(&choice, number) : NULL;
}

static __always_inline struct member *member_of_connection(const struct standing *s, const struct rule *rule)
{
	struct block choice;

	if (is_fresh(s->protocol, s->tcp_flags) && meta_of(s->word) >> CONNECTION_STATE_SHIFT & CONNECTION_CLOSING)
		return NULL;
	struct member *member = member_of_rule(&choice, rule, s->word);

	return keeps_connections(member) ? member : NULL;
}

/* A client's packet: to the member that has the connection, or that gets it. */
static __always_inline bool go_to_member(struct standing *s, const struct block *table, __u32 frontend)
{
	struct table_services *services = line_of(table, 2);
	struct domain *domain = domain_of(s);
	__u32 hash = expect_client(s, domain, s->source, s->source_port);
	struct cell *cell = find_cell(table, &services->rules, rule_key(frontend, s->protocol, s->destination_port));
	struct rule *rule = cell ? rule_at(table, cell->target) : NULL;
	__u64 addresses;

	if (!rule || !domain || rule->kind != RULE_BALANCED || rule->address[V4] != s->destination || rule->floating)
		return false;
	__u64 key = (__u64)cell->target << 48 | (__u64)s->source_port << 32 | s->source;
	enum finding found = find_entry(s, domain, hash, key, ~0ull, &addresses);
	struct member *member = found == ENTRY_FOUND ? member_of_connection(s, rule) :
				found == ENTRY_NONE  ? begin_connection(s, domain, hash, rule, key) :
						       NULL;

	if (!member)
		return false;
	s->from_client = true;
	s->destination = member->address[V4];
	s->destination_port = rule->backend_port;
	if (found == ENTRY_FOUND && (__u16)(s->word >> 16)) {
		s->source = rule->address[V4];
		s->source_port = s->word >> 16;
	}
	return true;
}

/* A member's packet: in the frontend's name to the client. */
static __always_inline bool go_to_client(struct standing *s, const struct block *table)
{
	struct table_services *services = line_of(table, 2);
	__u64 key = (__u64)s->destination_port << 32 | s->destination, addresses;
	struct domain *domain = domain_of(s);
	__u32 hash = hash_of_client(fold4(s->destination), s->destination_port, s->protocol);

	if (!domain || !find_cell(table, &services->translated4, s->source))
		return false;
	if (find_entry(s, domain, hash, key, KEY_OF_CLIENT, &addresses) != ENTRY_FOUND || (__u16)(s->word >> 16))
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

__noinline int enter_standing(__u32 place, __u64 replaced, __u64 key, __u64 word)
{
	take_plain_place(place, replaced, key, word);
	return 0;
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
	if (p->domain != directory->internet && !has_services(p))
		return VERDICT_NONE;
	if (!is_plain(p))
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
