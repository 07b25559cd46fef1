/* Counts what arrives, reads one packet of 64 whole and counts it as wrong unless it is exactly what was due, and drops all. */
#include "plan.h"

#define CPUS 256
#define SAMPLE 64
#define DATAGRAM (sizeof(struct inner_frame) - sizeof(struct ethhdr) - sizeof(struct iphdr)) /* bytes */

struct counters {
	__u64 packets, sampled, wrong;
	__u64 first, last; /* ns: when the first and the latest sampled packet came */
	__u64 padding[3];  /* a cache line for each CPU */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CPUS);
	__type(key, __u32);
	__type(value, struct counters);
} arrived SEC(".maps");

static __always_inline bool sound_header(const struct iphdr *ip)
{
	const __u16 *words = (const void *)ip;
	__u32 sum = 0;

	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)((sum & 0xffff) + (sum >> 16)) == 0xffff;
}

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	return *(__u32 *)a == *(__u32 *)b && *(__u16 *)(a + 4) == *(__u16 *)(b + 4);
}

static __always_inline const struct tag *tag_of(const struct iphdr *ip)
{
	const struct tag *tag = (const void *)ip + sizeof(*ip) + sizeof(struct udphdr);

	return ip->version == 4 && ip->ihl == 5 && tag->magic == MAGIC ? tag : NULL;
}

/* The packet inside, one hop further than it was sent. */
static __always_inline const struct tag *routed(const struct iphdr *ip)
{
	return ip->ttl == 63 && ip->protocol == IPPROTO_UDP && sound_header(ip) ? tag_of(ip) : NULL;
}

static __always_inline bool right_for_corpnet(const struct settings *s, const struct ethhdr *ethernet,
					      const struct iphdr *ip, const struct tag *tag)
{
	return tag && same_mac(ethernet->h_dest, s->next_hop_mac) &&
	       ip->saddr == bpf_htonl(customer_address(s, tag->domain, tag->record));
}

/* What a tunnel brought. */
struct opened {
	const struct iphdr *outer;
	const struct inner_frame *inner; /* NULL: it is not what a tunnel brings */
	__u32 vsid;
	enum expected kind;
};

static __always_inline struct opened open_nvgre(void *data, void *end)
{
	struct nvgre_frame *frame = data;
	struct opened opened = {};

	if ((void *)(frame + 1) > end || frame->ethernet.h_proto != bpf_htons(ETH_P_IP) || frame->ip.protocol != IPPROTO_GRE ||
	    frame->nvgre.flags != bpf_htons(NVGRE_FLAGS) || frame->nvgre.protocol != bpf_htons(NVGRE_PROTOCOL))
		return opened;
	opened.outer = &frame->ip;
	opened.inner = &frame->inner;
	opened.vsid = bpf_ntohl(frame->nvgre.key) >> 8;
	opened.kind = EXPECT_NVGRE;
	return opened;
}

static __always_inline struct opened open_vxlan(void *data, void *end)
{
	struct vxlan_frame *frame = data;
	struct opened opened = {};

	if ((void *)(frame + 1) > end || frame->ethernet.h_proto != bpf_htons(ETH_P_IP) || frame->ip.protocol != IPPROTO_UDP ||
	    frame->udp.dest != bpf_htons(VXLAN_PORT) || frame->vxlan.flags != bpf_htonl(VXLAN_FLAGS))
		return opened;
	opened.outer = &frame->ip;
	opened.inner = &frame->inner;
	opened.vsid = bpf_ntohl(frame->vxlan.vni) >> 8;
	opened.kind = EXPECT_VXLAN;
	return opened;
}

/* The MAC of a record: 02-00, domain, record; tests/bench/plan.py gives it. */
static __always_inline bool is_for(const struct settings *s, const struct opened *opened, __u32 domain, __u32 record)
{
	const struct ethhdr *ethernet = &opened->inner->ethernet;
	const __be16 *mac = (const void *)ethernet->h_dest;

	return sound_header(opened->outer) && same_mac(ethernet->h_source, s->router_mac) && mac[0] == bpf_htons(0x0200) &&
	       mac[1] == bpf_htons(domain) && mac[2] == bpf_htons(record) &&
	       opened->outer->daddr == bpf_htonl(provider_address(s, domain, record)) &&
	       opened->vsid == vsid_of(s, domain, record);
}

