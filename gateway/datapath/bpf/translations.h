/* Connections that a rule translates. One entry serves both directions: it is found by the client, or by the port given to it. */
#pragma once

#include "new_connections.h"
#include "services.h"

#define ECHO_IDLE 6		     /* idle limits, in ticks */
#define OUTBOUND_TCP_IDLE (8 << 3 | 2)
#define OUTBOUND_UDP_IDLE (2 << 3 | 4)

enum sought_by {
	BY_CLIENT = 0,	    /* whatever the rule is */
	BY_CLIENT_AND_RULE = 1,
	BY_REMOTE = 2,	    /* and the remote end's hash */
};

/* What is looked for, and then what was found. */
struct sought {
	struct flow flow; /* low: client. high, last word: client's port | rule << 16. low_port: member. high_port: given port */
	__u32 by;
	__u32 skip; /* so many that fit are not it */
	__s32 way;
};

static __always_inline __u16 sought_port(const struct sought *sought)
{
	return sought->flow.high[V4];
}

static __always_inline __u16 sought_rule(const struct sought *sought)
{
	return sought->flow.high[V4] >> 16;
}

static __always_inline void seek(struct sought *sought, const struct packet *p, const __u32 *client, __u16 port, __u16 rule, __u32 by)
{
	struct flow *flow = &sought->flow;

	__builtin_memset(sought, 0, sizeof(*sought));
	copy6(flow->low, client);
	flow->high[V4] = port | (__u32)rule << 16;
	flow->protocol = p->protocol;
	flow->state = CONNECTION_TRANSLATED;
	flow->six = p->six;
	flow->hash = hash_of_client(fold(client), port, p->protocol);
	sought->by = by;
}

static __always_inline void seek_nat_port(struct sought *sought, const struct packet *p, __u16 port)
{
	const __u32 nobody[4] = {};

	seek(sought, p, nobody, 0, 0, BY_CLIENT);
	sought->flow.high_port = port;
}

/* What a machine sends out: its connections with one remote end are in one part of the region. */
static __always_inline void seek_outbound(struct sought *sought, const struct packet *p, const __u32 *client, __u16 port, __u16 rule, __u16 remote)
{
	seek(sought, p, client, port, rule, BY_REMOTE);
	sought->flow.low_port = remote;
	sought->flow.hash = hash_in_part(sought->flow.hash, part_of_remote(remote));
}

/* A fragment has no ports: its id, and whom it is for, stand in their place. */
static __always_inline void seek_fragment(struct sought *sought, const struct packet *p, __u16 rule)
{
	seek(sought, p, p->source, p->fragment_id ^ mix(fold(p->destination)), rule, BY_CLIENT);
	sought->flow.state |= CONNECTION_FRAGMENT;
}

static __always_inline bool fits(const struct sought *sought, const struct entry *entry, __u64 word)
{
	const struct flow *flow = &sought->flow;
	__u32 high;

	if (flow->six) {
		__u32 *addresses = (void *)addresses6_at(entry->place);

		if (!addresses || !same6(addresses, flow->low))
			return false;
		high = addresses[4 + V4];
	} else {
		__u64 *addresses = addresses_at(entry->place);

		if (!addresses || (__u32)*addresses != flow->low[V4])
			return false;
		high = *addresses >> 32;
	}
	if (sought->by == BY_CLIENT)
		return (__u16)high == (__u16)flow->high[V4];
	return high == flow->high[V4] && (sought->by != BY_REMOTE || (__u16)word == flow->low_port);
}

static __always_inline void read_client(struct flow *flow, __u32 place)
{
	if (flow->six) {
		__u32 *addresses = (void *)addresses6_at(place);

		if (!addresses)
			return;
		copy6(flow->low, addresses);
		flow->high[V4] = addresses[4 + V4];
	} else {
		__u64 *addresses = addresses_at(place);

		if (!addresses)
			return;
		flow->low[V4] = *addresses;
		flow->high[V4] = *addresses >> 32;
	}
}

/* Fills in what the entry has. Returns whether there is one. */
__noinline int find_translation(__u32 number, struct sought *sought)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	struct entry entry;

	if (!domain || !domain->connections4_used || !sought)
		return 0;
	struct flow *flow = &sought->flow;
	__u32 six = flow->six, kind = flow->protocol | (__u32)flow->state << CONNECTION_STATE_SHIFT;

	for (__u32 way = 0; way < ways_of(six); way++) {
		if (!entry_at(&entry, domain, flow, six, way))
			return 0;
		__u64 word = *(volatile __u64 *)entry.ports_and_meta;

		if ((meta_of(word) & CONNECTION_KIND_MASK) != kind || !is_entry(word) || !fits(sought, &entry, word) || is_expired(meta_of(word), now_tick()))
			continue;
		if (sought->skip) {
			sought->skip--;
			continue;
		}
		read_client(flow, entry.place);
		if (*(volatile __u64 *)entry.ports_and_meta != word)
			continue;
		flow->low_port = word;
		flow->high_port = word >> 16;
		flow->word = word;
		sought->way = way;
		return 1;
	}
	return 0;
}

/* After a packet of it, in its client's direction or back. */
static __always_inline void touch_translation(__u32 number, const struct sought *sought, bool from_client, __u8 tcp_flags)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	struct entry entry;

	if (domain && entry_at(&entry, domain, &sought->flow, sought->flow.six, sought->way))
		touch_connection(&entry, sought->flow.word, from_client, tcp_flags, meta_of(sought->flow.word) >> CONNECTION_GENERATION_SHIFT);
}

/* Unless a packet of it has just come. */
static __always_inline void forget_translation(__u32 number, const struct sought *sought)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	struct entry entry;

	if (domain && entry_at(&entry, domain, &sought->flow, sought->flow.six, sought->way))
		__sync_val_compare_and_swap(entry.ports_and_meta, sought->flow.word, 0);
}

/* Writes a connection that was sought: in its place if it was found, else in a new one. */
static __always_inline void put_connection(__u32 number, const struct sought *sought, bool found)
{
	struct place place = {PLACE_EMPTY, sought->way, sought->flow.word};

	if (found)
		take_place(number, &sought->flow, &place, 1);
	else
		add_connection(number, &sought->flow, 1);
}
