/* What a routing domain's frontends stand for: rules, choices of members, addresses that are translated. */
#pragma once

#include "packet.h"

enum service { /* why a packet needs more than a route */
	SERVICE_NONE = 0,
	SERVICE_TO_FRONTEND = 1,
	SERVICE_FROM_MACHINE = 2, /* that may answer for a frontend, or may have begun to */
	SERVICE_OUTBOUND = 3,	  /* no route of its domain's leads there */
};

static __always_inline struct table_services *services_of(const struct packet *p)
{
	return line_of(&p->table, 2);
}

static __always_inline bool has_services(const struct packet *p)
{
	return table_of(p)->flags & TABLE_SERVICES;
}

/* NULL: it is not there, or its number is another's by now. */
static __always_inline struct frontend *frontend_of(const struct packet *p, __u32 number)
{
	struct table_services *services = services_of(p);
	struct frontend *frontend = line_of(&p->table, services->frontends + number);

	return number < services->frontend_count && same6(frontend->address, p->destination) ? frontend : NULL;
}

static __always_inline struct rule *rule_at(const struct block *table, __u32 number)
{
	struct table_services *services = line_of(table, 2);
	struct rule *rule = line_of(table, services->numbered + number);

	return number < services->rule_count && rule->kind ? rule : NULL;
}

static __always_inline struct rule *rule_of(const struct packet *p, __u32 number)
{
	return rule_at(&p->table, number);
}

static __always_inline __u16 machine_port(const struct rule *rule)
{
	return rule->floating ? rule->port : rule->backend_port;
}

static __always_inline __u32 rule_key(__u32 frontend, __u8 protocol, __u16 port)
{
	return (frontend + 1) << 17 | (protocol == IPPROTO_UDP) << 16 | bpf_ntohs(port);
}

/* The number of the rule for a port of a frontend, 0: there is none. */
static __always_inline __u32 find_rule(const struct packet *p, __u32 frontend, __u8 protocol, __u16 port)
{
	struct cell *cell = find_cell(&p->table, &services_of(p)->rules, rule_key(frontend, protocol, port));

	return cell ? cell->target : 0;
}

/* The same question of a loop, verified once. */
__noinline int is_rule(__u32 table_line, __u32 key)
{
	struct block table;

	if (!open_block(&table, table_line))
		return 0;
	struct table_services *services = line_of(&table, 2);

	return !!find_cell(&table, &services->rules, key);
}

static __always_inline struct translated *translated_of(const struct packet *p, const __u32 *address)
{
	struct table_services *services = services_of(p);
	__u32 line;

	if (is_six(p)) {
		struct cell6 *cell = find_cell6(&p->table, &services->translated6, address);

		line = cell ? cell->target : 0;
	} else {
		struct cell *cell = find_cell(&p->table, &services->translated4, address[V4]);

		line = cell ? cell->target : 0;
	}
	return line ? line_of(&p->table, line) : NULL;
}

static __always_inline __u8 protocol_bit(__u8 protocol)
{
	return protocol == IPPROTO_TCP ? PROTOCOL_TCP : protocol == IPPROTO_UDP ? PROTOCOL_UDP : 0;
}

struct address {
	__u32 words[4];
};

/* Does anything become of what this address sends? Asked by the first program, which has no room for it to be verified inline. */
__noinline int is_translated(__u32 table_line, const struct address *address, __u32 six)
{
	struct block table;

	if (!address || !open_block(&table, table_line))
		return 0;
	struct table_services *services = line_of(&table, 2);

	return six ? !!find_cell6(&table, &services->translated6, address->words) : !!find_cell(&table, &services->translated4, address->words[V4]);
}

/* The outbound rule of a machine, where a virtual subnet has several. */
__noinline int find_customer(__u32 table_line, __u32 word, const struct address *machine, __u32 six)
{
	struct block table;

	if (!machine || !open_block(&table, table_line))
		return 0;
	return six ? search6(&table, word, machine->words) : search4(&table, word, machine->words[V4]);
}

static __always_inline bool open_choice(struct block *block, __u32 number)
{
	__u32 line = *(volatile __u32 *)&choices[number & (CHOICES_MAX - 1)].line;

	return line && open_block(block, line);
}

/* NULL: it is no member any more. */
static __always_inline struct member *member_of(const struct block *block, __u32 number)
{
	struct choice *choice = line_of(block, 0);
	struct member *member = address_in(block, choice->members, number * sizeof(*member));

	return number < choice->member_count && member->state != MEMBER_ABSENT ? member : NULL;
}

static __always_inline bool keeps_connections(const struct member *member)
{
	return member && (member->state == MEMBER_ACTIVE || member->state == MEMBER_DRAINING);
}

/* Who takes a new connection; 0: nobody. */
static __always_inline __u32 choose_member(const struct block *block, __u32 hash)
{
	struct choice *choice = line_of(block, 0);
	__u32 slot = (__u64)hash * choice->slot_count >> 32;

	return choice->slot_count ? *(volatile __u16 *)address_in(block, choice->slots, slot * sizeof(__u16)) : 0;
}

/* Like flow_hash, of as much of the tuple as the rule says. */
static __always_inline __u32 balance_hash(const struct packet *p, __u8 distribution)
{
	__u32 ports = distribution == 5 ? both_ports(p->source_port, p->destination_port) : 0;

	return hash_tuple(p, ports, distribution == 2 ? 0 : p->protocol);
}
