/* All maps. Sizes given here are the smallest; the loader sets those of the mmapable arrays. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "types.h"

#define DOMAINS_MAX 4096 /* domain 0 stands for "none" in the counters */
#define DEVICES_MAX 4096 /* interfaces */
#define PORTS_MAX 4096	 /* port 0 is none */
#define CHOICES_MAX 16384 /* choice 0 is none */
#define NEIGHBOUR_LINES 65536
#define ENDPOINTS_MAX 32768 /* provider addresses that are sent to, by encapsulation; endpoint 0 is none */

/* All that a line of the arena can be; through it the object's BTF holds every layout and number that Python needs. */
union arena_line {
	struct line line;
	struct directory directory;
	struct directory_more directory_more;
	struct rewrite rewrite;
	struct table table;
	struct table_more table_more;
	struct table_services table_services;
	struct table_compartment table_compartment;
	struct frontend frontend;
	struct lenders lenders;
	struct rule rule;
	struct translated translated;
	struct choice choice;
	struct member members[2];
	struct subnet subnet;
	struct next_hop next_hop;
	struct classifier classifier;
	struct search_node search_node;
	struct access_rule access_rules[LINE_BYTES / sizeof(struct access_rule)];
	struct cell cells[CELLS_PER_LINE];
	struct cell6 cells6[CELLS6_PER_LINE];
	struct {
		enum verdict verdict;
		enum direction direction;
		enum next_hop_kind next_hop_kind;
		enum encapsulation encapsulation;
		enum capture_what capture_what;
		enum connection_state connection_state;
		enum search_key search_key;
		enum frontend_kind frontend_kind;
		enum rule_kind rule_kind;
		enum member_state member_state;
	} numbers;
};

/* What the lines that programs write hold. */
union learned_line {
	struct line line;
	struct connection connections[CELLS_PER_LINE];
	struct connection6_end ends6[ENDS6_PER_LINE];
	struct connection6_addresses addresses6[ADDRESSES6_PER_LINE];
	struct neighbour neighbours[CELLS_PER_LINE];
	struct neighbour6 neighbours6[CELLS6_PER_LINE];
};

struct chunk {
	union arena_line lines[CHUNK_LINES];
};

/*
 * A section is a map with one value, whose address stands in the programs' instructions: nothing has to be looked up. libbpf makes
 * such arrays mmapable.
 */
#define MAP_OF_ITS_OWN(name) SEC(".data." #name)

/* All that policy says, in blocks. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct chunk);
} arena SEC(".maps");

struct root root MAP_OF_ITS_OWN(root);

struct table_word tables[DOMAINS_MAX] MAP_OF_ITS_OWN(tables);

struct table_word choices[CHOICES_MAX] MAP_OF_ITS_OWN(choices);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, DOMAINS_MAX);
	__type(key, __u32);
	__type(value, struct domain);
} domains SEC(".maps");

struct endpoint endpoints[ENDPOINTS_MAX] MAP_OF_ITS_OWN(endpoints);

struct port ports[PORTS_MAX] MAP_OF_ITS_OWN(ports);

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, DEVICES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

/* Written by the programs: a region for each domain with access lists, so that no tenant can evict another's. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, union learned_line);
} connections SEC(".maps");

struct clock {
	__u64 jiffies; /* when it was set */
	__u32 tick; /* of connections */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct clock);
} clocks SEC(".maps");

/* Written by the programs: a region for each external port. */
union learned_line neighbours[NEIGHBOUR_LINES] MAP_OF_ITS_OWN(neighbours);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DOMAINS_MAX);
	__type(key, __u32);
	__type(value, struct traffic);
} traffic SEC(".maps");

struct drop_counters {
	__u64 packets[DROP_REASONS];
	__u64 ordered; /* fragments that went to be put in order: no drop, but nearly as rare */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DOMAINS_MAX);
	__type(key, __u32);
	__type(value, struct drop_counters);
} drops SEC(".maps");

struct budget {
	__u64 refilled; /* ns */
	__u64 tokens;
};

/* What the gateway may still answer by itself, per domain: 1,000 a second, and as many at once. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DOMAINS_MAX);
	__type(key, __u32);
	__type(value, struct budget);
} answer_budgets SEC(".maps");

/* The fragments that a domain may still have put in order. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DOMAINS_MAX);
	__type(key, __u32);
	__type(value, struct budget);
} fragment_budgets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} captured SEC(".maps");
