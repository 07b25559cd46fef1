/* The tables that policy becomes, as they lie in the arena. */
#pragma once

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

#define NODE_WORDS 8

/* Of a B-tree over intervals of 32-bit numbers: word i is for those from bound i - 1 on. */
struct search_node {
	__u32 words[NODE_WORDS];
	__u32 bounds[NODE_WORDS - 1];
	__u32 reserved;
};

#define SEARCH_NODE 0x80000000u /* a word that names a node; else it is what was searched for */
#define SEARCH_KEY_SHIFT 24 /* which number the node is asked about */
#define SEARCH_PLACE_MASK 0x00ffffffu /* the node's line; of anything else what its kind says */

/* The word for a prefix. */
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
	__u32 prefixes4; /* words, for prefixes */
	__u32 prefixes6;
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
	FRONTEND_SHARED = 4, /* of the Internet's domain: each block of ports is lent by a routing domain */
};

/* An address that stands for others. */
struct frontend {
	__u32 address[4]; /* IPv4: the last word */
	__u32 machine[4]; /* the one behind it */
	struct region peers; /* peer -> target: port, mac: where to there */
	__u32 vsid; /* 0: public */
	__u8 kind;
	__u8 own; /* the router's own address besides */
	__u16 blocks; /* bits: the blocks of ports that are this domain's where others may have the rest; 0: all of the address is */
	__u32 lenders; /* line of a struct lenders */
	__u8 padding[8];
};

/* Lent ports: the high four bits are a block, the low twelve those of the hash that chooses the set of a connection. */
#define BLOCK_SHIFT 12
#define BLOCKS 16

/* Whose frontends share an address: by the block of the port. */
struct lenders {
	struct {
		__u16 domain, frontend; /* 0: nobody's */
	} of_block[BLOCKS];
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
	__u64 customers; /* outbound: a digest of the prefixes of the machines that it is for, 0: all others of the virtual subnet */
	__u32 vsid;
	__u16 blocks; /* bits: blocks of the ports that it lends */
	__u8 padding[18];
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
	__u32 customers4, customers6; /* word of a tree of machines that leads to such rules; 0: that one is for all */
	__u8 padding[24];
};

enum next_hop_kind {
	NEXT_HOP_UNREACHABLE = 0,
	NEXT_HOP_OVERLAY = 1,
	NEXT_HOP_EXTERNAL = 2,
	NEXT_HOP_TURN = 3, /* of no table: what is for a public address of the gateway's own comes in there again */
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
