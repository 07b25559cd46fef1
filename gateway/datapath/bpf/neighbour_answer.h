/* ARP (RFC 826) and neighbour discovery (RFC 4861): answered from policy, learned on external ports, asked when one is missing. */
#pragma once

#include "asked_about.h"

#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_LENGTH 24	    /* before its options */
#define ND_ANSWER_LENGTH 32 /* with one link-layer address */
#define ND_SOURCE_OPTION 1
#define ND_TARGET_OPTION 2
#define ND_FLAG_OVERRIDE 0x20000000
#define ND_FLAGS_ROUTER 0xe0000000 /* router, solicited, override */
#define ND_FLAGS_HOST 0x60000000
#define ND_FLAGS_TO_ALL 0xa0000000 /* not solicited: the answer to duplicate address detection */

struct arp {
	__u16 hardware, protocol;
	__u8 hardware_length, protocol_length;
	__u16 operation;
	__u8 sender_mac[6], sender[4];
	__u8 target_mac[6], target[4];
};

struct nd {
	__u8 type, code;
	__u16 check;
	__u32 flags;
	__u32 target[4];
	__u8 option, option_length; /* in units of 8 bytes */
	__u8 option_mac[6];
};

static __always_inline __u32 address_of(const __u8 *bytes)
{
	__u32 address;

	__builtin_memcpy(&address, bytes, sizeof(address));
	return address;
}

static __always_inline MUST_CHECK int answer_arp(struct xdp_md *ctx, struct packet *p)
{
	struct arp *arp = (void *)(long)ctx->data + (p->network & 0x7f);
	bool external = p->origin == FROM_EXTERNAL, router = false;
	__u32 target[4] = {}, sender[4] = {};
	int otherwise = external ? VERDICT_PASSED : DROP_NEIGHBOR_UNANSWERED;
	struct port *port = port_of(p->port);

	if ((void *)(arp + 1) > (void *)(long)ctx->data_end || p->network + sizeof(*arp) > p->end)
		return otherwise;
	if (arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_length != 6 || arp->protocol_length != 4)
		return otherwise;
	bool request = arp->operation == bpf_htons(1);

	target[V4] = address_of(arp->target);
	sender[V4] = address_of(arp->sender);
	__u64 sender_mac = mac_of(arp->sender_mac), mac;

	if (external) {
		if (!is_link_address(p, target)) {
			if (sender[V4] && same6(sender, target))
				learn4(port, sender[V4], sender_mac, true);
			return VERDICT_PASSED;
		}
		if (!request && arp->operation != bpf_htons(2))
			return VERDICT_PASSED;
		if (sender[V4])
			learn4(port, sender[V4], sender_mac, false);
		if (!request)
			return VERDICT_CONSUMED;
		mac = mac_of(port->mac);
	} else {
		mac = request ? mac_in_subnet(p, target, sender, sender_mac, &router) : 0;
		if (!mac)
			return DROP_NEIGHBOR_UNANSWERED;
	}
	if (!may_answer(p->domain))
		return DROP_ANSWER_LIMITED;
	if (resize(ctx, p, sizeof(*arp)))
		return DROP_INTERNAL;
	arp = (void *)(long)ctx->data + (p->network & 0x7f);
	if ((void *)(arp + 1) > (void *)(long)ctx->data_end)
		return DROP_INTERNAL;
	arp->operation = bpf_htons(2);
	put_mac(arp->target_mac, sender_mac);
	__builtin_memcpy(arp->target, &sender[V4], 4);
	put_mac(arp->sender_mac, mac);
	__builtin_memcpy(arp->sender, &target[V4], 4);
	int verdict = reflect(ctx, p, sizeof(*arp), external ? mac : own_mac(p));

	return verdict ? verdict : VERDICT_ANSWERED;
}

static __always_inline __u16 nd_checksum(const struct ipv6hdr *ip, const struct nd *nd)
{
	return ~fold_sum(sum_words(ip->saddr.in6_u.u6_addr32, 8) + sum_words((const __u32 *)nd, ND_ANSWER_LENGTH / 4) +
			 bpf_htonl(ND_ANSWER_LENGTH) + bpf_htonl(IPPROTO_ICMPV6));
}

static __always_inline void write_nd(struct ipv6hdr *ip, struct nd *nd, const __u32 *source, const __u32 *destination, __u8 type, __u32 flags,
				     const __u32 *target, __u8 option, __u64 mac)
{
	*(__u32 *)ip = bpf_htonl(0x60000000);
	ip->payload_len = bpf_htons(ND_ANSWER_LENGTH);
	ip->nexthdr = IPPROTO_ICMPV6;
	ip->hop_limit = 255;
	copy6(ip->saddr.in6_u.u6_addr32, source);
	copy6(ip->daddr.in6_u.u6_addr32, destination);
	nd->type = type;
	nd->code = 0;
	nd->check = 0;
	nd->flags = bpf_htonl(flags);
	copy6(nd->target, target);
	nd->option = option;
	nd->option_length = 1;
	put_mac(nd->option_mac, mac);
	nd->check = nd_checksum(ip, nd);
}

/* The link-layer address in the first option, 0 where there is none. */
static __always_inline __u64 nd_option(const struct packet *p, const struct nd *nd, void *data_end, __u8 option)
{
	bool there = (void *)(nd + 1) <= data_end && p->network + sizeof(struct ipv6hdr) + sizeof(*nd) <= p->end;

	return there && nd->option == option && nd->option_length == 1 ? mac_of(nd->option_mac) : 0;
}

