/*
 * Packets for and from frontends (load balancing, NAT): what becomes of their addresses. From here on the packet in hand has the
 * view of the machine behind the frontend: its address, not the frontend's, and the client's own.
 */
#pragma once

#include "flow_admission.h"
#include "lent_ports.h"
#include "order.h"
#include "route.h"
#include "translate.h"
#include "tunnel.h"

#define IKE_PORT 500
#define IKE_NAT_PORT 4500
#define SAME_KEY_TRIES 3 /* connections of one client and port that are looked at */

/* What was found out about the packet in hand; in map memory too. */
struct balancing {
	struct sought sought;
	struct sought other; /* connection that may be in the way, or first fragment to be remembered */
	struct lending lending;
	struct quoted quoted; /* in the view of the machine */
	__u32 from[4]; /* the rule's address */
	__u32 rule; /* number, 0: no rule has to do with it */
	__u16 member;
	bool found;    /* the connection was there */
	bool is_new;   /* it has to be made, or made anew */
	bool settles;  /* this packet makes a connection, or goes the way that its first one went */
	bool internet; /* the packet leaves by the Internet's routes */
	bool ordinary; /* a first fragment that may have been a rule's: later ones have to know if it was none's */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct balancing);
} balancings SEC(".maps");

static __always_inline struct balancing *balancing_in_hand(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&balancings, &zero);
}

static __always_inline bool enter_owner(struct packet *p)
{
	__u32 arrival = p->arrival_line;
	bool entered = enter_domain(p, p->owner);

	p->arrival_line = arrival;
	return entered;
}

static __always_inline void send_from(struct packet *p, struct rewriting *r, const __u32 *address, __u16 port)
{
	copy6(r->source.address, address);
	r->source.port = port;
	p->translated |= TRANSLATE_SOURCE;
}

static __always_inline void send_to(struct packet *p, const __u32 *address, __u16 port)
{
	copy6(p->destination, address);
	p->destination_port = port;
	p->translated |= TRANSLATE_DESTINATION;
}

static __always_inline bool is_address_of_member(const struct rule *rule, __u32 number, const __u32 *address)
{
	struct block block;

	if (!open_choice(&block, rule->choice))
		return false;
	struct member *member = member_of(&block, number);

	return member && same6(member->address, address);
}

/* What is above the low bits of a lent port hangs on the address alone: later fragments have no port. */
static __always_inline __u16 hash_of_remote(const struct packet *p, const __u32 *address, __u16 port)
{
	__u32 of_address = fold(address);

	return (mix(of_address) & ~PORT_LOW) | (mix(of_address ^ (has_ports(p->protocol) ? port : 0)) & PORT_LOW);
}

/* A client's connection of a rule. Those with a lent port, of clients inside, are in one part of the region. */
static __always_inline bool find_of_rule(const struct packet *p, struct sought *sought, const __u32 *client, __u16 port, __u16 rule)
{
	seek(sought, p, client, port, rule, BY_CLIENT_AND_RULE);
	__u32 hash = sought->flow.hash, in_part = hash_in_part(hash, 0);

	if (find_translation(p->domain, sought))
		return true;
	if (p->origin == FROM_EXTERNAL || hash == in_part)
		return false;
	sought->flow.hash = in_part;
	bool found = find_translation(p->domain, sought);

	if (!found)
		sought->flow.hash = hash;
	return found;
}

/* A client's packet for a rule: which member. */
static __always_inline MUST_CHECK int balance(struct packet *p, struct balancing *b, const struct rule *rule)
{
	struct block block;
	struct member *member = NULL;

	if (!open_choice(&block, rule->choice))
		return DROP_NO_MEMBER;
	b->found = find_of_rule(p, &b->sought, p->source, p->source_port, b->rule);
	if (b->found)
		member = member_of(&block, b->sought.flow.low_port);
	bool closing = meta_of(b->sought.flow.word) >> CONNECTION_STATE_SHIFT & CONNECTION_CLOSING;
	bool fresh = is_fresh(p->protocol, p->tcp_flags);

	copy6(b->from, rule->address);
	b->settles = true;
	b->member = b->sought.flow.low_port;
	b->is_new = !b->found || !keeps_connections(member) || (fresh && closing);
	if (b->is_new) {
		b->member = choose_member(&block, balance_hash(p, rule->distribution));
		member = member_of(&block, b->member);
		if (!member)
			return DROP_NO_MEMBER;
	}
	if (rule->floating)
		copy6(p->destination, member->address);
	else
		send_to(p, member->address, rule->backend_port);
	return VERDICT_NONE;
}

/* Is the connection found the one that a packet from the other side belongs to? */
static __always_inline bool comes_from_remote(const struct packet *p, const struct balancing *b, const struct rule *rule)
{
	if (rule->kind == RULE_OUTBOUND)
		return b->sought.flow.low_port == hash_of_remote(p, p->source, p->source_port);
	return p->source_port == machine_port(rule) && is_address_of_member(rule, b->sought.flow.low_port, p->source);
}

/* A packet to a port that a frontend lent: back to whom it was lent to. */
static __always_inline MUST_CHECK int restore(struct packet *p, struct rewriting *r, struct balancing *b)
{
	struct rule *rule = rule_of(p, sought_rule(&b->sought));

	if (!rule || rule->frontend != p->frontend || !lends(rule, b->sought.flow.high_port) || !comes_from_remote(p, b, rule))
		return DROP_VIP_NOT_SERVED;
	b->rule = sought_rule(&b->sought);
	touch_translation(p->domain, &b->sought, false, p->tcp_flags);
	send_to(p, b->sought.flow.low, sought_port(&b->sought));
	if (rule->kind == RULE_BALANCED)
		send_from(p, r, rule->address, rule->port);
	else if (!has_ports(p->protocol))
		p->source_port = p->destination_port; /* both are the identifier */
	return VERDICT_NONE;
}

