/* HNV's IP rewrite: customer and provider addresses exchanged in place, no encapsulation. */
#pragma once

#include "checksum.h"
#include "parse.h"
#include "tunnel.h"

#define UDP_CHECK_OFFSET 6
#define TCP_CHECK_OFFSET 16
#define ICMP6_CHECK_OFFSET 2

static __always_inline void exchange_transport_sum(struct xdp_md *ctx, const struct packet *p, __u16 from, __u16 to)
{
	__u32 offset = p->protocol == IPPROTO_TCP			? TCP_CHECK_OFFSET :
		       p->protocol == IPPROTO_UDP			? UDP_CHECK_OFFSET :
		       p->protocol == IPPROTO_ICMPV6 && is_six(p) ? ICMP6_CHECK_OFFSET :
								    0;
	__u16 *check = (void *)(long)ctx->data + ((p->transport + offset) & 0x1ff);

	if (!offset || p->fragment & 2 || (void *)(check + 1) > (void *)(long)ctx->data_end ||
	    p->transport + offset + sizeof(*check) > p->network + p->length)
		return;
	if (p->protocol == IPPROTO_UDP && !*check)
		return;
	*check = exchange_sum(*check, from, to);
	if (p->protocol == IPPROTO_UDP && !*check)
		*check = 0xffff;
}

/* Puts these addresses into the packet; checksums follow. */
static __always_inline MUST_CHECK int rewrite_addresses(struct xdp_md *ctx, struct packet *p, const __u32 *source, const __u32 *destination)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *start = (void *)(long)ctx->data + (p->network & 0xff);
	__u16 from, to;

	if (is_six(p)) {
		struct ipv6hdr *ip = start;

		if ((void *)(ip + 1) > data_end)
			return DROP_INTERNAL;
		from = fold_sum(sum_words(ip->saddr.in6_u.u6_addr32, 8));
		copy6(ip->saddr.in6_u.u6_addr32, source);
		copy6(ip->daddr.in6_u.u6_addr32, destination);
		to = fold_sum(sum_words(ip->saddr.in6_u.u6_addr32, 8));
	} else {
		struct iphdr *ip = start;

		if ((void *)(ip + 1) > data_end)
			return DROP_INTERNAL;
		from = fold_sum(sum_words(&ip->saddr, 2));
		ip->saddr = source[V4];
		ip->daddr = destination[V4];
		to = fold_sum(sum_words(&ip->saddr, 2));
		ip->check = exchange_sum(ip->check, from, to);
	}
	exchange_transport_sum(ctx, p, from, to);
	return VERDICT_NONE;
}

static __always_inline struct rewrite *find_rewrite(const struct packet *p, const __u32 *address)
{
	struct directory_more *more = line_of(&p->directory, 1);

	if (is_six(p)) {
		struct cell6 *cell = find_cell6(&p->directory, &more->rewrites6, address);

		return cell ? line_of(&p->directory, cell->target) : NULL;
	}
	struct cell *cell = find_cell(&p->directory, &more->rewrites4, address[V4]);

	return cell ? line_of(&p->directory, cell->target) : NULL;
}

/* A packet between two provider addresses that rewrite records name. VERDICT_PASSED: it is none. */
static __always_inline MUST_CHECK int receive_rewritten(struct xdp_md *ctx, struct packet *p, __u32 network)
{
	int verdict = parse_packet(ctx, p, network);

	/* parsed or not, what is not addressed to a rewritten address is Linux's */
	struct rewrite *destination = find_rewrite(p, p->destination);

	if (!destination)
		return VERDICT_PASSED;
	if (!enter_domain(p, destination->domain))
		return DROP_UNKNOWN_VSID;
	struct rewrite *source = find_rewrite(p, p->source);

	if (!source || source->domain != p->domain)
		return DROP_SOURCE_NOT_ADMITTED;
	if (verdict)
		return verdict;
	p->vsid = source->vsid;
	p->origin = FROM_REWRITE;
	verdict = rewrite_addresses(ctx, p, source->customer, destination->customer);
	copy6(p->source, source->customer);
	copy6(p->destination, destination->customer);
	return verdict;
}
