/*
 * Flows that access lists have allowed. Each routing domain has a region of its own, so that no tenant's flood reaches another's
 * entries. A flow has two sets of places where it may be. A new one takes an empty or expired place, else that of a flow which
 * goes to its other set, else the part of the region that is in use grows until there is one, else it takes the place of the oldest
 * unanswered flow, never an answered one's.
 */
#pragma once

#include "packet.h"

#define WAYS4 8 /* of both sets together */
#define WAYS6 16
#define LINES_OF_SET6 (1 + ENDS6_PER_LINE / ADDRESSES6_PER_LINE)
#define WORDS_PER_LINE 8
#define PORT_LOW ((1 << BLOCK_SHIFT) - 1) /* of a lent port, what is not its block */
#define PORT_SETS 16 /* in which the connection with a lent port can be: they follow each other */
#define BEING_WRITTEN (1ull << 32) /* no generation */
#define SECONDS_TO_TICKS(s) (((__u64)(s) * 1000000000 >> CONNECTION_TICK_SHIFT) + 1)

struct flow {
	__u32 low[4], high[4];
	__u16 low_port, high_port;
	__u8 protocol, state; /* state: what its entry has from the beginning */
	__u8 sender_high, six;
	__u32 hash; /* low bits: the first set, high bits: the other */
	__u64 word; /* of the entry found */
};

struct entry {
	__u32 place; /* the number of its last word in the whole table */
	__u64 *ports_and_meta; /* that word. 0: empty. Written last, read first and again */
};

static __always_inline __u32 meta_of(__u64 word)
{
	return word >> 32;
}

static __always_inline bool is_entry(__u64 word)
{
	return meta_of(word) >> CONNECTION_GENERATION_SHIFT;
}

static __always_inline __u32 hash_of_flow(__u32 low, __u32 high, __u16 low_port, __u16 high_port, __u8 protocol)
{
	return mix(low ^ mix(high + 0x9E3779B1) ^ ((__u32)low_port << 16 | high_port) * 0x85EBCA6B ^ protocol);
}

/* Of a translated connection: both directions know the client. */
static __always_inline __u32 hash_of_client(__u32 client, __u16 port, __u8 protocol)
{
	return mix(client ^ mix(port * 0x9E3779B1 + protocol));
}

/*
 * The low bits of a port that is lent to a connection are those of the set that it is in, but for the lowest few. What is above them in the
 * number of a set is a part of the region, which the remote end's address decides: a reply knows nothing else.
 */
static __always_inline __u32 hash_of_lent_port(__u16 port, __u32 part)
{
	return ((bpf_ntohs(port) & PORT_LOW) | part << BLOCK_SHIFT) * 0x10001;
}

/* Of an outbound connection, by the hash of its remote end. Of a balanced one: 0. */
static __always_inline __u32 part_of_remote(__u16 remote)
{
	return remote >> BLOCK_SHIFT;
}

static __always_inline __u32 hash_in_part(__u32 hash, __u32 part)
{
	return (hash & PORT_LOW * 0x10001) | (part << BLOCK_SHIFT) * 0x10001;
}

static __always_inline void flow_of(struct flow *flow, const __u32 *source, const __u32 *destination, __u16 source_port,
				    __u16 destination_port, __u8 protocol, bool six)
{
	bool high = false, decided = false;

	for (int i = 0; i < 4; i++) {
		if (!decided && source[i] != destination[i]) {
			decided = true;
			high = source[i] > destination[i];
		}
	}
	if (!decided)
		high = source_port > destination_port;
	copy6(flow->low, high ? destination : source);
	copy6(flow->high, high ? source : destination);
	flow->low_port = high ? destination_port : source_port;
	flow->high_port = high ? source_port : destination_port;
	flow->protocol = protocol;
	flow->state = 0;
	flow->sender_high = high;
	flow->six = six;
	flow->hash = hash_of_flow(fold(flow->low), fold(flow->high), flow->low_port, flow->high_port, protocol);
}

static __always_inline __u64 flow_word(const struct flow *flow, __u32 meta)
{
	return (__u64)meta << 32 | (__u32)flow->high_port << 16 | flow->low_port;
}

