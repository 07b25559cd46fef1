/* What machines behind frontends send: answers in a frontend's name, and packets to the Internet. */
#pragma once

#include "quotes.h"

/* The connection of a rule whose machine is at `address` and `port`, among those of this client. */
static __always_inline bool find_answered(const struct packet *p, struct balancing *b, const __u32 *client, __u16 client_port, const __u32 *address, __u16 port)
{
	seek(&b->sought, p, client, client_port, 0, BY_CLIENT);
	for (__u32 i = 0; i < SAME_KEY_TRIES; i++) {
		b->sought.skip = i;
		if (!find_translation(p->domain, &b->sought))
			return false;
		b->rule = sought_rule(&b->sought);
		struct rule *rule = rule_of(p, b->rule);

		if (rule && rule->kind == RULE_BALANCED && !b->sought.flow.high_port && machine_port(rule) == port &&
		    is_address_of_member(rule, b->sought.flow.low_port, address))
			return true;
	}
	return false;
}

static __always_inline void answer_for(struct packet *p, struct rewriting *r, struct balancing *b, const struct rule *rule)
{
	send_from(p, r, rule->address, rule->port);
	b->internet = rule->is_public;
}

/* Without a connection: the only public rule that leads to this port of the machine. */
static __always_inline struct rule *fallback_for(const struct packet *p, const struct translated *translated, __u32 *number)
{
	for (__u32 i = 0; i < FALLBACKS; i++) {
		if (i >= translated->count)
			break;
		if (translated->fallbacks[i].port == p->source_port) {
			struct rule *rule = rule_of(p, translated->fallbacks[i].rule);

			if (rule && rule->protocol == p->protocol) {
				*number = translated->fallbacks[i].rule;
				return rule;
			}
		}
	}
	return NULL;
}

/* Who lends a machine of the virtual subnet a port. */
static __always_inline struct rule *outbound_rule(const struct packet *p, const __u32 *machine, __u32 *number)
{
	struct cell *cell = find_cell(&p->table, &more_of(p)->vsids, p->vsid);

	if (!cell)
		return NULL;
	struct subnet *subnet = subnet_of(p, cell->index);

	__u32 customers = is_six(p) ? subnet->customers6 : subnet->customers4;
	struct address address;

	copy6(address.words, machine);
	*number = customers    ? find_customer(p->table_line, customers, &address, p->six) :
		  is_six(p) ? subnet->outbound6 :
			      subnet->outbound4;
	return rule_of(p, *number);
}

static __always_inline __u8 outbound_idle(__u8 protocol)
{
	return protocol == IPPROTO_TCP ? OUTBOUND_TCP_IDLE : protocol == IPPROTO_UDP ? OUTBOUND_UDP_IDLE : ECHO_IDLE;
}

/* The public address of one machine alone. */
static __always_inline const __u32 *own_public_address(const struct packet *p, const __u32 *machine)
{
	struct translated *translated = translated_of(p, machine);
	struct table_services *services = services_of(p);
	struct frontend *frontend;

	if (!translated || !translated->frontend_after)
		return NULL;
	frontend = line_of(&p->table, services->frontends + translated->frontend_after - 1);
	return frontend->address;
}

static __always_inline __u8 idle_of(const struct packet *p, const struct balancing *b)
{
	struct rule *rule = rule_of(p, b->rule);

	return !rule || rule->kind == RULE_OUTBOUND ? outbound_idle(p->protocol) : rule->idle;
}

/* A packet that no route of its domain leads anywhere. */
static __always_inline MUST_CHECK int reach_internet(struct packet *p, struct rewriting *r, struct balancing *b)
{
	const __u32 *address = own_public_address(p, p->source);
	struct rule *rule;

	b->internet = true;
	if (address) {
		send_from(p, r, address, p->source_port);
		return VERDICT_NONE;
	}
	rule = outbound_rule(p, p->source, &b->rule);
	if (!rule)
		return p->verdict;
	copy6(b->from, rule->address);
	p->error_type = 0;
	if (p->fragment & 2)
		return overtook(p);
	if (!has_ports(p->protocol) && !asks_for_echo(p))
		return DROP_NOT_TRANSLATABLE;
	if (is_overtaken(p, &b->sought))
		return VERDICT_ORDERED;
	b->member = hash_of_remote(p, p->destination, p->destination_port);
	seek_outbound(&b->sought, p, p->source, p->source_port, b->rule, b->member);
	b->found = find_translation(p->domain, &b->sought);
	if (b->found && !lends(rule, b->sought.flow.high_port)) {
		forget_translation(p->domain, &b->sought);
		b->found = false;
	}
	b->is_new = !b->found;
	b->settles = true;
	return VERDICT_NONE;
}

