/* From the wire to a packet of one routing domain: ports, NVGRE (RFC 7637), VXLAN (RFC 7348), admission. */
#pragma once

#include "packet.h"

#define VXLAN_PORT 4789
#define VXLAN_HAS_VNI 0x08
#define NVGRE_FLAGS 0x2000 /* K alone */
#define GRE_HEADER 8
#define VXLAN_HEADER 16 /* with UDP's */

/* What follows the outer IP header at `offset`. */
static __always_inline MUST_CHECK int parse_tunnel(struct xdp_md *ctx, struct packet *p, __u32 offset, __u8 protocol, __u32 outer_end)
{
	void *data_end = end_of(ctx);
	void *start = start_of(ctx) + offset;
	__u32 frame = end_of(ctx) - start_of(ctx);
	__u32 header;

	if (protocol == IPPROTO_GRE) {
		__u32 *gre = start;

		if (start + GRE_HEADER > data_end || offset + GRE_HEADER > outer_end)
			return refuse(DROP_MALFORMED);
		if (gre[0] != bpf_htonl(NVGRE_FLAGS << 16 | ETH_P_TEB))
			return refuse(VERDICT_PASSED);
		p->vsid = bpf_ntohl(gre[1]) >> 8;
		p->encapsulation = ENCAPSULATION_NVGRE;
		header = GRE_HEADER;
	} else {
		struct udphdr *udp = start;

		if (start + sizeof(*udp) > data_end || offset + sizeof(*udp) > outer_end || udp->dest != bpf_htons(VXLAN_PORT))
			return refuse(VERDICT_PASSED);
		if (start + VXLAN_HEADER > data_end || offset + VXLAN_HEADER > outer_end || !(*(__u8 *)(start + 8) & VXLAN_HAS_VNI))
			return refuse(DROP_MALFORMED);
		p->vsid = bpf_ntohl(*(__u32 *)(start + 12)) >> 8;
		p->encapsulation = ENCAPSULATION_VXLAN;
		header = VXLAN_HEADER;
	}
	if (outer_end > frame && outer_end > bpf_xdp_get_buff_len(ctx))
		return refuse(DROP_MALFORMED);
	if (offset + header + sizeof(struct ethhdr) > outer_end)
		return refuse(DROP_MALFORMED);
	p->end = outer_end;
	return VERDICT_NONE;
}

/* The line of a domain's table, 0: it has none. To be read once, so that one packet meets one policy. */
static __always_inline __u32 table_line_of(__u32 number)
{
	return *(volatile __u32 *)&tables[number & (DOMAINS_MAX - 1)].line;
}

static __always_inline bool open_table(struct block *table, __u32 number)
{
	__u32 line = table_line_of(number);

	return line && open_block(table, line);
}

static __always_inline MUST_CHECK bool enter_domain(struct packet *p, __u32 number)
{
	p->table_line = table_line_of(number);
	p->arrival_line = p->table_line;
	p->domain = number;
	return p->table_line && open_block(&p->table, p->table_line);
}

static __always_inline MUST_CHECK int enter_vsid(struct packet *p, const struct directory *directory)
{
	struct cell *cell = find_cell(&p->directory, &directory->vsids, p->vsid);

	if (!cell || !enter_domain(p, cell->target))
		return refuse(DROP_UNKNOWN_VSID);
	return VERDICT_NONE;
}

/* May the host with this number send for the domain? */
static __always_inline MUST_CHECK int admit_host(const struct packet *p, __u32 number)
{
	struct table *table = table_of(p);

	if (number < 128)
		return table->admitted_low[number / 64] >> number % 64 & 1 ? VERDICT_NONE : DROP_SOURCE_NOT_ADMITTED;
	if (number >= table->admitted_bits)
		return refuse(DROP_SOURCE_NOT_ADMITTED);
	__u64 *bits = address_in(&p->table, table->admitted, number / 64 * sizeof(*bits));

	return *bits >> number % 64 & 1 ? VERDICT_NONE : DROP_SOURCE_NOT_ADMITTED;
}

static __always_inline bool is_provider4(const struct packet *p, const struct directory *directory, __u32 address)
{
	return address && (address == directory->provider4 || find_cell(&p->directory, &directory->providers4, address));
}

