/* What the programs and their feeder share. Python reads these layouts from the object's BTF; nothing is copied by hand. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

/*
 * Everything that a packet's decision reads lies in the arena: lines of 64 bytes, in chunks. A *block* is a contiguous run of
 * lines of one chunk, never changed once a packet can reach it: a change is a new block and the switch of the one word that
 * names it. All line numbers inside a block count from its start. So a packet looks a chunk up once, and then only adds.
 */
#define LINE_BYTES 64
#define CHUNK_LINES 65536 /* 4 MB, the largest value of a map that Linux 6.1 allows */
#define CELLS_PER_LINE 4
#define CELLS6_PER_LINE 2
#define PROBE_LIMIT 24 /* the builder guarantees that no cell lies further from its home */

struct line {
	__u64 words[8];
};

/* An open-addressing hash table: `size` homes, cells in the order of their homes. */
struct region {
	__u32 first; /* line */
	__u32 size;
	__u32 multiplier;
};

struct cell {
	__u32 key; /* 0: empty */
	__u32 target;
	__u16 index;
	__u8 mac[6];
};

struct cell6 {
	__u32 key[4]; /* network order; all 0: empty */
	__u32 target;
	__u16 index;
	__u8 mac[6];
	__u32 reserved;
};

#define TARGET_LOCAL 0xffffffff /* a router address; index names its subnet */
#define TARGET_FRONTEND 0x40000000u /* low bits: the routing domain whose frontend the address is; index: its number there */
#define TARGET_HERE 0x80000000u /* with an endpoint: a rewrite record of what lies behind the gateway; routes lead there */

/* A word of a trie node. */
#define LEAF_CHILD 0x80000000u /* low bits: line of the next node */
#define LEAF_EXACT 0x40000000u /* an exact entry may cover this address: ask for it first */
#define LEAF_COUNT_SHIFT 24    /* number of equal next hops, less one */
#define LEAF_COUNT_MASK 0x3fu
#define LEAF_LINE_MASK 0x00ffffffu /* line of the first next hop, 0: none */

/* The first block: what is needed before the routing domain is known. */
struct directory {
	struct region ports;	  /* interface << 12 | vlan -> port; target: the domain of its l3 connection */
	struct region vsids;	  /* VSID -> domain */
	struct region hosts4; /* addresses of hosts that may send -> number */
	struct region providers4; /* the gateway's own provider addresses */
	__u32 provider4;	  /* the first of them, which most packets are for */
	__u8 router_mac[6];
	__u8 dscp_uniform; /* 0: pipe */
	__u8 reserved[3];
	__u16 internet; /* the domain of the public external ports, 0: there is none */
};

struct directory_more { /* its second line */
	struct region rewrites4; /* PA -> line of a struct rewrite */
	struct region rewrites6;
	struct region hosts6;
	struct region providers6;
	__u8 padding[16];
};

#define PORT_PROVIDER 1 /* mac[0] of a cell of `ports` */
#define PORT_EXTERNAL 2
#define PORT_FRAGMENTS 4 /* of the compartment that puts the domain's fragments in order */

struct rewrite {
	__u32 domain;
	__u32 vsid;
	__u32 customer[4]; /* IPv4: the last word */
	__u8 padding[40];
};

/* The first four lines of a routing domain's block. */
#define TABLE_LISTS 1 /* access lists apply to some of it */
#define TABLE_SERVICES 2 /* addresses of it are translated: struct table_services says which */

struct table {
	struct region exact4;
	struct region exact6;
	__u64 admitted_low[2]; /* bit set of the hosts that may send, by number: the first 128 */
	__u32 admitted;	       /* line where the whole set is */
	__u32 admitted_bits;
	__u32 routes4; /* line of the root node */
	__u32 routes6;
	__u32 subnets; /* line of the first struct subnet */
	__u32 flags;
};

struct table_more {
	struct region vsids; /* VSID -> index: subnet */
	struct region links; /* port -> index: subnet that stands for the l3 connection */
	struct region listed4; /* CA with an access list of its own -> target: line of the struct access_list */
	struct region listed6;
	__u32 generation; /* low byte: of the access lists, carried by connections */
	__u32 padding[3];
};

