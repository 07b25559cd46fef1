/* ICMP from the gateway itself: echo replies and errors (RFC 792, RFC 4443). */
#pragma once

#include "reflect.h"

#define QUOTE_MAX 128
#define HEADERS_MAX 96 /* more than may lie in front of an inner packet */
#define ICMP_HEADER 8

/* Two comparisons of the very register that is used next: as one, by a difference, the verifier does not follow them. */
#define lies_between(value, least, most)                             \
	({                                                           \
		asm volatile("" : "+r"(value));                      \
		bool enough = (value) >= (least);                    \
		asm volatile("" : "+r"(value));                      \
		enough && (value) <= (most);                         \
	})

static __always_inline MUST_CHECK int echo_reply(struct xdp_md *ctx, const struct packet *p)
{
	int verdict = resize(ctx, p, p->end - p->network);

	if (verdict)
		return verdict;
	void *data_end = (void *)(long)ctx->data_end;
	void *start = (void *)(long)ctx->data + (p->network & 0xff);
	__u8 *icmp = (void *)(long)ctx->data + (p->transport & 0xff);

	if (start + sizeof(struct ipv6hdr) > data_end && is_six(p))
		return DROP_INTERNAL;
	if (start + sizeof(struct iphdr) > data_end || (void *)icmp + ICMP_HEADER > data_end)
		return DROP_INTERNAL;
	__u16 *type_and_code = (void *)icmp, *check = (void *)icmp + 2;
	__u16 before = *type_and_code;

	icmp[0] = is_six(p) ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY;
	*check = exchange_sum(*check, before, *type_and_code);
	if (!*check) /* wrong where all of the reply is zero (RFC 1624, 3), and as good as 0xffff elsewhere */
		*check = 0xffff;
	if (is_six(p)) {
		struct ipv6hdr *ip = start;

		if ((void *)(ip + 1) > data_end)
			return DROP_INTERNAL;
		copy6(ip->saddr.in6_u.u6_addr32, p->destination);
		copy6(ip->daddr.in6_u.u6_addr32, p->source);
		ip->hop_limit = OUTER_TTL;
	} else {
		struct iphdr *ip = start;

		ip->saddr = p->destination[V4];
		ip->daddr = p->source[V4];
		ip->check = exchange_sum(ip->check, ip->ttl, OUTER_TTL);
		ip->ttl = OUTER_TTL;
	}
	return reflect(ctx, p, p->end - p->network, own_mac(p));
}

static __always_inline bool deserves_error(const struct packet *p)
{
	if (!p->error_type || p->origin == FROM_REWRITE || p->fragment & 2 || p->ordered) /* the way back leads to the compartment */
		return false;
	if (is_six(p))
		return p->protocol != IPPROTO_ICMPV6 || p->icmp_type >= 128;
	return !is_icmp_error(p);
}

static __always_inline void write_error_header4(void *at, const struct packet *p, const __u32 *source, __u32 length)
{
	struct iphdr *ip = at;

	*(__u16 *)at = bpf_htons(0x4500);
	ip->tot_len = bpf_htons(sizeof(*ip) + length);
	*(__u32 *)&ip->id = bpf_htonl(0x4000);
	ip->ttl = OUTER_TTL;
	ip->protocol = IPPROTO_ICMP;
	ip->check = 0;
	ip->saddr = source[V4];
	ip->daddr = p->source[V4];
	ip->check = ~fold_sum(sum_words(at, 5));
}

static __always_inline void write_error_header6(void *at, const struct packet *p, const __u32 *source, __u32 length)
{
	struct ipv6hdr *ip = at;

	*(__u32 *)at = bpf_htonl(0x60000000);
	ip->payload_len = bpf_htons(length);
	ip->nexthdr = IPPROTO_ICMPV6;
	ip->hop_limit = OUTER_TTL;
	copy6(ip->saddr.in6_u.u6_addr32, source);
	copy6(ip->daddr.in6_u.u6_addr32, p->source);
}

/* Everything of the error that its checksum covers, in one piece: the ICMP header and the quote. */
struct error_body {
	__u8 type, code;
	__u16 check;
	__u32 data;
	__u8 quote[QUOTE_MAX];
};

/* What of an error in the making is too large for the stack. */
struct error_parts {
	struct error_body body;
	__u8 headers[HEADERS_MAX]; /* in front of the packet, as they came */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct error_parts);
} errors SEC(".maps");

static __always_inline __u16 error_checksum(const struct error_body *body, const struct packet *p, const __u32 *source, __u32 length)
{
	__u64 sum = sum_words((const __u32 *)body, sizeof(*body) / 4);

	if (is_six(p))
		sum += sum_words(source, 4) + sum_words(p->source, 4) + bpf_htonl(length) + bpf_htonl(IPPROTO_ICMPV6);
	return ~fold_sum(sum);
}

static __always_inline MUST_CHECK int icmp_error(struct xdp_md *ctx, const struct packet *p)
{
	__u32 source[4] = {}, zero = 0;
	struct error_parts *parts = bpf_map_lookup_elem(&errors, &zero);
	__u64 quote = p->length > QUOTE_MAX ? QUOTE_MAX : p->length & ~3;
	__u32 network = is_six(p) ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	__u64 before = p->network;

	if (p->verdict == DROP_VIP_NOT_SERVED)
		copy6(source, p->destination);
	else if (!router_address(p, source))
		return DROP_INTERNAL;
	if (!parts)
		return DROP_INTERNAL;
	struct error_body *body = &parts->body;

	__builtin_memset(body, 0, sizeof(*body));
	if (!lies_between(before, sizeof(struct ethhdr), HEADERS_MAX) || !lies_between(quote, sizeof(struct iphdr), QUOTE_MAX))
		return DROP_INTERNAL;
	__u32 length = ICMP_HEADER + quote;

	body->type = p->error_type;
	body->code = p->error_code;
	body->data = bpf_htonl(p->error_data);
	if (bpf_xdp_load_bytes(ctx, before, body->quote, quote) || bpf_xdp_load_bytes(ctx, 0, parts->headers, before))
		return DROP_INTERNAL;
	body->check = error_checksum(body, p, source, length);
	if (resize(ctx, p, quote) || bpf_xdp_adjust_head(ctx, -(int)(network + ICMP_HEADER)))
		return DROP_INTERNAL;
	if (bpf_xdp_store_bytes(ctx, 0, parts->headers, before) || bpf_xdp_store_bytes(ctx, before + network, body, length))
		return DROP_INTERNAL;
	void *at = (void *)(long)ctx->data + (before & 0x7f);

	if (at + network > (void *)(long)ctx->data_end)
		return DROP_INTERNAL;
	if (is_six(p)) {
		if (at + sizeof(struct ipv6hdr) > (void *)(long)ctx->data_end)
			return DROP_INTERNAL;
		write_error_header6(at, p, source, length);
	} else {
		if (at + sizeof(struct iphdr) > (void *)(long)ctx->data_end)
			return DROP_INTERNAL;
		write_error_header4(at, p, source, length);
	}
	return reflect(ctx, p, network + length, own_mac(p));
}
