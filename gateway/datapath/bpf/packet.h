/* What is known about the packet in hand, and how it becomes known. Addresses, ports and lengths of headers stay in network order. */
#pragma once

#include <linux/if_ether.h>
#include <linux/icmpv6.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>

#include "arena.h"

/* RFC 792; <linux/icmp.h> would draw in the C library's headers. */
enum icmp {
	ICMP_ECHOREPLY = 0,
	ICMP_DEST_UNREACH = 3,
	ICMP_SOURCE_QUENCH = 4,
	ICMP_REDIRECT = 5,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETERPROB = 12,
};

enum icmp_unreachable {
	ICMP_NET_UNREACH = 0,
	ICMP_HOST_UNREACH = 1,
	ICMP_PORT_UNREACH = 3,
	ICMP_FRAG_NEEDED = 4,
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define V4 3 /* an IPv4 address is the last word of four */

enum origin {
	FROM_EXTERNAL = 0,
	FROM_OVERLAY = 1,
	FROM_REWRITE = 2,
};

struct packet {
	__u32 port; /* where it came in */
	__u32 domain;
	__u32 directory_line, table_line; /* read once, so that one packet meets one policy */
	__u32 arrival_line; /* table of the domain whose port or VSID it came in by; not the tenant's for what comes from the Internet */
	struct block directory, table;	  /* where they are */
	__u32 vsid;
	__u32 end; /* offset behind what counts: the outer packet's end, or the frame's */
	__u8 origin;
	__u8 captured; /* somebody may want to see it */
	__u8 encapsulation, outer_family, outer_tos;
	__u16 ethernet; /* offsets of the (inner) headers */
	__u16 network;
	__u16 transport;
	__u16 type; /* Ethernet's */

	__u8 six; /* the (inner) packet is IPv6 */
	__u8 protocol, tos, ttl;
	__u16 length;		 /* IP header and payload */
	__u16 fragment;		 /* 1: a fragment, 2: not the first one */
	__u16 source_port, destination_port;
	__u8 icmp_type, tcp_flags;
	__u16 fragment_id;
	__u32 source[4], destination[4];

	/* where it goes */
	__u8 hop_kind, local;
	__u16 subnet;
	__u32 target;
	__u32 hop; /* line of the struct next_hop, over all chunks; 0: no route has led there */
	__u32 next; /* IPv4: whom that hop hands it to */
	__u64 mac; /* the record's, in its low six bytes */
	__u16 limit; /* longest IP packet that may leave there */
	/* an ICMP error is owed; type 0: none. (Echo replies have no need of it.) */
	__u8 error_type, error_code;
	__u8 verdict; /* where another program finishes the packet */
	__u8 service;	 /* enum service */
	__u8 translated; /* there is a struct rewriting for it */
	__u16 frontend;	 /* that it is for, by its number in the domain */
	__u8 ordered;	 /* a fragment that has been put in order */
	__u8 turned;	 /* it left for a public address of the gateway's own, and came in there */
	__u32 owner;	 /* which owns it */
	__u32 error_data;
	__u32 sender; /* of a plain translation: where the packet says that it comes from */
	__u16 sender_port;
};

/*
 * The same value, of which the verifier knows no more than the type: paths that differ in it become one, else it follows all that
 * comes behind once for every kind of headers. (One instruction: the low 16 bits in the machine's own order.)
 */
#define forget(value) asm volatile("%0 = le16 %0" : "+r"(value))
#define forget_word(value) asm volatile("%0 = le32 %0" : "+r"(value))

/*
 * The verdict of a packet that goes no further. clang takes one that is only returned for so cheap that it writes it down before it
 * asks the question: two instructions for each reason that a good packet is not dropped for.
 */
static __always_inline int refuse(int verdict)
{
	asm volatile("" : "+r"(verdict));
	return verdict;
}

static __always_inline __u64 mac_of(const void *address)
{
	return (__u64)*(const __u32 *)address | (__u64) * (const __u16 *)(address + 4) << 32;
}

/* In the assembler's words: clang would join two reads by the field's address, which the verifier does not let pass. */
#define READ_CONTEXT(value, ctx, field) \
	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(value) : "r"(ctx), "i"(offsetof(struct xdp_md, field)))

static __always_inline void *start_of(const struct xdp_md *ctx)
{
	void *start;

	READ_CONTEXT(start, ctx, data);
	return start;
}

static __always_inline void *end_of(const struct xdp_md *ctx)
{
	void *end;

	READ_CONTEXT(end, ctx, data_end);
	return end;
}