static __always_inline bool goes_to(const struct settings *s, const struct inner_frame *inner, __u32 domain, __u32 record)
{
	return inner->ethernet.h_proto == bpf_htons(ETH_P_IP) &&
	       inner->ip.daddr == bpf_htonl(customer_address(s, domain, record));
}

static __always_inline bool right_for_vm(const struct settings *s, const struct opened *opened)
{
	const struct tag *tag = opened->inner ? routed(&opened->inner->ip) : NULL;

	return tag && is_for(s, opened, tag->domain, tag->record) &&
	       goes_to(s, opened->inner, tag->domain, tag->record);
}

/* UDP with its pseudo header (RFC 768, RFC 8200 section 8.1); all generated datagrams have the same length. */
static __always_inline bool sound_datagram(const struct udphdr *udp, const void *addresses, __u32 length_of_both)
{
	const __u16 *words = addresses;
	__u32 sum = bpf_htons(IPPROTO_UDP) + udp->len;

	for (__u32 i = 0; i < (length_of_both + DATAGRAM) / 2; i++) /* the datagram follows its addresses */
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return udp->check && (__u16)((sum & 0xffff) + (sum >> 16)) == 0xffff;
}

static __always_inline bool is_known_member(const struct settings *s, __u32 number, __u32 record)
{
	__u32 *member = bpf_map_lookup_elem(&members, &number);

	return s->selection != SELECT_ESTABLISHED || (member && *member == record + 1);
}

/* A client's packet to the machine and the port of a member: of the one that has had the flow so far. */
static __always_inline bool is_for_member(const struct settings *s, const struct opened *opened, const struct udphdr *udp,
					  const struct tag *tag, __u32 record)
{
	struct client client = client_of(s, tag->number);
	enum expected kind = s->mixed && host_of(s, client.domain, record) % 2 == 0 ? EXPECT_NVGRE : EXPECT_VXLAN;

	return record < MEMBERS && opened->kind == kind && is_for(s, opened, client.domain, record) &&
	       udp->source == bpf_htons(client.port) && udp->dest == bpf_htons(MEMBER_PORT) &&
	       is_known_member(s, tag->number, record);
}

static __always_inline __u32 record_of(const struct opened *opened)
{
	return bpf_ntohs(*(__be16 *)(opened->inner->ethernet.h_dest + 4));
}

static __always_inline bool right_balanced(const struct settings *s, const struct opened *opened)
{
	const struct inner_frame *inner = opened->inner;
	const struct tag *tag = inner ? routed(&inner->ip) : NULL;

	if (!tag)
		return false;
	struct client client = client_of(s, tag->number);
	__u32 record = record_of(opened);

	return is_for_member(s, opened, &inner->udp, tag, record) && goes_to(s, inner, client.domain, record) &&
	       inner->ip.saddr == bpf_htonl(client.address) && sound_datagram(&inner->udp, &inner->ip.saddr, 8);
}

static __always_inline bool right_balanced_six(const struct settings *s, const struct opened *opened, void *end)
{
	const struct six_frame *inner = (const void *)opened->inner;

	if (!inner || (void *)(inner + 1) > end)
		return false;
	const __be32 *source = (const void *)&inner->ip.saddr, *destination = (const void *)&inner->ip.daddr;
	struct client client = client_of(s, inner->tag.number);
	__u32 record = record_of(opened);

	return inner->ethernet.h_proto == bpf_htons(ETH_P_IPV6) && inner->ip.version == 6 && inner->ip.hop_limit == 63 &&
	       inner->ip.nexthdr == IPPROTO_UDP && inner->tag.magic == MAGIC && source[3] == bpf_htonl(client.address) &&
	       destination[1] == bpf_htonl(record % SUBNETS) && destination[3] == bpf_htonl(FIRST_CA6 + record) &&
	       is_for_member(s, opened, &inner->udp, &inner->tag, record) && sound_datagram(&inner->udp, source, 32);
}

static __always_inline void learn_member(const struct opened *opened)
{
	const struct tag *tag = opened->inner ? routed(&opened->inner->ip) : NULL;

	if (tag) {
		__u32 *member = bpf_map_lookup_elem(&members, &tag->number);

		if (member)
			*member = record_of(opened) + 1;
	}
}