static __always_inline MUST_CHECK int answer_nd(struct xdp_md *ctx, struct packet *p)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip = (void *)(long)ctx->data + (p->network & 0x7f);
	struct nd *nd = (void *)(ip + 1);
	bool external = p->origin == FROM_EXTERNAL, router = false;
	__u32 target[4], sender[4];
	struct port *port = port_of(p->port);
	__u64 mac;

	p->six = 1;
	if ((void *)nd + ND_LENGTH > data_end)
		return DROP_INTERNAL;
	copy6(target, nd->target);
	copy6(sender, ip->saddr.in6_u.u6_addr32);
	if (external && nd->type == ND_ADVERTISEMENT) {
		__u32 asked[4];

		copy6(asked, ip->daddr.in6_u.u6_addr32);
		mac = nd_option(p, nd, data_end, ND_TARGET_OPTION);
		if (!is_link_address(p, asked)) { /* RFC 4861, 7.2.6: a neighbour that we know may say that it has moved */
			if (mac && nd->flags & bpf_htonl(ND_FLAG_OVERRIDE))
				learn6(port, target, mac, true);
			return VERDICT_PASSED;
		}
		if (mac)
			learn6(port, target, mac, false);
		return VERDICT_CONSUMED;
	}
	if (external) {
		__u64 sender_mac = nd_option(p, nd, data_end, ND_SOURCE_OPTION);

		if (!is_link_address(p, target))
			return VERDICT_PASSED;
		if (sender_mac && !zero6(sender))
			learn6(port, sender, sender_mac, false);
		mac = mac_of(port->mac);
		router = true;
	} else {
		struct ethhdr *ethernet = (void *)(long)ctx->data + (p->ethernet & 0x7f);

		if ((void *)(ethernet + 1) > data_end)
			return DROP_INTERNAL;
		mac = zero6(sender) ? 0 : mac_in_subnet(p, target, sender, mac_of(ethernet->h_source), &router);
		if (!mac)
			return DROP_NEIGHBOR_UNANSWERED;
	}
	if (!may_answer(p->domain))
		return DROP_ANSWER_LIMITED;
	if (resize(ctx, p, sizeof(*ip) + ND_ANSWER_LENGTH))
		return DROP_INTERNAL;
	ip = (void *)(long)ctx->data + (p->network & 0x7f);
	nd = (void *)(ip + 1);
	if ((void *)(nd + 1) > (void *)(long)ctx->data_end)
		return DROP_INTERNAL;
	__u32 flags = router ? ND_FLAGS_ROUTER : ND_FLAGS_HOST;

	if (zero6(sender)) { /* RFC 4861, 7.2.4: to all nodes */
		sender[0] = bpf_htonl(0xff020000);
		sender[3] = bpf_htonl(1);
		flags = ND_FLAGS_TO_ALL;
	}
	write_nd(ip, nd, target, sender, ND_ADVERTISEMENT, flags, target, ND_TARGET_OPTION, mac);
	int verdict = reflect(ctx, p, sizeof(*ip) + ND_ANSWER_LENGTH, external ? mac : own_mac(p));

	return verdict ? verdict : VERDICT_ANSWERED;
}

/* The packet that had no neighbour to go to becomes the question for it. */
static __always_inline MUST_CHECK int ask_for_neighbour(struct xdp_md *ctx, const struct packet *p, const struct port *out)
{
	__u32 headers = ethernet_length(out);
	__u32 length = headers + (is_six(p) ? sizeof(struct ipv6hdr) + sizeof(struct nd) : sizeof(struct arp));
	int delta = (int)length - (int)bpf_xdp_get_buff_len(ctx);
	__u64 mine = mac_of(out->mac);

	struct block block;

	if (!p->hop || !open_block(&block, p->hop))
		return DROP_ANSWER_LIMITED;
	struct next_hop *hop = line_of(&block, 0);

	const __u32 *neighbour = taken_on_by(p, hop);

	if (zero6(hop->source) || !may_answer(p->domain))
		return DROP_ANSWER_LIMITED;
	if (delta && bpf_xdp_adjust_tail(ctx, delta))
		return DROP_INTERNAL;
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	void *at = data + (out->vlan ? sizeof(struct ethhdr) + 4 : sizeof(struct ethhdr));

	if (is_six(p)) {
		struct ipv6hdr *ip = at;
		struct nd *nd = (void *)(ip + 1);
		__u32 group[4] = { bpf_htonl(0xff020000), 0, bpf_htonl(1), neighbour[3] | bpf_htonl(0xff000000) };

		if ((void *)(nd + 1) > data_end)
			return DROP_INTERNAL;
		write_ethernet(data, out, 0x3333 | (__u64)group[3] << 16, bpf_htons(ETH_P_IPV6));
		write_nd(ip, nd, hop->source, group, ND_SOLICITATION, 0, neighbour, ND_SOURCE_OPTION, mine);
		return VERDICT_NONE;
	}
	struct arp *arp = at;

	if ((void *)(arp + 1) > data_end)
		return DROP_INTERNAL;
	write_ethernet(data, out, 0xffffffffffff, bpf_htons(ETH_P_ARP));
	arp->hardware = bpf_htons(1);
	arp->protocol = bpf_htons(ETH_P_IP);
	arp->hardware_length = 6;
	arp->protocol_length = 4;
	arp->operation = bpf_htons(1);
	put_mac(arp->sender_mac, mine);
	__builtin_memcpy(arp->sender, &hop->source[V4], 4);
	put_mac(arp->target_mac, 0);
	__builtin_memcpy(arp->target, &neighbour[V4], 4);
	return VERDICT_NONE;
}