/* Linux's structure is packed: its member would be read byte by byte. */
static __always_inline __u16 type_of(const struct ethhdr *ethernet)
{
	return *(const __u16 *)((const void *)ethernet + offsetof(struct ethhdr, h_proto));
}

static __always_inline void put_mac(void *at, __u64 mac)
{
	*(__u32 *)at = mac;
	*(__u16 *)(at + 4) = mac >> 32;
}

static __always_inline void copy6(__u32 *to, const __u32 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

static __always_inline bool is_six(const struct packet *p)
{
	return p->six;
}

static __always_inline void owe_error(struct packet *p, __u8 type4, __u8 code4, __u8 type6, __u8 code6, __u32 data)
{
	p->error_type = is_six(p) ? type6 : type4;
	p->error_code = is_six(p) ? code6 : code4;
	p->error_data = data;
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

/* What nearly all packets are: IPv4 with ports. */
static __always_inline bool is_plain(const struct packet *p)
{
	return !is_six(p) && !p->fragment && has_ports(p->protocol);
}

static __always_inline bool is_icmp_error(const struct packet *p)
{
	__u8 type = p->icmp_type;

	if (p->fragment & 2)
		return false;
	if (is_six(p))
		return p->protocol == IPPROTO_ICMPV6 && type >= 1 && type <= 4;
	return p->protocol == IPPROTO_ICMP && (type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
					       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB);
}

static __always_inline bool is_echo(__u8 protocol, __u8 type, bool six)
{
	if (six)
		return protocol == IPPROTO_ICMPV6 && (type == ICMPV6_ECHO_REQUEST || type == ICMPV6_ECHO_REPLY);
	return protocol == IPPROTO_ICMP && (type == ICMP_ECHO || type == ICMP_ECHOREPLY);
}

static __always_inline bool asks_for_echo(const struct packet *p)
{
	return is_six(p) ? p->protocol == IPPROTO_ICMPV6 && p->icmp_type == ICMPV6_ECHO_REQUEST :
			   p->protocol == IPPROTO_ICMP && p->icmp_type == ICMP_ECHO;
}

static __always_inline bool is_echo_request(const struct packet *p)
{
	return !p->fragment && asks_for_echo(p);
}

/* The reference model has the same function, of both addresses as one word, and ports in the machine's order. */
static __always_inline __u32 hash_words(__u32 h, __u32 ports, __u8 protocol)
{
	h *= 0x9E3779B1;
	h ^= ports * 0x85EBCA6B;
	h ^= protocol * 0xC2B2AE35;
	h ^= h >> 15;
	h *= 0x2C1B3C6D;
	h ^= h >> 12;
	h *= 0x297A2D39;
	h ^= h >> 15;
	return h;
}

static __always_inline __u32 both_addresses4(__u32 source, __u32 destination)
{
	return bpf_ntohl(source) ^ rotate_left(bpf_ntohl(destination), 16);
}

static __always_inline __u32 both_ports(__u16 source, __u16 destination)
{
	return (__u32)bpf_ntohs(source) << 16 | bpf_ntohs(destination);
}

static __always_inline __u32 hash_tuple(const struct packet *p, __u32 ports, __u8 protocol)
{
	__u32 h = 0;

	if (!is_six(p))
		return hash_words(both_addresses4(p->source[V4], p->destination[V4]), ports, protocol);
	for (int i = 0; i < 4; i++)
		h ^= rotate_left(bpf_ntohl(p->source[i]), i * 5) ^ rotate_left(bpf_ntohl(p->destination[i]), (16 + i * 5) & 31);
	return hash_words(h, ports, protocol);
}

/* Entropy for tunnels, and the choice among equal routes. */
static __always_inline __u32 flow_hash(const struct packet *p)
{
	__u32 ports = p->fragment ? 0 : both_ports(p->source_port, p->destination_port);

	return hash_tuple(p, ports, p->protocol);
}

static __always_inline struct table *table_of(const struct packet *p)
{
	return line_of(&p->table, 0);
}

static __always_inline struct table_more *more_of(const struct packet *p)
{
	return line_of(&p->table, 1);
}

static __always_inline struct subnet *subnet_of(const struct packet *p, __u32 index)
{
	return line_of(&p->table, table_of(p)->subnets + index);
}

static __always_inline struct port *port_of(__u32 number)
{
	return &ports[number & (PORTS_MAX - 1)];
}

static __always_inline struct endpoint *endpoint_of(__u32 number)
{
	return &endpoints[number & (ENDPOINTS_MAX - 1)];
}