static __always_inline bool right_tagged(const struct settings *s, void *data, void *end)
{
	struct tagged_frame *frame = data;

	if ((void *)(frame + 1) > end || frame->ethernet.h_proto != bpf_htons(ETH_P_8021Q) ||
	    frame->vlan.type != bpf_htons(ETH_P_IP))
		return false;
	const struct tag *tag = routed(&frame->packet.ip);

	return right_for_corpnet(s, &frame->ethernet, &frame->packet.ip, tag) &&
	       (bpf_ntohs(frame->vlan.tci) & 0xfff) == tag->domain + 1;
}

static __always_inline bool right_untagged(const struct settings *s, void *data, void *end)
{
	struct inner_frame *frame = data;

	return (void *)(frame + 1) <= end && frame->ethernet.h_proto == bpf_htons(ETH_P_IP) &&
	       right_for_corpnet(s, &frame->ethernet, &frame->ip, routed(&frame->ip));
}

/* A member's answer to a client. */
static __always_inline bool right_for_client(const struct settings *s, void *data, void *end)
{
	struct inner_frame *frame = data;

	if ((void *)(frame + 1) > end || frame->ethernet.h_proto != bpf_htons(ETH_P_IP))
		return false;
	const struct tag *tag = routed(&frame->ip);

	if (!tag)
		return false;
	struct client client = client_of(s, tag->number);

	return same_mac(frame->ethernet.h_dest, s->next_hop_mac) && frame->ip.saddr == bpf_htonl(s->first_vip + client.domain) &&
	       frame->udp.source == bpf_htons(VIP_PORT) && frame->ip.daddr == bpf_htonl(client.address) &&
	       frame->udp.dest == bpf_htons(client.port) && sound_datagram(&frame->udp, &frame->ip.saddr, 8);
}

/* What was only redirected: the tag stands where the generator put it, which the length tells. */
static __always_inline bool right_unchanged(void *data, void *end)
{
	if (data + sizeof(struct vxlan_frame) <= end)
		return tag_of(&((struct vxlan_frame *)data)->inner.ip);
	if (data + sizeof(struct nvgre_frame) <= end)
		return tag_of(&((struct nvgre_frame *)data)->inner.ip);
	if (data + sizeof(struct tagged_frame) <= end)
		return tag_of(&((struct tagged_frame *)data)->packet.ip);
	return data + sizeof(struct inner_frame) <= end && tag_of(&((struct inner_frame *)data)->ip);
}

static __always_inline bool right(const struct settings *s, void *data, void *end)
{
	struct opened nvgre = open_nvgre(data, end), vxlan = open_vxlan(data, end);

	switch (s->expected) {
	case EXPECT_UNCHANGED:
		return right_unchanged(data, end);
	case EXPECT_CORPNET:
		return right_tagged(s, data, end);
	case EXPECT_CORPNET_UNTAGGED:
		return right_untagged(s, data, end);
	case EXPECT_NVGRE:
		return right_for_vm(s, &nvgre);
	case EXPECT_VXLAN:
		return right_for_vm(s, &vxlan);
	case EXPECT_BALANCED:
		return nvgre.inner ? right_balanced(s, &nvgre) : right_balanced(s, &vxlan);
	case EXPECT_BALANCED_SIX:
		return nvgre.inner ? right_balanced_six(s, &nvgre, end) : right_balanced_six(s, &vxlan, end);
	default:
		return right_for_client(s, data, end);
	}
}

static __always_inline void learn(void *data, void *end)
{
	struct opened nvgre = open_nvgre(data, end), vxlan = open_vxlan(data, end);

	learn_member(&nvgre);
	learn_member(&vxlan);
}

static __always_inline void count(void *data, void *end)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct counters *c = bpf_map_lookup_elem(&arrived, &cpu);
	struct settings *s = read_settings();

	if (!c || !s)
		return;
	if (s->learns)
		learn(data, end);
	if (++c->packets % SAMPLE)
		return;
	c->sampled++;
	c->last = bpf_ktime_get_ns();
	if (!c->first)
		c->first = c->last;
	if (!right(s, data, end))
		c->wrong++;
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	count((void *)(long)ctx->data, (void *)(long)ctx->data_end);
	return XDP_DROP;
}

/* For the ports of a router that is Linux itself: the cheapest way into its stack, since veth without XDP wants GRO. */
SEC("xdp")
int pass(__attribute__((unused)) struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
