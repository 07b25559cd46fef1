/* The way out: limits, the hop's addresses, the headers in front of the packet. */
#pragma once

#include "checksum.h"
#include "neighbours.h"
#include "translate.h"
#include "tunnel.h"

#define OUTER_TTL 64
#define OUTER_PORT_FIRST 49152
#define OUTER_PORT_MASK 0x3fff

enum tcp_option { /* RFC 9293, 3.1 */
	TCPOPT_EOL = 0,
	TCPOPT_NOP = 1,
	TCPOPT_MSS = 2,
};

static __always_inline __u32 encapsulation_overhead(__u8 encapsulation, __u8 family)
{
	if (encapsulation == ENCAPSULATION_REWRITE)
		return 0;
	return (family == 6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + sizeof(struct ethhdr) +
	       (encapsulation == ENCAPSULATION_VXLAN ? VXLAN_HEADER : GRE_HEADER);
}

/* The longest packet that the side it came from can carry. */
static __always_inline __u16 ingress_limit(const struct packet *p, const struct port *in)
{
	return p->encapsulation ? in->mtu - encapsulation_overhead(p->encapsulation, p->outer_family) : in->mtu;
}

static __always_inline MUST_CHECK int check_length(struct packet *p)
{
	if (p->length <= p->limit)
		return VERDICT_NONE;
	owe_error(p, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, ICMPV6_PKT_TOOBIG, 0, p->limit);
	return refuse(DROP_TOO_BIG);
}

static __always_inline void write_traffic_class6(void *start, __u8 tos)
{
	__u16 *first = start;

	*first = (*first & bpf_htons(0xf00f)) | bpf_htons(tos << 4);
}

static __always_inline void write_traffic_class4(struct iphdr *ip, __u8 tos)
{
	ip->check = exchange_sum(ip->check, bpf_htons(0x4500 | ip->tos), bpf_htons(0x4500 | tos));
	ip->tos = tos;
}

/* One hop less, and the congestion mark; while the packet still lies where it came. */
static __always_inline MUST_CHECK int age_packet(struct xdp_md *ctx, const struct packet *p)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *start = (void *)(long)ctx->data + (p->network & 0xff);

	if (is_six(p)) {
		struct ipv6hdr *ip = start;

		if ((void *)(ip + 1) > data_end)
			return refuse(DROP_INTERNAL);
		ip->hop_limit--;
		if (p->outer_tos & 3)
			write_traffic_class6(start, p->tos);
		return VERDICT_NONE;
	}
	struct iphdr *ip = start;

	if ((void *)(ip + 1) > data_end)
		return refuse(DROP_INTERNAL);
	__u32 sum = ip->check + bpf_htons(0x0100); /* the TTL is the high byte */

	ip->check = sum + (sum >= 0xffff);
	ip->ttl--;
	if (ip->tos != p->tos)
		write_traffic_class4(ip, p->tos);
	return VERDICT_NONE;
}

/* TCP's segments made small enough for the tunnel (RFC 4459, 3.2): the option of a SYN is lowered to `most`. */
__noinline int clamp_segments(struct xdp_md *ctx, __u32 transport, __u32 available, __u32 most)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct tcphdr *tcp = (void *)(long)ctx->data + (transport & 0xff);

	if ((void *)(tcp + 1) > data_end)
		return 0;
	__u32 at = sizeof(*tcp), length = tcp->doff * 4;

	if (length > available)
		return 0;
	for (int i = 0; i < 10; i++) {
		__u8 *option = (void *)tcp + (at & 0x3f);

		if (at + 2 > length || (void *)(option + 4) > data_end || option[0] == TCPOPT_EOL)
			return 0;
		if (option[0] == TCPOPT_NOP) {
			at++;
			continue;
		}
		if (option[1] < 2)
			return 0;
		if (option[0] == TCPOPT_MSS && option[1] == 4 && at + 4 <= length) {
			__u16 old = option[2] << 8 | option[3];

			if (old <= most)
				return 0;
			/* at an odd offset the halves of two 16-bit words change: bytes swapped, the sum is the same */
			bool odd = at & 1;
			__u16 from = odd ? old : bpf_htons(old), to = odd ? most : bpf_htons(most);

			tcp->check = exchange_sum(tcp->check, from, to);
			option[2] = most >> 8;
			option[3] = most;
			return 1;
		}
		at += option[1];
	}
	return 0;
}

static __always_inline MUST_CHECK int translate_packet(struct xdp_md *ctx, const struct packet *p)
{
	if (p->translated != TRANSLATE_PLAIN)
		return p->translated ? translate(ctx) : VERDICT_NONE;
	return translate_plain(ctx, p->network, (__u64)p->sender_port << 32 | p->sender, (__u64)p->destination_port << 32 | p->destination[V4]);
}

static __always_inline MUST_CHECK int prepare(struct xdp_md *ctx, struct packet *p)
{
	int verdict = translate_packet(ctx, p);

	if (verdict)
		return verdict;
	verdict = age_packet(ctx, p);
	if (verdict)
		return verdict;
	if (p->protocol == IPPROTO_TCP && !p->fragment && p->tcp_flags & 2) {
		__u16 limit = ingress_limit(p, port_of(p->port));

		if (p->limit < limit)
			limit = p->limit;
		clamp_segments(ctx, p->transport, p->network + p->length - p->transport, limit - (is_six(p) ? 60 : 40));
	}
	return VERDICT_NONE;
}

