/*
 * Sends millions of packets a second: run with BPF_PROG_TEST_RUN and BPF_F_TEST_XDP_LIVE_FRAMES. The kernel hands the same
 * pages out again with whatever the last pass left in them, so every frame is written whole.
 */
#include "plan.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vxlan_frame);
} template SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 32);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} turn SEC(".maps");

struct flow {
	__u32 domain;
	__u32 source, destination; /* CA or remote address, in host order */
	__u32 sender;		   /* the record it comes from, if from a VM */
	__u32 marked;		   /* the record that the tag names */
	__u32 number;		   /* of a flow to a VIP */
	__u32 entropy;
	__u16 source_port, destination_port;
};

/* A number below `bound` from the top of *bits; the rest of the entropy stays in *bits. */
static __always_inline __u32 draw(__u32 *bits, __u32 bound)
{
	__u64 product = (__u64)*bits * bound;

	*bits = product;
	return product >> 32;
}

static __always_inline __u32 next_turn(void)
{
	__u32 zero = 0, *counter = bpf_map_lookup_elem(&turn, &zero);

	return counter ? (*counter)++ : 0;
}

static __always_inline __u32 next_number(const struct settings *s)
{
	switch (s->selection) {
	case SELECT_ESTABLISHED:
		return (__u64)bpf_get_prandom_u32() * s->flows >> 32;
	case SELECT_IN_TURN:
		return next_turn() % s->flows;
	default:
		return next_turn();
	}
}

/* Two 32-bit numbers that stand for a flow: *where picks VM and rule, *which tells apart the flows that share them. */
static __always_inline void pick(const struct settings *s, __u32 *where, __u32 *which)
{
	if (s->selection == SELECT_RANDOM) {
		*where = bpf_get_prandom_u32();
		*which = bpf_get_prandom_u32();
		return;
	}
	__u32 number = next_number(s);

	*where = number * GOLDEN;
	*which = number * OTHER_ODD;
}

/* A client's flow to a VIP, or back from the member that has it. */
static __always_inline void choose_balanced(const struct settings *s, struct flow *f)
{
	f->number = next_number(s);
	struct client client = client_of(s, f->number);
	__u32 *member = bpf_map_lookup_elem(&members, &f->number);

	f->domain = client.domain;
	f->entropy = f->number;
	if (s->destination == TO_VIP) {
		f->source = client.address;
		f->source_port = client.port;
		f->destination = s->first_vip + client.domain;
		f->destination_port = VIP_PORT;
		return;
	}
	f->sender = f->marked = member && *member ? *member - 1 : 0;
	f->source = customer_address(s, client.domain, f->sender);
	f->source_port = MEMBER_PORT;
	f->destination = client.address;
	f->destination_port = client.port;
}

/* Each flow satisfies exactly one rule of its VSID's list, so the matches spread over the whole list. */
static __always_inline void choose(const struct settings *s, struct flow *f)
{
	__u32 where, which;

	if (s->destination >= TO_VIP) {
		choose_balanced(s, f);
		return;
	}
	pick(s, &where, &which);
	f->entropy = which;
	f->domain = draw(&where, s->domains);
	__u32 record = draw(&where, s->records);
	__u32 rule = (record / SUBNETS >> s->sharing_shift) * s->nested + draw(&where, s->nested) +
		     draw(&where, RULES / CA_PREFIXES) * CA_PREFIXES;
	__u32 vm = customer_address(s, f->domain, record);
	__u32 remote = s->first_remote + (rule / RULES_PER_REMOTE << 16) + (which & 0xff);
	__u16 service = FIRST_PORT + rule % PORT_CLASSES * PORT_STRIDE, client = 1024 + (which >> 8 & 0x7fff);

	f->sender = record;
	f->marked = record;
	if (s->destination == TO_OTHER_SUBNET) {
		f->marked = draw(&which, s->records / SUBNETS) * SUBNETS + !(record % SUBNETS);
		remote = customer_address(s, f->domain, f->marked);
	}
	bool from_vm = s->destination != TO_VM, from_client = from_vm == (s->client == CLIENT_VM);

	f->source = from_vm ? vm : remote;
	f->destination = from_vm ? remote : vm;
	f->source_port = from_client ? client : service;
	f->destination_port = from_client ? service : client;
}