static __always_inline MUST_CHECK int not_served(struct packet *p)
{
	if (p->protocol == IPPROTO_UDP && !(p->fragment & 2))
		owe_error(p, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0);
	return DROP_VIP_NOT_SERVED;
}

/* A later fragment goes where its first one went; never elsewhere, if that way is gone. VERDICT_CONSUMED: that was none of a rule's. */
static __always_inline MUST_CHECK int follow_fragment(struct packet *p, struct rewriting *r, struct balancing *b)
{
	seek_fragment(&b->sought, p, 0);
	b->found = find_translation(p->domain, &b->sought);
	if (!b->found)
		return DROP_FRAGMENT_UNMATCHED;
	if (!sought_rule(&b->sought) && p->service == SERVICE_FROM_MACHINE)
		return VERDICT_CONSUMED;
	struct rule *rule = rule_of(p, sought_rule(&b->sought));
	__u16 member = b->sought.flow.low_port, port = b->sought.flow.high_port;
	struct block block;

	if (!rule)
		return DROP_FRAGMENT_UNMATCHED;
	if (p->service != SERVICE_TO_FRONTEND) {
		send_from(p, r, rule->address, rule->port);
		b->internet = rule->is_public;
		return VERDICT_NONE;
	}
	if (rule->frontend != p->frontend)
		return DROP_FRAGMENT_UNMATCHED;
	if (!member) { /* it was for a port that had been lent */
		seek_nat_port(&b->sought, p, port);
		if (!lends(rule, port) || !find_lent_port(p->domain, &b->sought, hash_of_remote(p, p->source, 0)))
			return DROP_FRAGMENT_UNMATCHED;
		send_to(p, b->sought.flow.low, sought_port(&b->sought));
		if (rule->kind == RULE_BALANCED)
			send_from(p, r, rule->address, rule->port);
		return VERDICT_NONE;
	}
	if (!open_choice(&block, rule->choice) || !member_of(&block, member))
		return DROP_FRAGMENT_UNMATCHED;
	if (rule->floating)
		copy6(p->destination, member_of(&block, member)->address);
	else
		send_to(p, member_of(&block, member)->address, rule->backend_port);
	if (port)
		send_from(p, r, rule->address, port);
	return VERDICT_NONE;
}

/* For later fragments of a packet that its first fragment stands for. */
static __always_inline void remember_fragments(const struct packet *p, struct sought *sought, const __u32 *destination, __u16 rule, __u16 member, __u16 port)
{
	seek_fragment(sought, p, rule);
	sought->flow.high[V4] = (__u16)(p->fragment_id ^ mix(fold(destination))) | (__u32)rule << 16;
	sought->flow.hash = hash_of_client(fold(p->source), p->fragment_id ^ mix(fold(destination)), p->protocol);
	bool found = find_translation(p->domain, sought); /* of an earlier packet with this id: that is over */

	sought->flow.high[V4] = (__u16)(p->fragment_id ^ mix(fold(destination))) | (__u32)rule << 16;
	sought->flow.low_port = member;
	sought->flow.high_port = port;
	put_connection(p->domain, sought, found);
}

/* Would the answer reach the client without passing here, or not at all? */
static __always_inline bool needs_port(const struct packet *p, const struct rule *rule)
{
	if (rule->kind == RULE_OUTBOUND)
		return true;
	return p->origin != FROM_EXTERNAL && !rule->floating && (services_of(p)->distributed || subnet_of(p, p->subnet)->vsid == p->vsid);
}

static __always_inline bool make_connection(const struct packet *p, struct balancing *b, const struct rule *rule, __u8 idle)
{
	struct flow *flow = &b->sought.flow;
	struct place place = {PLACE_EMPTY, b->sought.way, flow->word};
	bool port = needs_port(p, rule);

	if (b->found && port && !flow->high_port) {
		forget_translation(p->domain, &b->sought);
		b->found = false;
	}
	flow->low_port = b->member;
	flow->state |= closing(p->tcp_flags) | (rule->kind == RULE_OUTBOUND ? CONNECTION_OUTBOUND : 0);
	if (!b->found) {
		flow->high_port = 0;
		if (port && rule->kind != RULE_OUTBOUND)
			flow->hash = hash_in_part(flow->hash, 0);
		if (!place_translation(p, flow, &b->other, &b->lending, rule, port, &place))
			return false;
	}
	return take_place(p->domain, flow, &place, idle);
}

/* Once the way is known: the connection, and the address that the packet leaves with. */
static __always_inline MUST_CHECK int settle(struct packet *p, struct rewriting *r, struct balancing *b, __u8 idle)
{
	struct rule *rule = rule_of(p, b->rule);

	if (!rule)
		return DROP_TRANSLATION_MISSING;
	if (!b->is_new)
		touch_translation(p->domain, &b->sought, true, p->tcp_flags);
	else if (!make_connection(p, b, rule, idle))
		return needs_port(p, rule) ? DROP_NAT_EXHAUSTED : VERDICT_NONE;
	if (b->sought.flow.high_port)
		send_from(p, r, rule->address, b->sought.flow.high_port);
	return VERDICT_NONE;
}

/* Later fragments follow this first one. */
static __always_inline void remember(const struct packet *p, const struct rewriting *r, struct balancing *b)
{
	if (p->fragment == 1 && (b->rule || b->ordinary))
		remember_fragments(p, &b->other, r->came_to, b->rule, b->settles || p->service != SERVICE_TO_FRONTEND ? b->member : 0, b->sought.flow.high_port);
}
