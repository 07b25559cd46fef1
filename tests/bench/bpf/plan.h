/* Which addresses the benchmark's policy gives to whom. tests/bench/plan.py makes the same policy from the same numbers. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Frames on the wire are packed; the machines that the benchmark runs on read misaligned words. */
#pragma clang diagnostic ignored "-Waddress-of-packed-member"

#define SUBNETS 2	      /* virtual subnets of a domain */
#define SUBNET_STRIDE (1 << 15)
#define RECORD_STRIDE 16      /* addresses between two records' CAs */
#define RULES 1000
#define CA_PREFIXES 250
#define RULES_PER_REMOTE 4    /* 250 remote prefixes, one in each second octet */
#define PORT_CLASSES 250
#define FIRST_PORT 10000
#define PORT_STRIDE 20
#define MEMBERS 10	      /* the first records of a domain are the members of its pool */
#define VIP_PORT 443
#define MEMBER_PORT 8443
#define FLOWS_MAX 131072      /* whose members are known */
#define MAGIC 0x62656e63
#define FIRST_CA6 4	      /* last word of a subnet's first CA */
#define FIRST_VIP6 0x10000    /* last word of the first VIP */
#define GOLDEN 0x9E3779B1     /* odd: multiplying by it only reorders the 32-bit numbers */
#define OTHER_ODD 0x85EBCA6B

#define NVGRE_FLAGS 0x2000
#define NVGRE_PROTOCOL 0x6558
#define VXLAN_FLAGS 0x08000000
#define VXLAN_PORT 4789

enum selection {
	SELECT_RANDOM = 0,	/* any record, any ports */
	SELECT_ESTABLISHED = 1, /* one of `flows` flows, at random */
	SELECT_IN_TURN = 2,	/* one of `flows` flows, each once */
	SELECT_NEW = 3,		/* a flow that was not seen before */
};

enum opener { CLIENT_VM = 0, CLIENT_REMOTE = 1 };
enum destination { TO_CORPNET = 0, TO_OTHER_SUBNET = 1, TO_VM = 2, TO_VIP = 3, TO_CLIENT = 4 };

enum expected {
	EXPECT_UNCHANGED = 0,
	EXPECT_CORPNET = 1, /* tagged with the domain's VLAN */
	EXPECT_CORPNET_UNTAGGED = 2,
	EXPECT_NVGRE = 3,
	EXPECT_VXLAN = 4,
	EXPECT_BALANCED = 5, /* at a member of the pool */
	EXPECT_BALANCED_SIX = 6,
	EXPECT_CLIENT = 7, /* in the VIP's name */
};

struct settings {
	__u32 domains;
	__u32 records;	     /* of a domain, in all its subnets */
	__u32 hosts;
	__u32 first_vsid;
	__u32 first_ca, first_pa, first_remote, gateway_pa; /* IPv4 addresses in host order */
	__u32 domain_stride; /* addresses between two domains' CAs: 0 where tenants have equal addresses */
	__u32 sharing_shift; /* 1 << this many records of a subnet lie in one CA prefix of an access list */
	__u32 nested;	     /* CA prefixes of an access list that hold the same records */
	__u32 first_vip;     /* of the first domain, in host order */
	__u32 mixed;	     /* hosts with even numbers have NVGRE, the others VXLAN */

	/* the generator's */
	enum selection selection;
	__u32 flows;
	enum opener client;	/* who opened the flows */
	enum destination destination;
	__u32 output;	/* key in `devices` */

	/* the sink's */
	enum expected expected;
	__u32 learns; /* the members that flows are sent to are the right ones from now on */
	__u8 router_mac[6];  /* source of what the gateway sends inside the overlay */
	__u8 next_hop_mac[6]; /* destination of what it sends to CorpNet */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

static __always_inline struct settings *read_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

/* Which member has which flow to a VIP, plus one; 0: not known. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOWS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} members SEC(".maps");

/* What every generated packet carries behind its UDP header, so that the sink knows where it belongs. */
struct tag {
	__u32 magic;
	__u16 domain;
	__u16 record; /* the VM that sent it to CorpNet, or that it is for */
	__u32 number; /* of a flow to a VIP */
} __attribute__((packed));

struct vlan_header {
	__be16 tci, type;
} __attribute__((packed));

struct nvgre_header {
	__be16 flags, protocol;
	__be32 key;
} __attribute__((packed));

struct vxlan_header {
	__be32 flags, vni;
} __attribute__((packed));

struct inner_frame {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
	struct tag tag;
	__u8 filling[10];
} __attribute__((packed)); /* 64 bytes */

struct six_frame {
	struct ethhdr ethernet;
	struct ipv6hdr ip;
	struct udphdr udp;
	struct tag tag;
	__u8 filling[10];
} __attribute__((packed)); /* 84 bytes */

struct nvgre_frame {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct nvgre_header nvgre;
	struct inner_frame inner;
} __attribute__((packed)); /* 106 bytes */

struct vxlan_frame {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
	struct vxlan_header vxlan;
	struct inner_frame inner;
} __attribute__((packed)); /* 114 bytes */

struct packet_in_ethernet {
	struct iphdr ip;
	struct udphdr udp;
	struct tag tag;
	__u8 filling[10];
} __attribute__((packed));

struct tagged_frame {
	struct ethhdr ethernet;
	struct vlan_header vlan;
	struct packet_in_ethernet packet;
} __attribute__((packed)); /* 68 bytes */

/* Records alternate between the subnets of their domain. */
static __always_inline __u32 customer_address(const struct settings *s, __u32 domain, __u32 record)
{
	return s->first_ca + domain * s->domain_stride + record % SUBNETS * SUBNET_STRIDE +
	       record / SUBNETS * RECORD_STRIDE;
}

static __always_inline __u32 host_of(const struct settings *s, __u32 domain, __u32 record)
{
	return (domain * 7 + record) % s->hosts;
}

static __always_inline __u32 provider_address(const struct settings *s, __u32 domain, __u32 record)
{
	return s->first_pa + host_of(s, domain, record);
}

static __always_inline __u32 vsid_of(const struct settings *s, __u32 domain, __u32 record)
{
	return s->first_vsid + domain * SUBNETS + record % SUBNETS;
}

/* Who opened a flow to which domain's VIP; no two of 2^31 flows have the same client and port. */
struct client {
	__u32 domain, address;
	__u16 port;
};

static __always_inline struct client client_of(const struct settings *s, __u32 number)
{
	__u32 where = number * GOLDEN, which = number * OTHER_ODD;
	struct client client = {
		.domain = (__u64)where * s->domains >> 32,
		.address = s->first_remote + (which & 0xffff),
		.port = 1024 + (which >> 16 & 0x7fff),
	};

	return client;
}