/* The kernel's clock is a call, jiffies are a load: so the clock is asked once a jiffy. */
static __always_inline __u32 now_tick(void)
{
	__u32 zero = 0;
	struct clock *clock = bpf_map_lookup_elem(&clocks, &zero);

	if (!clock)
		return 0;
	__u64 jiffies = bpf_jiffies64();

	if (clock->jiffies != jiffies) {
		clock->tick = bpf_ktime_get_coarse_ns() >> CONNECTION_TICK_SHIFT & CONNECTION_SEEN_MASK;
		*(volatile __u64 *)&clock->jiffies = jiffies;
	}
	return clock->tick;
}

/* Does it open a TCP connection? */
static __always_inline bool is_fresh(__u8 protocol, __u8 tcp_flags)
{
	return protocol == IPPROTO_TCP && (tcp_flags & 0x12) == 0x02; /* SYN without ACK */
}

/* A rule's limit, as its connections carry it. */
static __always_inline __u32 idle_ticks(__u8 idle)
{
	return (1 + (idle & 7)) << (idle >> 3);
}

static __always_inline __u32 lifetime(__u32 meta)
{
	__u8 protocol = meta, state = meta >> CONNECTION_STATE_SHIFT & 0x1f;

	if (state & CONNECTION_FRAGMENT)
		return SECONDS_TO_TICKS(30);
	if (state & CONNECTION_TRANSLATED && (protocol != IPPROTO_TCP || (state & (CONNECTION_ANSWERED | CONNECTION_CLOSING)) == CONNECTION_ANSWERED))
		return idle_ticks(meta >> CONNECTION_GENERATION_SHIFT);
	if (protocol == IPPROTO_UDP)
		return SECONDS_TO_TICKS(180);
	if (protocol == IPPROTO_TCP && (state & (CONNECTION_ANSWERED | CONNECTION_CLOSING)) == CONNECTION_ANSWERED)
		return SECONDS_TO_TICKS(7200);
	return SECONDS_TO_TICKS(60);
}

static __always_inline __u32 age(__u32 meta, __u32 now)
{
	return (now - (meta >> CONNECTION_SEEN_SHIFT)) & CONNECTION_SEEN_MASK;
}

static __always_inline bool is_expired(__u32 meta, __u32 now)
{
	return age(meta, now) > lifetime(meta);
}

static __always_inline struct line *connection_line(__u32 line)
{
	return bpf_map_lookup_elem(&connections, &line);
}

/* An IPv4 connection's set, by the low bits of its hash. */
static __always_inline __u32 line_of_set(const struct domain *domain, __u32 hash)
{
	return domain->connections4 + (hash & (domain->connections4_used - 1));
}

/* The line of a connection's first set begins its way from memory. */
static __always_inline void expect_set(const struct domain *domain, __u32 hash)
{
	struct line *line = connection_line(line_of_set(domain, hash));

	if (line)
		(void)*(volatile __u64 *)line;
}

static __always_inline bool entry_at_place(struct entry *entry, __u32 place)
{
	struct line *line = connection_line(place / WORDS_PER_LINE);

	if (!line)
		return false;
	*entry = (struct entry){place, &line->words[place % WORDS_PER_LINE]};
	return true;
}

/* Both addresses of an IPv4 entry, low and high. */
static __always_inline __u64 *addresses_at(__u32 place)
{
	struct line *line = connection_line(place / WORDS_PER_LINE);

	return line ? &line->words[(place - 1) % WORDS_PER_LINE] : NULL;
}

/* Of an IPv6 entry, four words. */
static __always_inline __u64 *addresses6_at(__u32 place)
{
	__u32 way = place % WORDS_PER_LINE;
	struct line *line = connection_line(place / WORDS_PER_LINE + 1 + way / ADDRESSES6_PER_LINE);

	return line ? &line->words[way % ADDRESSES6_PER_LINE * 4] : NULL;
}

static __always_inline __u32 ways_of(__u32 six)
{
	return six ? WAYS6 : WAYS4;
}