/* Load balancing, network address translation, and tunnels' ends. */
struct table_services {
	struct region rules; /* (frontend + 1) << 17 | (UDP) << 16 | port -> target: number of the rule */
	struct region translated4; /* CA of a member of a pool, or with a public address -> target: line of a struct translated */
	struct region translated6;
	__u32 frontends; /* line of number 0 */
	__u32 numbered; /* line of the rule with number 0, which is none */
	__u16 frontend_count, rule_count; /* numbers below */
	__u8 distributed; /* hosts route between virtual subnets themselves */
	__u8 padding[15];
};

struct table_compartment {
	__u32 port; /* inside leg, 0: none */
	__u32 service4; /* address that probes come from */
	__u32 service6[4];
	__u32 fragments; /* port of the compartment that puts fragments in order, 0: none */
	__u8 fragments_mac[6];
	__u8 padding[30];
};

enum frontend_kind {
	FRONTEND_NONE = 0,
	FRONTEND_BALANCED = 1,
	FRONTEND_ONE_TO_ONE = 2, /* all of it belongs to one machine */
	FRONTEND_STEERED = 3, /* of the Internet's domain: IKE and ESP go to the compartment of the peer */
};

/* An address that stands for others. */
struct frontend {
	__u32 address[4]; /* IPv4: the last word */
	__u32 machine[4]; /* the one behind it */
	struct region peers; /* peer -> target: port, mac: where to there */
	__u32 vsid; /* 0: public */
	__u8 kind;
	__u8 own; /* the router's own address besides */
	__u8 padding[14];
};

enum rule_kind {
	RULE_NONE = 0,
	RULE_BALANCED = 1,
	RULE_OUTBOUND = 2,
};

/* Connections carry its number: one that goes is not given again at once. Ports are in network order. */
struct rule {
	__u8 kind;
	__u8 protocol;
	__u8 distribution; /* 5, 3 or 2: how much of the tuple chooses */
	__u8 idle; /* time limit in ticks: (1 + the low three bits) << the others */
	__u16 port, backend_port;
	__u16 frontend;
	__u8 floating; /* the packet keeps the frontend's address */
	__u8 is_public;
	__u32 choice;
	__u32 address[4]; /* the frontend's */
	__u8 padding[32];
};

#define RULE_OF_NOTES 0xffff /* no rule has this number: of fragments that are put in order */

/* What becomes of packets that a customer address sends. */
#define FALLBACKS 14
#define PROTOCOL_TCP 1
#define PROTOCOL_UDP 2
struct translated {
	__u16 frontend_after; /* number of its own public address, plus one; 0: it has none */
	__u16 count;
	struct {
		__u16 port; /* of the machine, network order */
		__u16 rule; /* the only public one that leads there */
	} fallbacks[FALLBACKS];
	__u8 protocols; /* that rules lead to it by: PROTOCOL_TCP, PROTOCOL_UDP */
	__u8 padding[3];
};

/* Who takes a rule's connections: a block of its own, since it follows the members' health. */
struct choice {
	__u32 slots; /* line of the consistent-hash table: numbers of members, 16 bits each */
	__u32 slot_count; /* 0: nobody */
	__u32 members; /* line of number 0, which is none */
	__u32 member_count; /* numbers below */
	__u8 padding[48];
};

enum member_state {
	MEMBER_ABSENT = 0,
	MEMBER_ACTIVE = 1,
	MEMBER_DRAINING = 2, /* keeps its connections */
	MEMBER_DOWN = 3,
};

struct member {
	__u32 address[4];
	__u8 state;
	__u8 padding[15];
};

/* A virtual subnet; with VSID 0, an l3 connection's side of the router. */
struct subnet {
	__u32 vsid;
	__u32 access_list; /* line, 0: none */
	__u32 router4;
	__u32 router6[4];
	__u16 outbound4, outbound6; /* rules by which its machines reach the Internet, 0: none */
	__u8 padding[32];
};

enum next_hop_kind {
	NEXT_HOP_UNREACHABLE = 0,
	NEXT_HOP_OVERLAY = 1,
	NEXT_HOP_EXTERNAL = 2,
};

struct next_hop {
	__u8 kind;
	__u8 reason;
	__u16 subnet;
	__u32 target; /* endpoint or port */
	__u16 reserved;
	__u8 mac[6];
	__u32 gateway[4]; /* IPv4 in the last word. External: the neighbour, all 0: on-link. Overlay: the record's CA */
	__u32 source[4];  /* the address that asks for the neighbour */
	__u32 inside;	  /* VSID of the virtual subnet that this more specific route is cut out of, 0: none */
	__u8 padding[12];
};

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

