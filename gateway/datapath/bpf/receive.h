/* From the wire to a parsed packet of a routing domain. */
#pragma once

#include "neighbour_answer.h"
#include "parse.h"
#include "rewrite.h"
#include "tunnel.h"

static __always_inline MUST_CHECK int parse_packet(struct xdp_md *ctx, struct packet *p)
{
	return p->type == bpf_htons(ETH_P_IPV6) ? parse_ipv6(ctx, p) : parse_ipv4(ctx, p);
}

/* Which port, and what is behind Ethernet. NULL: none of ours. */
static __always_inline struct cell *find_port(struct xdp_md *ctx, struct packet *p, const struct directory *directory)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;
	__u32 vlan = 0;

	if ((void *)(ethernet + 1) > data_end)
		return NULL;
	p->type = ethernet->h_proto;
	p->network = sizeof(*ethernet);
	if (p->type == bpf_htons(ETH_P_8021Q)) {
		__u16 *tag = (void *)(ethernet + 1);

		if ((void *)(tag + 2) > data_end)
			return NULL;
		vlan = bpf_ntohs(tag[0]) & 0xfff;
		p->type = tag[1];
		p->network += 4;
		if (p->type == bpf_htons(ETH_P_8021Q))
			return NULL;
	}
	if (p->type == bpf_htons(ETH_P_8021AD))
		return NULL;
	return find_cell(&p->directory, &directory->ports, ctx->ingress_ifindex << 12 | vlan);
}

/* A frame on an external port. VERDICT_CONSUMED: the neighbours' program takes over. */
static __always_inline MUST_CHECK int receive_external(struct xdp_md *ctx, struct packet *p, const struct cell *cell)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
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
		struct ipv6hdr *ip = data + (p->network & 0x1f);
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

static __always_inline MUST_CHECK int receive(struct xdp_md *ctx, struct packet *p, const struct directory *directory)
{
	struct cell *cell = find_port(ctx, p, directory);
	int verdict = VERDICT_PASSED;
	bool ours = false;

	if (!cell)
		return refuse(VERDICT_PASSED);
	p->port = cell->index;
	if (cell->mac[0] & PORT_PROVIDER) {
		if (p->type == bpf_htons(ETH_P_IP))
			verdict = receive_outer4(ctx, p, directory, &ours);
		else if (p->type == bpf_htons(ETH_P_IPV6))
			verdict = receive_outer6(ctx, p, directory, &ours);
		if (!verdict) {
			p->origin = FROM_OVERLAY;
			verdict = receive_inner(ctx, p, directory);
			if (verdict)
				return verdict;
			verdict = parse_packet(ctx, p);
			return verdict ? verdict : combine_congestion(p);
		}
		if (verdict != VERDICT_PASSED)
			return verdict;
		if (ours) {
			p->end = bpf_xdp_get_buff_len(ctx);
			return receive_rewritten(ctx, p);
		}
	}
	if (!(cell->mac[0] & PORT_EXTERNAL)) {
		p->domain = cell->target;
		return cell->mac[0] & PORT_FRAGMENTS ? VERDICT_ORDERED : VERDICT_PASSED;
	}
	verdict = receive_external(ctx, p, cell);
	return verdict ? verdict : parse_packet(ctx, p);
}