static __always_inline __u32 sets_in_use(const struct domain *domain, __u32 six)
{
	return *(volatile __u32 *)(six ? &domain->connections6_used : &domain->connections4_used);
}

static __always_inline __u32 first_line(const struct domain *domain, __u32 six)
{
	return six ? domain->connections6 : domain->connections4;
}

/* In the region that begins at a line of the table. */
static __always_inline __u32 place_in_set(__u32 first, __u32 set, __u32 way, __u32 six)
{
	if (six)
		return (first + set * LINES_OF_SET6) * WORDS_PER_LINE + (way & (WAYS6 / 2 - 1));
	return (first + set) * WORDS_PER_LINE + (way & (WAYS4 / 2 - 1)) * 2 + 1;
}

/* The first half of the ways is in the first set, the other half in the other. */
static __always_inline __u32 set_of_way(const struct domain *domain, const struct flow *flow, __u32 six, __u32 way)
{
	return flow->hash >> (way >= ways_of(six) / 2 ? 16 : 0) & (sets_in_use(domain, six) - 1);
}

static __always_inline bool entry_at(struct entry *entry, const struct domain *domain, const struct flow *flow, __u32 six, __u32 way)
{
	return entry_at_place(entry, place_in_set(first_line(domain, six), set_of_way(domain, flow, six, way), way, six));
}

static __always_inline bool same_addresses(const struct entry *entry, const struct flow *flow, __u32 six)
{
	if (six) {
		__u32 *addresses = (void *)addresses6_at(entry->place);

		return addresses && same6(addresses, flow->low) && same6(addresses + 4, flow->high);
	}
	__u64 *addresses = addresses_at(entry->place);

	return addresses && *(volatile __u64 *)addresses == ((__u64)flow->high[V4] << 32 | flow->low[V4]);
}

static __always_inline bool is_entry_of(const struct entry *entry, const struct flow *flow, __u32 six, __u64 word)
{
	__u32 kind = flow->protocol | (__u32)flow->state << CONNECTION_STATE_SHIFT;

	return (__u32)word == (__u32)flow_word(flow, 0) && (meta_of(word) & CONNECTION_KIND_MASK) == kind && same_addresses(entry, flow, six) &&
	       *(volatile __u64 *)entry->ports_and_meta == word;
}

/* The way of its sets where a flow's live entry is, -1: there is none. */
__noinline int find_connection(__u32 number, struct flow *flow)
{
	struct domain *domain = bpf_map_lookup_elem(&domains, &number);
	struct entry entry;

	if (!domain || !domain->connections4_used || !flow)
		return -1;
	__u32 six = flow->six;

	for (__u32 way = 0; way < ways_of(six); way++) {
		if (!entry_at(&entry, domain, flow, six, way))
			return -1;
		__u64 word = *(volatile __u64 *)entry.ports_and_meta;

		if (meta_of(word) >> CONNECTION_GENERATION_SHIFT && is_entry_of(&entry, flow, six, word)) {
			if (is_expired(meta_of(word), now_tick())) { /* and would be in its successor's way: two that are alike */
				__sync_val_compare_and_swap(entry.ports_and_meta, word, 0);
				continue;
			}
			flow->word = word;
			return way;
		}
	}
	return -1;
}

static __always_inline __u32 closing(__u8 tcp_flags)
{
	return tcp_flags & 5 ? CONNECTION_CLOSING : 0; /* FIN or RST */
}

static __always_inline void touch_connection(const struct entry *entry, __u64 word, bool from_initiator, __u8 tcp_flags, __u8 generation)
{
	__u32 meta = meta_of(word), state = (meta >> CONNECTION_STATE_SHIFT & 0x1f) | closing(tcp_flags);

	if (!from_initiator)
		state |= CONNECTION_ANSWERED;
	__u32 newer = (meta & 0xff) | state << CONNECTION_STATE_SHIFT | now_tick() << CONNECTION_SEEN_SHIFT |
		      (__u32)generation << CONNECTION_GENERATION_SHIFT;

	if (newer != meta) /* the place may be another's by now */
		__sync_val_compare_and_swap(entry->ports_and_meta, word, (__u64)newer << 32 | (__u32)word);
}
