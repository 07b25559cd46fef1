/* Network address translation of the packet itself: addresses, ports, what an ICMP error quotes, and all their checksums. */
#pragma once

#include "checksum.h"
#include "finish.h"

enum translate { /* bits of packet.translated */
	TRANSLATE_SOURCE = 1,
	TRANSLATE_DESTINATION = 2, /* to what the packet in hand says */
	TRANSLATE_QUOTED_SOURCE = 4,
	TRANSLATE_QUOTED_DESTINATION = 8,
	TRANSLATE_PLAIN = 16, /* both ends of an IPv4 packet with ports, without a struct rewriting */
};

struct end {
	__u32 address[4];
	__u16 port;
	__u16 reserved;
};

/* What the packet in hand becomes; with it in map memory, since no program has room for it on its stack. */
struct rewriting {
	__u32 came_to[4];
	struct end came_from; /* of a packet that turned: before that */
	struct end source;
	struct end quoted_source, quoted_destination;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rewriting);
} rewritings SEC(".maps");

static __always_inline struct rewriting *rewriting_in_hand(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&rewritings, &zero);
}

static __always_inline __u64 exchange32(__u32 *at, __u32 value)
{
	__u64 delta = (__u64)(__u32)~*at + value;

	*at = value;
	return delta;
}

static __always_inline __u64 exchange16(__u16 *at, __u16 value)
{
	__u64 delta = (__u64)(__u16)~*at + value;

	*at = value;
	return delta;
}

static __always_inline __u64 exchange_address(__u32 *at, const __u32 *address, bool six)
{
	if (!six)
		return exchange32(at, address[V4]);
	return exchange32(at, address[0]) + exchange32(at + 1, address[1]) + exchange32(at + 2, address[2]) + exchange32(at + 3, address[3]);
}

/* A checksum after words that it covers changed by `delta`. */
static __always_inline __u16 follow(__u16 check, __u64 delta)
{
	return ~fold_sum((__u64)(__u16)~check + delta);
}

/* UDP's zero means that there is none (RFC 768). */
static __always_inline __u16 follow_udp(__u16 check, __u64 delta)
{
	__u16 now = follow(check, delta);

	return !check ? 0 : now ? now : 0xffff;
}