/* An outer IPv4 packet. VERDICT_PASSED: no tunnel that ends here. */
static __always_inline MUST_CHECK int receive_outer4(struct xdp_md *ctx, struct packet *p, const struct directory *directory, __u32 offset, bool *ours)
{
	void *data_end = end_of(ctx);
	struct iphdr *ip = start_of(ctx) + offset;

	if ((void *)(ip + 1) > data_end || ip->version != 4 || ip->ihl < 5)
		return refuse(VERDICT_PASSED);
	if (!is_provider4(p, directory, ip->daddr))
		return refuse(VERDICT_PASSED);
	*ours = true;
	__u8 protocol = ip->protocol;

	if (protocol != IPPROTO_GRE && protocol != IPPROTO_UDP)
		return refuse(VERDICT_PASSED);
	if (ip->ihl > 5)
		return protocol == IPPROTO_GRE ? DROP_OUTER_OPTIONS : VERDICT_PASSED;
	__u16 *destination_port = (__u16 *)(ip + 1) + 1;

	if (ip->frag_off & bpf_htons(0x3fff)) {
		if (protocol == IPPROTO_GRE)
			return refuse(DROP_OUTER_FRAGMENT);
		if (!(ip->frag_off & bpf_htons(0x1fff)) && (void *)(destination_port + 1) <= data_end &&
		    *destination_port == bpf_htons(VXLAN_PORT))
			return refuse(DROP_OUTER_FRAGMENT);
		return refuse(VERDICT_PASSED);
	}
	p->outer_family = 4;
	p->outer_tos = ip->tos;
	__u32 source = ip->saddr;
	int verdict = parse_tunnel(ctx, p, offset + sizeof(*ip), protocol, offset + bpf_ntohs(ip->tot_len));

	if (verdict)
		return verdict;
	verdict = enter_vsid(p, directory);
	if (verdict)
		return verdict;
	struct cell *host = find_cell(&p->directory, &directory->hosts4, source);

	return host ? admit_host(p, host->target) : DROP_SOURCE_NOT_ADMITTED;
}

static __always_inline MUST_CHECK int receive_outer6(struct xdp_md *ctx, struct packet *p, const struct directory *directory, __u32 offset, bool *ours)
{
	void *data_end = end_of(ctx);
	struct ipv6hdr *ip = start_of(ctx) + offset;
	__u32 source[4];

	struct directory_more *more = line_of(&p->directory, 1);

	if ((void *)(ip + 1) > data_end || ip->version != 6)
		return refuse(VERDICT_PASSED);
	copy6(source, ip->daddr.in6_u.u6_addr32);
	if (!find_cell6(&p->directory, &more->providers6, source))
		return refuse(VERDICT_PASSED);
	*ours = true;
	__u8 protocol = ip->nexthdr;

	if (protocol != IPPROTO_GRE && protocol != IPPROTO_UDP)
		return refuse(VERDICT_PASSED);
	p->outer_family = 6;
	p->outer_tos = bpf_ntohs(*(__u16 *)ip) >> 4;
	copy6(source, ip->saddr.in6_u.u6_addr32);
	int verdict =
		parse_tunnel(ctx, p, offset + sizeof(*ip), protocol, offset + sizeof(*ip) + bpf_ntohs(ip->payload_len));

	if (verdict)
		return verdict;
	verdict = enter_vsid(p, directory);
	if (verdict)
		return verdict;
	struct cell6 *host = find_cell6(&p->directory, &more->hosts6, source);

	return host ? admit_host(p, host->target) : DROP_SOURCE_NOT_ADMITTED;
}

/* The inner Ethernet header of a packet from a tunnel. VERDICT_CONSUMED: the neighbours' program takes over. */
static __always_inline MUST_CHECK int receive_inner(struct xdp_md *ctx, struct packet *p, const struct directory *directory, __u32 offset)
{
	void *data_end = end_of(ctx);
	struct ethhdr *ethernet = start_of(ctx) + offset;

	p->ethernet = offset;
	p->network = offset + sizeof(*ethernet);
	if ((void *)(ethernet + 1) > data_end)
		return refuse(DROP_MALFORMED);
	p->type = type_of(ethernet);
	if (p->type == bpf_htons(ETH_P_ARP))
		return refuse(VERDICT_CONSUMED);
	if (p->type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(ethernet + 1);
		__u8 *icmp = (void *)(ip + 1);

		if ((void *)(icmp + 24) <= data_end && p->network + sizeof(*ip) + 24 <= p->end && ip->nexthdr == IPPROTO_ICMPV6 &&
		    ip->hop_limit == 255 && icmp[0] == 135)
			return refuse(VERDICT_CONSUMED);
	}
	if (p->type == bpf_htons(ETH_P_8021Q) || p->type == bpf_htons(ETH_P_8021AD))
		return refuse(DROP_INNER_VLAN);
	if (ethernet->h_dest[0] & 1)
		return refuse(DROP_BROADCAST);
	if (mac_of(ethernet->h_dest) != mac_of(directory->router_mac))
		return refuse(DROP_NOT_ROUTER_MAC);
	if (p->type != bpf_htons(ETH_P_IP) && p->type != bpf_htons(ETH_P_IPV6))
		return refuse(DROP_NOT_IP);
	return VERDICT_NONE;
}
