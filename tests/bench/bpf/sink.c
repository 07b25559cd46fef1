/* Counts what arrives, reads one packet of 64 whole and counts it as wrong unless it is exactly what was due, and drops all. */
#include "plan.h"

#define CPUS 256
#define SAMPLE 64

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

/* The MAC of a record: 02-00, domain, record; tests/bench/plan.py gives it. */
static __always_inline bool right_for_vm(const struct settings *s, const struct iphdr *outer,
					 const struct inner_frame *inner, __u32 vsid)
{
	const struct tag *tag = routed(&inner->ip);

	if (!tag || !sound_header(outer) || inner->ethernet.h_proto != bpf_htons(ETH_P_IP))
		return false;
	const __be16 *mac = (const void *)inner->ethernet.h_dest;

	return same_mac(inner->ethernet.h_source, s->router_mac) && mac[0] == bpf_htons(0x0200) &&
	       mac[1] == bpf_htons(tag->domain) && mac[2] == bpf_htons(tag->record) &&
	       inner->ip.daddr == bpf_htonl(customer_address(s, tag->domain, tag->record)) &&
	       outer->daddr == bpf_htonl(provider_address(s, tag->domain, tag->record)) &&
	       vsid == vsid_of(s, tag->domain, tag->record);
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

static __always_inline bool right_nvgre(const struct settings *s, void *data, void *end)
{
	struct nvgre_frame *frame = data;

	return (void *)(frame + 1) <= end && frame->ethernet.h_proto == bpf_htons(ETH_P_IP) &&
	       frame->ip.protocol == IPPROTO_GRE && frame->nvgre.flags == bpf_htons(NVGRE_FLAGS) &&
	       frame->nvgre.protocol == bpf_htons(NVGRE_PROTOCOL) &&
	       right_for_vm(s, &frame->ip, &frame->inner, bpf_ntohl(frame->nvgre.key) >> 8);
}

static __always_inline bool right_vxlan(const struct settings *s, void *data, void *end)
{
	struct vxlan_frame *frame = data;

	return (void *)(frame + 1) <= end && frame->ethernet.h_proto == bpf_htons(ETH_P_IP) &&
	       frame->ip.protocol == IPPROTO_UDP && frame->udp.dest == bpf_htons(VXLAN_PORT) &&
	       frame->vxlan.flags == bpf_htonl(VXLAN_FLAGS) &&
	       right_for_vm(s, &frame->ip, &frame->inner, bpf_ntohl(frame->vxlan.vni) >> 8);
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

static __always_inline bool right(void *data, void *end)
{
	struct settings *s = read_settings();

	if (!s)
		return false;
	switch (s->expected) {
	case EXPECT_UNCHANGED:
		return right_unchanged(data, end);
	case EXPECT_CORPNET:
		return right_tagged(s, data, end);
	case EXPECT_CORPNET_UNTAGGED:
		return right_untagged(s, data, end);
	case EXPECT_NVGRE:
		return right_nvgre(s, data, end);
	default:
		return right_vxlan(s, data, end);
	}
}

static __always_inline void count(void *data, void *end)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct counters *c = bpf_map_lookup_elem(&arrived, &cpu);

	if (!c || ++c->packets % SAMPLE)
		return;
	c->sampled++;
	c->last = bpf_ktime_get_ns();
	if (!c->first)
		c->first = c->last;
	if (!right(data, end))
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