/* The checksum behind a quoted packet's ports, if it was quoted too. */
static __always_inline __u64 follow_quoted(__u16 *transport, void *data_end, __u8 protocol, __u32 quoted, __u64 addresses, __u64 ports, bool six)
{
	if (protocol == IPPROTO_UDP)
		return exchange16(transport + 3, follow_udp(transport[3], addresses + ports));
	if (protocol == IPPROTO_TCP && quoted >= 18 && (void *)(transport + 9) <= data_end)
		return exchange16(transport + 8, follow(transport[8], addresses + ports));
	if (protocol == (six ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return exchange16(transport + 1, follow(transport[1], six ? addresses + ports : ports));
	return 0;
}

/* The packet that an ICMP error quotes: its header and eight bytes. */
static __always_inline MUST_CHECK int translate_quote(void *at, void *data_end, const struct packet *p, const struct rewriting *r, const bool six, __u64 *delta)
{
	__u32 header = six ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	__u64 addresses = 0, ports = 0;

	if (at + header + 8 > data_end)
		return DROP_MALFORMED;
	__u32 *source = six ? at + 8 : at + 12, *destination = six ? at + 24 : at + 16;
	__u16 *transport = at + header;
	__u8 protocol = six ? *(__u8 *)(at + 6) : *(__u8 *)(at + 9);
	bool echo = !has_ports(protocol);

	if (p->translated & TRANSLATE_QUOTED_SOURCE) {
		addresses += exchange_address(source, r->quoted_source.address, six);
		if (!echo)
			ports += exchange16(transport, r->quoted_source.port);
	}
	if (p->translated & TRANSLATE_QUOTED_DESTINATION) {
		addresses += exchange_address(destination, r->quoted_destination.address, six);
		if (!echo)
			ports += exchange16(transport + 1, r->quoted_destination.port);
	}
	if (is_echo(protocol, *(__u8 *)transport, six))
		ports += exchange16(transport + 2, p->translated & TRANSLATE_QUOTED_SOURCE ? r->quoted_source.port : r->quoted_destination.port);
	*delta += addresses + ports;
	if (!six) {
		__u16 *check = at + 10;

		*delta += exchange16(check, follow(*check, addresses));
	}
	*delta += follow_quoted(transport, data_end, protocol, p->network + p->length - p->transport - 8 - header, addresses, ports, six);
	return VERDICT_NONE;
}

/* TCP's or UDP's checksum, of a packet with so many bytes from there on: a first fragment may not even have the checksum. */
static __always_inline MUST_CHECK int follow_transport(__u16 *transport, void *data_end, __u8 protocol, __u32 length, __u64 delta)
{
	if (protocol == IPPROTO_UDP) {
		transport[3] = follow_udp(transport[3], delta);
		return VERDICT_NONE;
	}
	if ((void *)(transport + 9) > data_end || length < 18)
		return DROP_MALFORMED;
	transport[8] = follow(transport[8], delta);
	return VERDICT_NONE;
}

static __always_inline MUST_CHECK int translate_ports(__u16 *transport, void *data_end, const struct packet *p, const struct rewriting *r, __u64 delta)
{
	if (p->translated & TRANSLATE_SOURCE)
		delta += exchange16(transport, r->source.port);
	if (p->translated & TRANSLATE_DESTINATION)
		delta += exchange16(transport + 1, p->destination_port);
	return follow_transport(transport, data_end, p->protocol, p->network + p->length - p->transport, delta);
}

/* The addresses in the IP header. Returns how much its words changed by. */
static __always_inline __u64 translate_addresses(void *start, const struct packet *p, const struct rewriting *r, const bool six)
{
	__u64 delta = 0;

	if (p->translated & TRANSLATE_SOURCE)
		delta += exchange_address(six ? start + 8 : start + 12, r->source.address, six);
	if (p->translated & TRANSLATE_DESTINATION)
		delta += exchange_address(six ? start + 24 : start + 16, p->destination, six);
	return delta;
}

/* Changes the packet where it lies, before anything else is done to it. */
__noinline int translate(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct packet *p = packet_in_hand();
	struct rewriting *r = rewriting_in_hand();

	if (!p || !r)
		return DROP_INTERNAL;
	bool six = is_six(p);
	void *start = (void *)(long)ctx->data + (p->network & 0xff);
	__u16 *transport = (void *)(long)ctx->data + (p->transport & 0xff);
	__u64 delta;

	if (six) {
		if (start + sizeof(struct ipv6hdr) > data_end)
			return DROP_INTERNAL;
		delta = translate_addresses(start, p, r, true);
	} else {
		struct iphdr *ip = start;

		if ((void *)(ip + 1) > data_end)
			return DROP_INTERNAL;
		delta = translate_addresses(start, p, r, false);
		ip->check = follow(ip->check, delta);
	}
	if (p->fragment & 2)
		return VERDICT_NONE;
	__u8 protocol = p->protocol;

	if (!has_ports(protocol) && protocol != (six ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return VERDICT_NONE;
	if ((void *)(transport + 4) > data_end)
		return DROP_INTERNAL;
	if (has_ports(protocol))
		return translate_ports(transport, data_end, p, r, delta);
	if (!six)
		delta = 0; /* ICMP's checksum does not cover addresses, ICMPv6's does */
	if (p->translated & (TRANSLATE_QUOTED_SOURCE | TRANSLATE_QUOTED_DESTINATION)) {
		int verdict = six ? translate_quote(transport + 4, data_end, p, r, true, &delta) :
				    translate_quote(transport + 4, data_end, p, r, false, &delta);

		if (verdict)
			return verdict;
	} else if (is_echo(protocol, p->icmp_type, six)) {
		if (p->translated & TRANSLATE_SOURCE)
			delta += exchange16(transport + 2, r->source.port);
		if (p->translated & TRANSLATE_DESTINATION)
			delta += exchange16(transport + 2, p->destination_port);
	}
	transport[1] = follow(transport[1], delta);
	return VERDICT_NONE;
}

/* The same for an IPv4 packet with ports; its ends are addresses, and ports above them. */
__noinline int translate_plain(struct xdp_md *ctx, __u32 network, __u64 source, __u64 destination)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = (void *)(long)ctx->data + (network & 0xff);
	__u16 *transport = (void *)(ip + 1);

	if ((void *)(transport + 4) > data_end)
		return DROP_INTERNAL;
	__u64 addresses = exchange32(&ip->saddr, source) + exchange32(&ip->daddr, destination);
	__u64 ports = exchange16(transport, source >> 32) + exchange16(transport + 1, destination >> 32);

	ip->check = follow(ip->check, addresses);
	return follow_transport(transport, data_end, ip->protocol, bpf_ntohs(ip->tot_len) - sizeof(*ip), addresses + ports);
}
