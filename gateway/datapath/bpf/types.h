/* What the programs and their feeder share. Python reads these layouts from the object's BTF; nothing is copied by hand. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#include "list_tables.h"
#include "tables.h"

/* The line of a domain's or a choice's block, 0: withdrawn. The one word that a commit switches; many to a cache line. */
struct table_word {
	__u32 line;
	__u32 lines; /* of the block; for whoever adopts it */
};

struct domain {
	__u32 connections4; /* first line in the connections map */
	__u32 connections4_lines;
	__u32 connections6;
	__u32 connections6_lines;
	__u8 id[16]; /* RDID */
	/* written by the programs: sets in use, powers of two, and whether somebody moves flows */
	__u32 connections4_used;
	__u32 connections6_used;
	__u32 moving;
	__u8 padding[20];
};

struct root {
	__u32 directory; /* line of the directory's block, 0: nothing is programmed, all goes to Linux */
	__u32 directory_lines;
	__u32 capture;	 /* bits of enum capture_what */
	__u32 capture_port; /* as in the directory: interface << 12 | VLAN */
	__u32 capture_domain;
	__u32 capture_reason; /* verdict number */
	__u32 capture_sample; /* one of so many packets */
	__u32 capture_lost; /* records for which the ring had no room */
	__u8 padding[32];
};

enum capture_what {
	CAPTURE_ON = 1,
	CAPTURE_PORT = 2,
	CAPTURE_DOMAIN = 4,
	CAPTURE_DROPS = 8,
	CAPTURE_REASON = 16,
};

#define CAPTURE_BYTES 256

struct capture_record {
	__u64 time; /* ns since boot */
	__u32 ingress, egress; /* interface index */
	__u32 domain;
	__u32 length; /* bytes of the frame on the wire */
	__u16 captured;
	__u8 verdict;
	__u8 after; /* 0: as it came, 1: as it left */
	__u32 reserved;
	__u8 frame[CAPTURE_BYTES];
};

/* Four to a line; the line is chosen by addresses and ports, so that both directions meet in one entry. */
struct connection {
	__u32 low, high; /* addresses, the smaller one first */
	__u16 low_port, high_port;
	__u32 meta;
};

/* Eight to a set of five lines: the first holds their ends, the others two pairs of addresses each. */
struct connection6_end {
	__u16 low_port, high_port;
	__u32 meta;
};

struct connection6_addresses {
	__u32 low[4], high[4];
};

#define ENDS6_PER_LINE 8
#define ADDRESSES6_PER_LINE 2

/* meta: protocol 8 | state 5 | seen 11 | generation of the access lists that allowed it 8 (0: empty entry) */
#define CONNECTION_STATE_SHIFT 8
#define CONNECTION_SEEN_SHIFT 13
#define CONNECTION_SEEN_MASK 0x7ff
#define CONNECTION_GENERATION_SHIFT 24
#define CONNECTION_TICK_SHIFT 33 /* seen counts 2^33 ns, 8.6 s */

#define CONNECTION_KIND_MASK (0xff | (CONNECTION_FRAGMENT | CONNECTION_TRANSLATED) << CONNECTION_STATE_SHIFT)

enum connection_state {
	CONNECTION_INITIATOR_HIGH = 1, /* the higher address (or port) sent the first packet */
	CONNECTION_ANSWERED = 2,
	CONNECTION_CLOSING = 4,
	CONNECTION_FRAGMENT = 8, /* ports hold the IP id */
	CONNECTION_TRANSLATED = 16, /* by a rule; then what follows holds instead */
	CONNECTION_OUTBOUND = 1,    /* of a translated one: by outbound NAT */
};

/*
 * A translated connection: low: the client. high (its last word): client's port | rule << 16. low_port: member, or a hash of the remote
 * end. high_port: the port that source translation gave, 0: none. Generation: the rule's idle limit.
 */

struct neighbour {
	__u32 address; /* 0: empty */
	__u32 seen;    /* seconds */
	__u8 mac[6];
	__u16 reserved;
};

struct neighbour6 {
	__u32 address[4];
	__u32 seen;
	__u8 mac[6];
	__u16 reserved;
	__u32 padding;
};

enum direction {
	OVERLAY_TO_EXTERNAL = 0,
	EXTERNAL_TO_OVERLAY = 1,
	OVERLAY_TO_OVERLAY = 2,
	ANSWERED_HERE = 3,
	DIRECTIONS = 4,
};