/* RFC 1071: a checksum of all but some words, and those. */
static __always_inline __u16 complete(__u16 check, __u64 words)
{
	__u64 sum = (__u16)~check + words;

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

static __always_inline void put_addresses(struct iphdr *header, __be32 source, __be32 destination)
{
	header->saddr = source;
	header->daddr = destination;
	header->check = complete(header->check, (__u64)source + destination);
}

static __always_inline void put_checksum(struct udphdr *udp, const struct tag *tag, __u64 addresses)
{
	udp->check = complete(udp->check, addresses + *(__u32 *)&udp->source + *(__u32 *)&tag->domain + tag->number) ?: 0xffff;
}

static __always_inline void put_packet(struct iphdr *ip, const struct flow *f)
{
	struct udphdr *udp = (void *)(ip + 1);
	struct tag *tag = (void *)(udp + 1);

	put_addresses(ip, bpf_htonl(f->source), bpf_htonl(f->destination));
	udp->source = bpf_htons(f->source_port);
	udp->dest = bpf_htons(f->destination_port);
	*(__u16 *)&tag->domain = f->domain;
	*(__u16 *)&tag->record = f->marked;
	*(__u32 *)&tag->number = f->number;
	if (udp->check) /* 0: none (RFC 768) */
		put_checksum(udp, tag, (__u64)ip->saddr + ip->daddr);
}

/* The last words of the addresses; the others are the template's. */
static __always_inline void put_six(struct six_frame *frame, const struct settings *s, const struct flow *f)
{
	__u32 *source = (void *)&frame->ip.saddr + 12, *destination = (void *)&frame->ip.daddr + 12;

	*source = bpf_htonl(f->source);
	*destination = bpf_htonl(f->destination - s->first_vip + FIRST_VIP6);
	frame->udp.source = bpf_htons(f->source_port);
	frame->udp.dest = bpf_htons(f->destination_port);
	*(__u16 *)&frame->tag.domain = f->domain;
	*(__u32 *)&frame->tag.number = f->number;
	put_checksum(&frame->udp, &frame->tag, (__u64)*source + *destination);
}

/* In words: clang takes packed structures to be misaligned, and would copy them byte by byte. */
static __always_inline void copy(void *to, const void *from, __u32 length)
{
	__u64 *words = to;
	const __u64 *source = from;

#pragma unroll
	for (__u32 i = 0; i < length / 8; i++)
		words[i] = source[i];
	if (length % 8 >= 4)
		*(__u32 *)(to + length / 8 * 8) = *(const __u32 *)(from + length / 8 * 8);
	if (length % 4)
		*(__u16 *)(to + length / 4 * 4) = *(const __u16 *)(from + length / 4 * 4);
}

#define START(type)                                                            \
	struct settings *s = read_settings();                                  \
	__u32 zero = 0;                                                        \
	struct type *frame = (void *)(long)ctx->data, *whole = bpf_map_lookup_elem(&template, &zero); \
	struct flow f = {};                                                    \
                                                                               \
	if (!s || !whole || (void *)(frame + 1) > (void *)(long)ctx->data_end) \
		return XDP_ABORTED;                                            \
	choose(s, &f);                                                         \
	copy(frame, whole, sizeof(*frame))

static __always_inline void put_outer(const struct settings *s, struct iphdr *ip, const struct flow *f)
{
	put_addresses(ip, bpf_htonl(provider_address(s, f->domain, f->sender)), bpf_htonl(s->gateway_pa));
}

SEC("xdp")
int generate_nvgre(struct xdp_md *ctx)
{
	START(nvgre_frame);
	put_outer(s, &frame->ip, &f);
	*(__be32 *)&frame->nvgre.key = bpf_htonl(vsid_of(s, f.domain, f.sender) << 8 | (f.entropy & 0xff));
	put_packet(&frame->inner.ip, &f);
	return bpf_redirect_map(&devices, s->output, 0);
}

SEC("xdp")
int generate_vxlan(struct xdp_md *ctx)
{
	START(vxlan_frame);
	put_outer(s, &frame->ip, &f);
	*(__be16 *)&frame->udp.source = bpf_htons(49152 + (f.entropy & 0x3fff));
	*(__be32 *)&frame->vxlan.vni = bpf_htonl(vsid_of(s, f.domain, f.sender) << 8);
	put_packet(&frame->inner.ip, &f);
	return bpf_redirect_map(&devices, s->output, 0);
}

SEC("xdp")
int generate_tagged(struct xdp_md *ctx)
{
	START(tagged_frame);
	*(__be16 *)&frame->vlan.tci = bpf_htons(f.domain + 1);
	put_packet(&frame->packet.ip, &f);
	return bpf_redirect_map(&devices, s->output, 0);
}

SEC("xdp")
int generate_untagged(struct xdp_md *ctx)
{
	START(inner_frame);
	put_packet(&frame->ip, &f);
	return bpf_redirect_map(&devices, s->output, 0);
}

SEC("xdp")
int generate_six(struct xdp_md *ctx)
{
	START(six_frame);
	put_six(frame, s, &f);
	return bpf_redirect_map(&devices, s->output, 0);
}

char LICENSE[] SEC("license") = "GPL";
