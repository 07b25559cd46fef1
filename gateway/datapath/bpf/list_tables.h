/* An access list, as it lies in the arena. */
#pragma once

#include <linux/types.h>

/*
 * One direction of an access list; a list begins with two: inbound, outbound. Places within it count 16 bytes, lines 64, both from
 * its own start. A *word* names a node, which leads on by one part of the packet, or what lies behind the last: a few rules, or a
 * vector.
 */
struct classifier {
	__u32 rules4; /* word: the rules that an IPv4 packet has to be compared with. 0: none */
	/* words: by each part of the packet, a vector with a bit for each rule that this part satisfies */
	__u32 source4, source6;
	__u32 destination4, destination6;
	__u32 source_ports, destination_ports;
	__u32 protocols;
	__u32 actions; /* place of a bit for each rule: allow. 0: there are no vectors */
	__u32 word_shift; /* 2 to this power bits in a word of a vector */
	__u32 otherwise; /* 1: allowed where no rule matches */
	__u8 padding[20];
};

#define SEARCH_COUNT_SHIFT 24 /* how many rules lie there */
#define SEARCH_VECTORS 0x7f000000u /* too many rules: ask the vectors */
#define PLACE_BYTES 16
#define RULES_AT_PLACE 8

enum search_key { /* what a node asks about */
	KEY_SOURCE = 0, /* four numbers for IPv6; IPv4: the last one */
	KEY_DESTINATION = 4,
	KEY_SOURCE_PORT = 8,
	KEY_DESTINATION_PORT = 9,
	KEY_PROTOCOL = 10,
	SEARCH_KEYS = 16,
};

/* One of a few IPv4 rules, in the order of their priority; with ports only with TCP or UDP. */
struct access_rule {
	__u32 source, destination;
	__u16 first_port, more_ports;
	__u8 source_shift, destination_shift; /* low bits that do not count */
	__u8 protocol;
	__u8 flags;
};

#define RULE_ALLOW 1
#define RULE_ANY_PROTOCOL 8 /* a shift, too */
#define RULE_SOURCE_PORT 16 /* the ports are the source's; also a shift */

#define VECTOR_WORDS_MAX 64 /* of 64 bits: 4,096 rules a direction. A summary (bit i: word i is not zero), then those not zero */
