/* From the wire to a parsed packet of a routing domain. */
#pragma once

#include "neighbour_answer.h"
#include "parse.h"
#include "rewrite.h"
#include "tunnel.h"

/* Which port, and what is behind Ethernet. NULL: none of ours. */
static __always_inline struct cell *find_port(struct xdp_md *ctx, struct packet *p, const struct directory *directory, bool *tagged)
{
	void *data = start_of(ctx), *data_end = end_of(ctx);
	struct ethhdr *ethernet = data;
	__u32 vlan = 0;

	if ((void *)(ethernet + 1) > data_end)
		return NULL;
	p->type = type_of(ethernet);
	if (p->type == bpf_htons(ETH_P_8021Q)) {
		__u16 *tag = (void *)(ethernet + 1);

		if ((void *)(tag + 2) > data_end)
			return NULL;
		vlan = bpf_ntohs(tag[0]) & 0xfff;
		p->type = tag[1];
		*tagged = true;
		if (p->type == bpf_htons(ETH_P_8021Q))
			return NULL;
	}
	if (p->type == bpf_htons(ETH_P_8021AD))
		return NULL;
	return find_cell(&p->directory, &directory->ports, ctx->ingress_ifindex << 12 | vlan);
}

/* A frame on an external port. VERDICT_CONSUMED: the neighbours' program takes over. */
static __always_inline MUST_CHECK int receive_external(struct xdp_md *ctx, struct packet *p, const struct cell *cell, __u32 network)
{
	void *data = start_of(ctx), *data_end = end_of(ctx);
	struct ethhdr *ethernet = data;
	struct port *port = port_of(p->port);

	if (!enter_domain(p, cell->target) || (void *)(ethernet + 1) > data_end)
		return refuse(VERDICT_PASSED);
	p->origin = FROM_EXTERNAL;
	p->ethernet = 0;
	p->end = data_end - data;
	if (p->type == bpf_htons(ETH_P_ARP))
		return refuse(VERDICT_CONSUMED);
	if (p->type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + network;
		__u8 *icmp = (void *)(ip + 1);

		if ((void *)(icmp + ND_LENGTH) <= data_end && ip->nexthdr == IPPROTO_ICMPV6 && ip->hop_limit == 255 &&
		    (icmp[0] == ND_SOLICITATION || icmp[0] == ND_ADVERTISEMENT))
			return refuse(VERDICT_CONSUMED);
	}
	if (mac_of(ethernet->h_dest) != mac_of(port->mac))
		return refuse(VERDICT_PASSED);
	if (p->type != bpf_htons(ETH_P_IP) && p->type != bpf_htons(ETH_P_IPV6))
		return refuse(VERDICT_PASSED);
	return VERDICT_NONE;
}

/* A frame that a tunnel carried, at `offset`. */
static __always_inline MUST_CHECK int receive_carried(struct xdp_md *ctx, struct packet *p, const struct directory *directory, __u32 offset)
{
	p->origin = FROM_OVERLAY;
	int verdict = receive_inner(ctx, p, directory, offset);

	if (!verdict)
		verdict = parse_packet(ctx, p, offset + sizeof(struct ethhdr));
	return verdict ? verdict : combine_congestion(p);
}

static __always_inline MUST_CHECK int receive_tunnel(struct xdp_md *ctx, struct packet *p, const struct directory *directory, __u32 offset)
{
	return p->encapsulation == ENCAPSULATION_NVGRE ? receive_carried(ctx, p, directory, offset + GRE_HEADER) :
							 receive_carried(ctx, p, directory, offset + VXLAN_HEADER);
}

/* A frame on a provider port. VERDICT_PASSED: no tunnel that ends here. */
static __always_inline MUST_CHECK int receive_provider(struct xdp_md *ctx, struct packet *p, const struct directory *directory, __u32 network,
						       bool *ours)
{
	int verdict = VERDICT_PASSED;

	if (p->type == bpf_htons(ETH_P_IP)) {
		verdict = receive_outer4(ctx, p, directory, network, ours);
		return verdict ? verdict : receive_tunnel(ctx, p, directory, network + sizeof(struct iphdr));
	}
	if (p->type == bpf_htons(ETH_P_IPV6)) {
		verdict = receive_outer6(ctx, p, directory, network, ours);
		return verdict ? verdict : receive_tunnel(ctx, p, directory, network + sizeof(struct ipv6hdr));
	}
	return verdict;
}

static __always_inline MUST_CHECK int receive_at(struct xdp_md *ctx, struct packet *p, const struct directory *directory,
						 const struct cell *cell, const __u32 network)
{
	int verdict;

	p->network = network;
	p->port = cell->index;
	if (cell->mac[0] & PORT_PROVIDER) {
		bool ours = false;

		verdict = receive_provider(ctx, p, directory, network, &ours);
		if (verdict != VERDICT_PASSED)
			return verdict;
		if (ours) {
			p->end = bpf_xdp_get_buff_len(ctx);
			return receive_rewritten(ctx, p, network);
		}
	}
	if (!(cell->mac[0] & PORT_EXTERNAL)) {
		p->domain = cell->target;
		return cell->mac[0] & PORT_FRAGMENTS ? VERDICT_ORDERED : VERDICT_PASSED;
	}
	verdict = receive_external(ctx, p, cell, network);
	return verdict ? verdict : parse_packet(ctx, p, network);
}

static __always_inline MUST_CHECK int receive(struct xdp_md *ctx, struct packet *p, const struct directory *directory)
{
	bool tagged = false;
	struct cell *cell = find_port(ctx, p, directory, &tagged);

	if (!cell)
		return VERDICT_PASSED;
	return tagged ? receive_at(ctx, p, directory, cell, sizeof(struct ethhdr) + 4) :
			receive_at(ctx, p, directory, cell, sizeof(struct ethhdr));
}
