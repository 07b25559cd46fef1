/* What every answer of the gateway's own has in common: its budget, its source address, the way back. */
#pragma once

#include "budget.h"
#include "checksum.h"
#include "finish.h"
#include "leave.h"

#define ANSWERS_PER_SECOND 1000

static __always_inline bool may_answer(__u32 number)
{
	struct budget *budget = bpf_map_lookup_elem(&answer_budgets, &number);

	return budget && spend(budget, ANSWERS_PER_SECOND, ANSWERS_PER_SECOND);
}

/* The router's side that the packet came in by. */
static __always_inline struct subnet *ingress_subnet(const struct packet *p)
{
	struct table_more *more = more_of(p);
	struct cell *cell = p->origin == FROM_EXTERNAL ? find_cell(&p->table, &more->links, p->port) :
							 find_cell(&p->table, &more->vsids, p->vsid);

	return cell ? subnet_of(p, cell->index) : NULL;
}

static __always_inline bool router_address(const struct packet *p, __u32 *address)
{
	struct subnet *subnet = ingress_subnet(p);

	if (!subnet)
		return false;
	if (is_six(p))
		copy6(address, subnet->router6);
	else
		address[V4] = subnet->router4;
	return !zero6(address);
}

static __always_inline void swap_macs(void *ethernet, __u64 mine)
{
	put_mac(ethernet, mac_of(ethernet + ETH_ALEN));
	put_mac(ethernet + ETH_ALEN, mine);
}

static __always_inline int reflect_outer4(void *at, void *data_end, __u32 behind)
{
	struct iphdr *ip = at;
	__u32 length = sizeof(*ip) + behind;

	if ((void *)(ip + 1) > data_end)
		return DROP_INTERNAL;
	__u32 ours = ip->daddr;

	*(__u16 *)at = bpf_htons(0x4500);
	ip->tot_len = bpf_htons(length);
	*(__u32 *)&ip->id = bpf_htonl(0x4000);
	ip->ttl = OUTER_TTL;
	ip->check = 0;
	ip->daddr = ip->saddr;
	ip->saddr = ours;
	ip->check = ~fold_sum(sum_words(at, 5));
	return VERDICT_NONE;
}

static __always_inline int reflect_outer6(void *at, void *data_end, __u32 behind)
{
	struct ipv6hdr *ip = at;
	__u32 ours[4];

	if ((void *)(ip + 1) > data_end)
		return DROP_INTERNAL;
	copy6(ours, ip->daddr.in6_u.u6_addr32);
	*(__u32 *)at = bpf_htonl(0x60000000);
	ip->payload_len = bpf_htons(behind);
	ip->hop_limit = OUTER_TTL;
	copy6(ip->daddr.in6_u.u6_addr32, ip->saddr.in6_u.u6_addr32);
	copy6(ip->saddr.in6_u.u6_addr32, ours);
	return VERDICT_NONE;
}

/*
 * Turns the headers in front of p->network round: the frame goes back to where it came from, in the same encapsulation.
 * `length` bytes follow from p->network on. `mac`: whose answer it is.
 */
static __always_inline MUST_CHECK int reflect(struct xdp_md *ctx, const struct packet *p, __u32 length, __u64 mac)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct port *port = port_of(p->port);

	if (data + sizeof(struct ethhdr) > data_end)
		return DROP_INTERNAL;
	if (p->origin == FROM_EXTERNAL) {
		swap_macs(data, mac);
		return VERDICT_NONE;
	}
	swap_macs(data, mac_of(port->mac));
	void *inner = data + (p->ethernet & 0x7f);

	if (inner + sizeof(struct ethhdr) > data_end)
		return DROP_INTERNAL;
	swap_macs(inner, mac);
	__u32 tunnel = p->encapsulation == ENCAPSULATION_VXLAN ? VXLAN_HEADER : GRE_HEADER;
	__u32 network = p->outer_family == 6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	__u32 behind = tunnel + sizeof(struct ethhdr) + length;

	if (p->encapsulation == ENCAPSULATION_VXLAN) {
		struct udphdr *udp = data + ((p->ethernet - VXLAN_HEADER) & 0x7f);
		__u32 *vxlan = (void *)(udp + 1);

		if ((void *)(vxlan + 2) > data_end)
			return DROP_INTERNAL;
		udp->len = bpf_htons(behind);
		udp->check = 0;
		vxlan[0] = bpf_htonl(VXLAN_HAS_VNI << 24);
		vxlan[1] = bpf_htonl(p->vsid << 8);
	}
	void *outer = data + ((p->ethernet - tunnel - network) & 0x1f);

	return p->outer_family == 6 ? reflect_outer6(outer, data_end, behind) : reflect_outer4(outer, data_end, behind);
}

/* Makes the frame end `length` bytes behind p->network. */
static __always_inline MUST_CHECK int resize(struct xdp_md *ctx, const struct packet *p, __u32 length)
{
	int delta = (int)(p->network + length) - (int)bpf_xdp_get_buff_len(ctx);

	return delta && bpf_xdp_adjust_tail(ctx, delta) ? DROP_INTERNAL : VERDICT_NONE;
}

/* The MAC that the gateway has for whoever sent the packet. */
static __always_inline __u64 own_mac(const struct packet *p)
{
	if (p->origin == FROM_EXTERNAL)
		return mac_of(port_of(p->port)->mac);
	struct directory *directory = line_of(&p->directory, 0);

	return mac_of(directory->router_mac);
}