#define NODE_WORDS 8

/* Of a B-tree over intervals of 32-bit numbers: word i is for those from bound i - 1 on. */
struct search_node {
	__u32 words[NODE_WORDS];
	__u32 bounds[NODE_WORDS - 1];
	__u32 reserved;
};

#define SEARCH_NODE 0x80000000u
#define SEARCH_COUNT_SHIFT 24 /* of a node: which number it is asked about (enum search_key); else how many rules lie there */
#define SEARCH_PLACE_MASK 0x00ffffffu /* line of a node, place of anything else */
#define SEARCH_VECTORS 0x7f000000u    /* too many rules: ask the vectors */
#define PLACE_BYTES 16
#define RULES_AT_PLACE 8

enum search_key {
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

enum encapsulation {
	ENCAPSULATION_NONE = 0,
	ENCAPSULATION_NVGRE = 1,
	ENCAPSULATION_VXLAN = 2,
	ENCAPSULATION_REWRITE = 3,
	ENCAPSULATION_SOURCE = 4, /* nothing is sent there: a host that may send, by its number */
};

/* A provider address and how to get there. */
struct endpoint {
	__u8 mac[6]; /* of the next hop on the provider network */
	__u16 port;  /* 0: not resolved. One 8-byte store changes both */
	__u8 encapsulation;
	__u8 family;
	__u16 mtu;	/* outer IP packet */
	__u32 checksum; /* IPv4: sum of the header's constant halves, not folded */
	__u32 source[4];
	__u32 destination[4];
	__u8 padding[16];
};

/* An interface, or a VLAN of it. */
struct port {
	__u32 interface;
	__u16 vlan;
	__u16 mtu;
	__u8 mac[6];
	__u16 device; /* place of the interface in the devices map */
	__u32 neighbours4; /* first line in the neighbours map */
	__u32 neighbours4_lines;
	__u32 neighbours6;
	__u32 neighbours6_lines;
	__u8 provider; /* hosts are there too */
	__u8 padding[31];
};

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
	/* written by the programs: lines in use, powers of two, and whether somebody is at making them more */
	__u32 connections4_used;
	__u32 connections6_used;
	__u32 growing;
	__u8 padding[20];
};

struct root {
	__u32 directory; /* line of the directory's block, 0: nothing is programmed, all goes to Linux */
	__u32 directory_lines;
	__u32 capture;	 /* bits of enum capture_what */
	__u32 capture_port;
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

struct connection6 {
	__u32 low[4], high[4];
	__u16 low_port, high_port;
	__u32 meta;
	__u8 padding[24];
};

/* meta: protocol 8 | state 5 | seen 11 | generation of the access lists that allowed it 8 (0: empty entry) */
#define CONNECTION_STATE_SHIFT 8
#define CONNECTION_SEEN_SHIFT 13
#define CONNECTION_SEEN_MASK 0x7ff
#define CONNECTION_GENERATION_SHIFT 24
#define CONNECTION_TICK_SHIFT 33 /* seen counts 2^33 ns, 8.6 s */

enum connection_state {
	CONNECTION_INITIATOR_HIGH = 1, /* the higher address (or port) sent the first packet */
	CONNECTION_ANSWERED = 2,
	CONNECTION_CLOSING = 4,
	CONNECTION_FRAGMENT = 8, /* ports hold the IP id */
	CONNECTION_TRANSLATED = 16, /* by a rule; then what follows holds instead */
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
IS_A_LINE(connection6);
_Static_assert(sizeof(struct cell) * CELLS_PER_LINE == LINE_BYTES, "cells must fill a line");
_Static_assert(sizeof(struct cell6) * CELLS6_PER_LINE == LINE_BYTES, "IPv6 cells must fill a line");
_Static_assert(sizeof(struct connection) * CELLS_PER_LINE == LINE_BYTES, "connections must fill a line");
_Static_assert(sizeof(struct neighbour) * CELLS_PER_LINE == LINE_BYTES, "neighbours must fill a line");
_Static_assert(sizeof(struct neighbour6) * CELLS6_PER_LINE == LINE_BYTES, "IPv6 neighbours must fill a line");