struct traffic {
	__u64 packets[DIRECTIONS];
	__u64 bytes[DIRECTIONS]; /* of the (inner) IP packet */
};

/* What became of a packet. The numbers are stable: they stand in metrics, captures and other people's dashboards. */
enum verdict {
	VERDICT_NONE = 0, /* not decided yet */
	DROP_MALFORMED = 1,
	DROP_OUTER_FRAGMENT = 2,
	DROP_OUTER_OPTIONS = 3,
	DROP_UNKNOWN_VSID = 4,
	DROP_SOURCE_NOT_ADMITTED = 5,
	DROP_INNER_VLAN = 6,
	DROP_BROADCAST = 7,
	DROP_NOT_ROUTER_MAC = 8,
	DROP_NOT_IP = 9,
	DROP_IP_OPTIONS = 10,
	DROP_EXTENSION_HEADERS = 11,
	DROP_MARTIAN_SOURCE = 12,
	DROP_MARTIAN_DESTINATION = 13,
	DROP_LINK_LOCAL = 14,
	DROP_ECN_NOT_CAPABLE = 15,
	DROP_NEIGHBOR_UNANSWERED = 16,
	DROP_LOCAL_NOT_SERVED = 17,
	DROP_NO_ROUTE = 18,
	DROP_NO_RECORD = 19,
	DROP_TTL_EXCEEDED = 20,
	DROP_HAIRPIN = 21,
	DROP_ACCESS_LIST_OUTBOUND = 22,
	DROP_ACCESS_LIST_INBOUND = 23,
	DROP_FRAGMENT_UNMATCHED = 24,
	DROP_TOO_BIG = 25,
	DROP_REWRITE_NO_SOURCE = 26,
	DROP_UNDERLAY_UNRESOLVED = 27,
	DROP_RESOLVING = 28,
	DROP_ANSWER_LIMITED = 29,
	DROP_NO_HEADROOM = 30,
	DROP_INTERNAL = 31,
	DROP_VIP_NOT_SERVED = 32,
	DROP_NO_MEMBER = 33,
	DROP_NAT_EXHAUSTED = 34,
	DROP_TRANSLATION_MISSING = 35,
	DROP_NOT_TRANSLATABLE = 36,
	DROP_REASONS = 64,
	VERDICT_FORWARDED = 64,
	VERDICT_ANSWERED = 65,
	VERDICT_CONSUMED = 66,
	VERDICT_PASSED = 67,
	VERDICT_ORDERED = 68, /* a fragment that went to be put in order, and will come back */
};

#define IS_A_LINE(type) _Static_assert(sizeof(struct type) == LINE_BYTES, #type " must fill a line")

IS_A_LINE(line);
IS_A_LINE(directory);
IS_A_LINE(directory_more);
IS_A_LINE(rewrite);
IS_A_LINE(table);
IS_A_LINE(table_more);
IS_A_LINE(table_services);
IS_A_LINE(table_compartment);
IS_A_LINE(frontend);
IS_A_LINE(lenders);
IS_A_LINE(rule);
IS_A_LINE(translated);
IS_A_LINE(choice);
IS_A_LINE(subnet);
IS_A_LINE(next_hop);
IS_A_LINE(classifier);
IS_A_LINE(search_node);
IS_A_LINE(endpoint);
IS_A_LINE(port);
IS_A_LINE(domain);
IS_A_LINE(root);
_Static_assert(sizeof(struct cell) * CELLS_PER_LINE == LINE_BYTES, "cells must fill a line");
_Static_assert(sizeof(struct cell6) * CELLS6_PER_LINE == LINE_BYTES, "IPv6 cells must fill a line");
_Static_assert(sizeof(struct connection) * CELLS_PER_LINE == LINE_BYTES, "connections must fill a line");
_Static_assert(sizeof(struct connection6_end) * ENDS6_PER_LINE == LINE_BYTES, "IPv6 connections' ends must fill a line");
_Static_assert(sizeof(struct connection6_addresses) * ADDRESSES6_PER_LINE == LINE_BYTES, "IPv6 connections' addresses must fill a line");
_Static_assert(sizeof(struct neighbour) * CELLS_PER_LINE == LINE_BYTES, "neighbours must fill a line");
_Static_assert(sizeof(struct neighbour6) * CELLS6_PER_LINE == LINE_BYTES, "IPv6 neighbours must fill a line");