/* An ICMP error of the inside about what a client, or the Internet, had sent. False: it is none of these. */
static __always_inline bool error_from_inside(struct xdp_md *ctx, struct packet *p, struct rewriting *r, struct balancing *b)
{
	__u8 protocol = p->protocol;
	struct rule *rule;
	struct quoted *q = &b->quoted;

	if (!read_quote(ctx, p, q))
		return false;
	p->protocol = q->protocol;
	bool answered = find_answered(p, b, q->source, q->source_port, q->destination, q->destination_port);

	p->protocol = protocol;
	if (answered) {
		rule = rule_of(p, b->rule);
		if (!rule)
			return false;
		if (rule->is_public || same6(p->source, q->destination))
			send_from(p, r, rule->address, 0);
		if (!rule->floating)
			quote_to(p, r, rule->address, rule->port);
		b->internet = rule->is_public;
		return true;
	}
	if (p->verdict != DROP_NO_ROUTE)
		return false;
	const __u32 *address = own_public_address(p, q->destination);

	b->internet = true;
	if (address) {
		send_from(p, r, address, 0);
		quote_to(p, r, address, q->destination_port);
		return true;
	}
	rule = outbound_rule(p, q->destination, &b->rule);
	p->protocol = q->protocol;
	seek_outbound(&b->sought, p, q->destination, q->destination_port, b->rule, hash_of_remote(p, q->source, q->source_port));
	bool found = find_translation(p->domain, &b->sought);

	p->protocol = protocol;
	if (!rule || !found || !lends(rule, b->sought.flow.high_port))
		return false;
	send_from(p, r, rule->address, 0);
	quote_to(p, r, rule->address, b->sought.flow.high_port);
	return true;
}

/* A packet of a machine that may answer for a frontend, or did so with a first fragment. VERDICT_CONSUMED: it is an ordinary one. */
static __always_inline MUST_CHECK int from_machine(struct xdp_md *ctx, struct packet *p, struct rewriting *r, struct balancing *b)
{
	bool no_route = p->verdict == DROP_NO_ROUTE;

	if (is_icmp_error(p))
		return error_from_inside(ctx, p, r, b) ? VERDICT_NONE : no_route ? p->verdict : VERDICT_CONSUMED;
	struct translated *translated = translated_of(p, p->source);
	bool may_answer = translated && translated->protocols & protocol_bit(p->protocol);

	if ((may_answer || p->fragment & 2) && is_overtaken(p, &b->sought))
		return VERDICT_ORDERED;
	if (p->fragment & 2) {
		int verdict = follow_fragment(p, r, b);

		if (b->found && verdict != VERDICT_CONSUMED)
			return verdict;
		if (!b->found && may_answer)
			return overtook(p);
		return no_route ? reach_internet(p, r, b) : VERDICT_CONSUMED;
	}
	b->ordinary = may_answer && p->fragment;
	if (has_ports(p->protocol) && find_answered(p, b, p->destination, p->destination_port, p->source, p->source_port)) {
		struct rule *rule = rule_of(p, b->rule);

		if (!rule)
			return DROP_TRANSLATION_MISSING;
		touch_translation(p->domain, &b->sought, false, p->tcp_flags);
		answer_for(p, r, b, rule);
		return VERDICT_NONE;
	}
	b->rule = 0;
	if (!no_route)
		return VERDICT_CONSUMED;
	struct rule *rule = translated && has_ports(p->protocol) ? fallback_for(p, translated, &b->rule) : NULL;

	if (!rule)
		return reach_internet(p, r, b);
	answer_for(p, r, b, rule);
	return VERDICT_NONE;
}
