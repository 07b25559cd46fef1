/* The headers of a packet of a routing domain: what is refused, and what is known afterwards. */
#pragma once

#include "packet.h"

static __always_inline MUST_CHECK int parse_transport(struct xdp_md *ctx, struct packet *p, __u32 network, __u32 header)
{
	void *data_end = end_of(ctx);
	__u8 protocol = p->protocol;

	p->transport = network + header;
	if (p->fragment & 2)
		return VERDICT_NONE;
	if (!has_ports(protocol) && protocol != IPPROTO_ICMP && protocol != IPPROTO_ICMPV6)
		return VERDICT_NONE;
	__u8 *start = start_of(ctx) + ((network + header) & 0xff);

	if (p->length < header + 8 || (void *)start + 8 > data_end)
		return refuse(DROP_MALFORMED);
	if (has_ports(protocol)) {
		p->source_port = *(__u16 *)start;
		p->destination_port = *(__u16 *)(start + 2);
		if (protocol == IPPROTO_TCP && p->length >= header + 14 && (void *)start + 14 <= data_end)
			p->tcp_flags = start[13];
		return VERDICT_NONE;
	}
	p->icmp_type = start[0];
	if (is_echo(protocol, start[0], is_six(p)))
		p->source_port = p->destination_port = *(__u16 *)(start + 4);
	return VERDICT_NONE;
}

/* Does the frame hold the packet? What is not linear is not counted before it has to be: that is a call. */
static __always_inline bool holds_packet(struct xdp_md *ctx, struct packet *p, __u32 network, __u32 length)
{
	if (network + length > p->end && p->origin == FROM_EXTERNAL)
		p->end = bpf_xdp_get_buff_len(ctx);
	return network + length <= p->end;
}

static __always_inline MUST_CHECK int parse_ipv4(struct xdp_md *ctx, struct packet *p, __u32 network)
{
	void *data_end = end_of(ctx);
	struct iphdr *ip = start_of(ctx) + network;

	if ((void *)(ip + 1) > data_end || network + sizeof(*ip) > p->end)
		return refuse(DROP_MALFORMED);
	p->six = 0;
	p->tos = ip->tos;
	p->ttl = ip->ttl;
	p->protocol = ip->protocol;
	p->length = bpf_ntohs(ip->tot_len);
	p->source[V4] = ip->saddr;
	p->destination[V4] = ip->daddr;
	if (ip->version != 4 || ip->ihl < 5)
		return refuse(DROP_MALFORMED);
	if (ip->ihl > 5)
		return refuse(DROP_IP_OPTIONS);
	if (p->length < sizeof(*ip) || !holds_packet(ctx, p, network, p->length))
		return refuse(DROP_MALFORMED);
	__u8 source = ip->saddr & 0xff, destination = ip->daddr & 0xff;

	if (source == 0 || source == 127 || source >= 224)
		return refuse(DROP_MARTIAN_SOURCE);
	if (destination == 0 || destination == 127)
		return refuse(DROP_MARTIAN_DESTINATION);
	if (destination >= 224)
		return refuse(DROP_BROADCAST);
	if (ip->frag_off & bpf_htons(0x3fff)) {
		p->fragment = ip->frag_off & bpf_htons(0x1fff) ? 3 : 1;
		p->fragment_id = ip->id;
	}
	return parse_transport(ctx, p, network, sizeof(*ip));
}

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_DSTOPTS;
}

static __always_inline MUST_CHECK int check_addresses6(const __u32 *source, const __u32 *destination)
{
	const __u32 one = bpf_htonl(1);

	if ((source[0] & 0xff) == 0xff || !(source[0] | source[1] | source[2] | (source[3] & ~one)))
		return refuse(DROP_MARTIAN_SOURCE);
	if ((destination[0] & 0xff) == 0xff)
		return refuse(DROP_BROADCAST);
	if (!(destination[0] | destination[1] | destination[2] | (destination[3] & ~one)))
		return refuse(DROP_MARTIAN_DESTINATION);
	if ((source[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000) ||
	    (destination[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000))
		return refuse(DROP_LINK_LOCAL);
	return VERDICT_NONE;
}

struct fragment_header { /* RFC 8200, section 4.5 */
	__u8 next, reserved;
	__u16 offset;
	__u16 id[2];
};

static __always_inline MUST_CHECK int parse_ipv6(struct xdp_md *ctx, struct packet *p, __u32 network)
{
	void *data_end = end_of(ctx);
	struct ipv6hdr *ip = start_of(ctx) + network;
	__u32 header = sizeof(*ip);

	if ((void *)(ip + 1) > data_end || network + sizeof(*ip) > p->end)
		return refuse(DROP_MALFORMED);
	p->six = 1;
	p->tos = bpf_ntohs(*(__u16 *)ip) >> 4;
	p->ttl = ip->hop_limit;
	p->protocol = ip->nexthdr;
	copy6(p->source, ip->saddr.in6_u.u6_addr32);
	copy6(p->destination, ip->daddr.in6_u.u6_addr32);
	__u32 length = sizeof(*ip) + bpf_ntohs(ip->payload_len);

	if (ip->version != 6 || !holds_packet(ctx, p, network, length))
		return refuse(DROP_MALFORMED);
	p->length = length;
	int verdict = check_addresses6(p->source, p->destination);

	if (verdict)
		return verdict;
	if (is_extension(p->protocol))
		return refuse(DROP_EXTENSION_HEADERS);
	if (p->protocol == IPPROTO_FRAGMENT) {
		struct fragment_header *fragment = (void *)(ip + 1);

		if ((void *)(fragment + 1) > data_end || length < sizeof(*ip) + sizeof(*fragment))
			return refuse(DROP_MALFORMED);
		p->protocol = fragment->next;
		p->fragment = fragment->offset & bpf_htons(0xfff8) ? 3 : !!(fragment->offset & bpf_htons(1));
		p->fragment_id = fragment->id[0] ^ fragment->id[1];
		header += sizeof(*fragment);
		if (is_extension(p->protocol) || p->protocol == IPPROTO_FRAGMENT)
			return refuse(DROP_EXTENSION_HEADERS);
	}
	return parse_transport(ctx, p, network, header);
}

/* RFC 6040, section 4.2: the outer header's congestion mark joins the inner one's. */
static __always_inline MUST_CHECK int combine_congestion(struct packet *p)
{
	__u8 outer = p->outer_tos & 3, inner = p->tos & 3;

	if (outer < 3 && !(outer == 1 && inner == 2))
		return VERDICT_NONE;
	if (!inner)
		return refuse(DROP_ECN_NOT_CAPABLE);
	p->tos |= outer;
	if (outer == 1)
		p->tos &= ~2;
	return VERDICT_NONE;
}

/*
 * The packet that begins at `network`, less than 256 bytes from the frame's start. (What is known of it when this is compiled needs
 * neither be kept nor masked: most of what there is to parse lies at a constant distance.)
 */
static __always_inline MUST_CHECK int parse_packet(struct xdp_md *ctx, struct packet *p, __u32 network)
{
	p->network = network;
	return p->type == bpf_htons(ETH_P_IPV6) ? parse_ipv6(ctx, p, network) : parse_ipv4(ctx, p, network);
}