/* Moves the frame's start so that `headers` bytes lie before the IP packet, and cuts off what is behind its end. */
static __always_inline MUST_CHECK int make_room(struct xdp_md *ctx, const struct packet *p, __u32 headers)
{
	__u32 frame = ctx->data_end - ctx->data;

	if (frame > p->end && bpf_xdp_adjust_tail(ctx, (int)(p->end - frame)))
		return refuse(DROP_INTERNAL);
	int delta = (int)p->network - (int)headers;

	if (delta && bpf_xdp_adjust_head(ctx, delta))
		return refuse(DROP_NO_HEADROOM);
	return VERDICT_NONE;
}

static __always_inline __u32 ethernet_length(const struct port *out)
{
	return out->vlan ? sizeof(struct ethhdr) + 4 : sizeof(struct ethhdr);
}

/* The frame's own Ethernet header. The caller has checked that it fits. */
static __always_inline void write_ethernet(void *at, const struct port *out, __u64 mac, __u16 type)
{
	__u16 *words = at;

	put_mac(at, mac);
	put_mac(at + ETH_ALEN, mac_of(out->mac));
	if (out->vlan) {
		words[6] = bpf_htons(ETH_P_8021Q);
		words[7] = bpf_htons(out->vlan);
		words[8] = type;
	} else {
		words[6] = type;
	}
}

static __always_inline int leave_plain(struct xdp_md *ctx, const struct packet *p, const struct port *out, __u64 mac)
{
	__u32 headers = ethernet_length(out);
	int verdict = make_room(ctx, p, headers);

	if (verdict)
		return verdict;
	void *data = (void *)(long)ctx->data;

	if (data + sizeof(struct ethhdr) + 4 > (void *)(long)ctx->data_end)
		return refuse(DROP_INTERNAL);
	write_ethernet(data, out, mac, is_six(p) ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
	return VERDICT_FORWARDED;
}

static __always_inline __u8 outer_traffic_class(const struct packet *p, bool uniform)
{
	return uniform ? p->tos : p->tos & 3;
}

static __always_inline void write_outer4(void *at, const struct endpoint *endpoint, __u8 tos, __u32 length, __u8 protocol)
{
	struct iphdr *ip = at;
	__u32 sum = endpoint->checksum + bpf_htons(tos) + bpf_htons(length);

	*(__u16 *)at = bpf_htons(0x4500 | tos);
	ip->tot_len = bpf_htons(length);
	*(__u32 *)&ip->id = bpf_htonl(0x4000); /* DF, and so an id of 0 (RFC 6864) */
	ip->ttl = OUTER_TTL;
	ip->protocol = protocol;
	ip->check = ~fold_sum(sum);
	ip->saddr = endpoint->source[V4];
	ip->daddr = endpoint->destination[V4];
}

static __always_inline void write_outer6(void *at, const struct endpoint *endpoint, __u8 tos, __u32 length, __u8 protocol, __u32 hash)
{
	struct ipv6hdr *ip = at;

	*(__u32 *)at = bpf_htonl(0x60000000 | (__u32)tos << 20 | (hash & 0xfffff));
	ip->payload_len = bpf_htons(length);
	ip->nexthdr = protocol;
	ip->hop_limit = OUTER_TTL;
	copy6(ip->saddr.in6_u.u6_addr32, endpoint->source);
	copy6(ip->daddr.in6_u.u6_addr32, endpoint->destination);
}

static __always_inline void write_nvgre(__u32 *at, __u32 vsid, __u32 hash)
{
	at[0] = bpf_htonl(NVGRE_FLAGS << 16 | ETH_P_TEB);
	at[1] = bpf_htonl(vsid << 8 | (hash & 0xff));
}

static __always_inline void write_vxlan(void *at, __u32 vsid, __u32 hash, __u32 length)
{
	__u16 *udp = at;
	__u32 *vxlan = at + sizeof(struct udphdr);

	udp[0] = bpf_htons(OUTER_PORT_FIRST + (hash & OUTER_PORT_MASK));
	udp[1] = bpf_htons(VXLAN_PORT);
	udp[2] = bpf_htons(length);
	udp[3] = 0; /* RFC 6935 allows it over IPv6 too */
	vxlan[0] = bpf_htonl(VXLAN_HAS_VNI << 24);
	vxlan[1] = bpf_htonl(vsid << 8);
}

static __always_inline int leave_encapsulated(struct xdp_md *ctx, const struct packet *p, const struct endpoint *endpoint, const struct port *out,
					      __u32 vsid, __u64 router_mac, bool uniform, const bool six, const bool vxlan)
{
	const __u32 network = six ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	const __u32 tunnel = vxlan ? VXLAN_HEADER : GRE_HEADER;
	const __u32 behind = network + tunnel + sizeof(struct ethhdr); /* the outer Ethernet header, before the packet */
	__u32 hash = flow_hash(p);
	__u32 payload = tunnel + sizeof(struct ethhdr) + p->end - p->network;
	int verdict = make_room(ctx, p, ethernet_length(out) + behind);

	if (verdict)
		return verdict;
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	void *at = data + (out->vlan ? sizeof(struct ethhdr) + 4 : sizeof(struct ethhdr));

	if (at + behind > data_end)
		return refuse(DROP_INTERNAL);
	write_ethernet(data, out, mac_of(endpoint->mac), six ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP));
	if (six)
		write_outer6(at, endpoint, outer_traffic_class(p, uniform), payload, vxlan ? IPPROTO_UDP : IPPROTO_GRE, hash);
	else
		write_outer4(at, endpoint, outer_traffic_class(p, uniform), network + payload, vxlan ? IPPROTO_UDP : IPPROTO_GRE);
	at += network;
	if (vxlan)
		write_vxlan(at, vsid, hash, payload);
	else
		write_nvgre(at, vsid, hash);
	at += tunnel;
	put_mac(at, p->mac);
	put_mac(at + ETH_ALEN, router_mac);
	*(__u16 *)(at + 2 * ETH_ALEN) = is_six(p) ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	return VERDICT_FORWARDED;
}
