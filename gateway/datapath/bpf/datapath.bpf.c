/*
 * The packet path, for XDP: port, decapsulate, admit, look up, access lists, leave. Decisions come first and change nothing;
 * then the packet is changed at once. Answers of the gateway's own are programs of their own, reached by tail calls.
 */
#include "answer.h"
#include "flow_admission.h"
#include "frontend.h"
#include "known_flows.h"
#include "known_translations.h"
#include "neighbour_answer.h"
#include "replies.h"
#include "rewrite.h"
#include "route.h"

enum stage {
	STAGE_ANSWER = 0,
	STAGE_NEIGHBOUR = 1,
	STAGE_RESOLVE = 2,
	STAGE_ADMIT = 3,
	STAGE_LEAVE = 4,
	STAGE_BALANCE = 5,
	STAGE_SETTLE = 6,
	STAGE_ORDER = 7,
	STAGE_ARRIVE = 8,
	STAGES = 9,
};

int gateway_answer(struct xdp_md *ctx);
int gateway_neighbour(struct xdp_md *ctx);
int gateway_resolve(struct xdp_md *ctx);
int gateway_admit(struct xdp_md *ctx);
int gateway_leave(struct xdp_md *ctx);
int gateway_balance(struct xdp_md *ctx);
int gateway_settle(struct xdp_md *ctx);
int gateway_order(struct xdp_md *ctx);
int gateway_arrive(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STAGES);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} stages SEC(".maps") = {
	.values = {
		[STAGE_ANSWER] = (void *)&gateway_answer,
		[STAGE_NEIGHBOUR] = (void *)&gateway_neighbour,
		[STAGE_RESOLVE] = (void *)&gateway_resolve,
		[STAGE_ADMIT] = (void *)&gateway_admit,
		[STAGE_LEAVE] = (void *)&gateway_leave,
		[STAGE_BALANCE] = (void *)&gateway_balance,
		[STAGE_SETTLE] = (void *)&gateway_settle,
		[STAGE_ORDER] = (void *)&gateway_order,
		[STAGE_ARRIVE] = (void *)&gateway_arrive,
	},
};

static __always_inline void continue_in(struct xdp_md *ctx, const struct packet *p, __u32 stage, int verdict)
{
	if (hand_over(p, verdict))
		bpf_tail_call(ctx, &stages, stage);
}

static __always_inline int done(struct xdp_md *ctx, const struct packet *p, int verdict)
{
	finish(ctx, p, verdict, 0);
	return verdict == VERDICT_PASSED ? XDP_PASS : XDP_DROP;
}

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

	if (!port || !enter_domain(p, cell->target) || (void *)(ethernet + 1) > data_end)
		return VERDICT_PASSED;
	p->origin = FROM_EXTERNAL;
	p->ethernet = 0;
	p->end = data_end - data;
	if (p->type == bpf_htons(ETH_P_ARP))
		return VERDICT_CONSUMED;
	if (p->type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + (p->network & 0x1f);
		__u8 *icmp = (void *)(ip + 1);

		if ((void *)(icmp + ND_LENGTH) <= data_end && ip->nexthdr == IPPROTO_ICMPV6 && ip->hop_limit == 255 &&
		    (icmp[0] == ND_SOLICITATION || icmp[0] == ND_ADVERTISEMENT))
			return VERDICT_CONSUMED;
	}
	if (mac_of(ethernet->h_dest) != mac_of(port->mac))
		return VERDICT_PASSED;
	if (p->type != bpf_htons(ETH_P_IP) && p->type != bpf_htons(ETH_P_IPV6))
		return VERDICT_PASSED;
	return VERDICT_NONE;
}

/* From the wire to a parsed packet of a routing domain. */
static __always_inline MUST_CHECK int receive(struct xdp_md *ctx, struct packet *p, const struct directory *directory)
{
	struct cell *cell = find_port(ctx, p, directory);
	int verdict = VERDICT_PASSED;
	bool ours = false;

	if (!cell)
		return VERDICT_PASSED;
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

/* Back to where it came from? */
static __always_inline MUST_CHECK int check_hairpin(struct xdp_md *ctx, const struct packet *p)
{
	if (p->hop_kind == NEXT_HOP_EXTERNAL)
		return p->origin == FROM_EXTERNAL && p->target == p->port ? DROP_HAIRPIN : VERDICT_NONE;
	if (p->origin == FROM_EXTERNAL)
		return VERDICT_NONE;
	struct ethhdr *ethernet = (void *)(long)ctx->data + (p->ethernet & 0x7f);

	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return DROP_INTERNAL;
	return subnet_of(p, p->subnet)->vsid == p->vsid && p->mac == mac_of(ethernet->h_source) ? DROP_HAIRPIN : VERDICT_NONE;
}

/* From a parsed packet to where it goes. */
static __always_inline MUST_CHECK int decide(struct xdp_md *ctx, struct packet *p)
{
	int verdict = find_route(p);

	if (p->translated)
		return verdict ?: p->local || p->service ? DROP_VIP_NOT_SERVED : admit_to_forwarding(p);
	if (verdict || p->service)
		return verdict;
	verdict = admit_to_forwarding(p);
	return verdict || p->local ? verdict : check_hairpin(ctx, p);
}

/* Is that an address of a host's, or of the gateway's own? */
__noinline int is_on_provider_network(__u32 directory_line, const struct address *address, __u32 six)
{
	struct block block;

	if (!address || !open_block(&block, directory_line))
		return 0;
	struct directory *directory = line_of(&block, 0);
	struct directory_more *more = line_of(&block, 1);

	if (six)
		return find_cell6(&block, &more->hosts6, address->words) || find_cell6(&block, &more->providers6, address->words);
	return address->words[V4] == directory->provider4 || find_cell(&block, &directory->providers4, address->words[V4]) ||
	       find_cell(&block, &directory->hosts4, address->words[V4]);
}

/*
 * Hosts take what comes from their network for what a host or gateway says. Where CorpNet is on the same link, no tenant may
 * send a tunnel of its own making, nor anything to a provider address (a rewritten packet has no other mark).
 */
static __always_inline bool deceives_hosts(const struct packet *p)
{
	struct address destination;

	if (p->protocol == IPPROTO_GRE)
		return true;
	if (p->protocol == IPPROTO_UDP && p->destination_port == bpf_htons(VXLAN_PORT))
		return true;
	copy6(destination.words, p->destination);
	return is_on_provider_network(p->directory_line, &destination, p->six);
}

static __always_inline __u64 mac_of_neighbour(const struct packet *p, const struct port *port)
{
	struct block block;

	if (!p->hop || !open_block(&block, p->hop))
		return 0;
	return find_neighbour(port, taken_on_by(p, line_of(&block, 0)), is_six(p));
}

static __always_inline int leave_external(struct xdp_md *ctx, struct packet *p, struct port **out)
{
	struct port *port = port_of(p->target);

	if (!port)
		return DROP_INTERNAL;
	*out = port;
	if (port->provider && deceives_hosts(p))
		return DROP_MARTIAN_DESTINATION;
	p->limit = port->mtu;
	int verdict = check_length(p);

	if (verdict)
		return verdict;
	__u64 mac = p->mac ? p->mac : mac_of_neighbour(p, port);

	if (!mac)
		return DROP_RESOLVING;
	verdict = prepare(ctx, p);
	return verdict ? verdict : leave_plain(ctx, p, port, mac);
}

/* The target of an address's exact entry. */
__noinline __u32 exact_target(__u32 table_line, const struct address *address, __u32 six)
{
	struct block block;

	if (!address || !open_block(&block, table_line))
		return TARGET_LOCAL;
	struct table *table = line_of(&block, 0);

	if (six) {
		struct cell6 *cell = find_cell6(&block, &table->exact6, address->words);

		return cell ? cell->target : TARGET_LOCAL;
	}
	struct cell *cell = find_cell(&block, &table->exact4, address->words[V4]);

	return cell ? cell->target : TARGET_LOCAL;
}

static __always_inline MUST_CHECK int leave_rewritten(struct xdp_md *ctx, struct packet *p, const struct endpoint *endpoint, const struct port *out)
{
	struct address sender;

	copy6(sender.words, p->source);
	__u32 source = exact_target(p->table_line, &sender, p->six);
	struct endpoint *own = source == TARGET_LOCAL ? NULL : endpoint_of(source & ~TARGET_HERE);

	if (!own || own->encapsulation != ENCAPSULATION_REWRITE)
		return DROP_REWRITE_NO_SOURCE;
	if (!endpoint->port)
		return DROP_UNDERLAY_UNRESOLVED;
	int verdict = prepare(ctx, p);

	if (!verdict)
		verdict = rewrite_addresses(ctx, p, own->destination, endpoint->destination);
	return verdict ? verdict : leave_plain(ctx, p, out, mac_of(endpoint->mac));
}

static __always_inline int leave_overlay(struct xdp_md *ctx, struct packet *p, const struct directory *directory, struct port **out)
{
	struct endpoint *endpoint = endpoint_of(p->target);
	struct port *port = endpoint ? port_of(endpoint->port) : NULL;

	if (!endpoint || !port)
		return DROP_INTERNAL;
	p->limit = endpoint->mtu - encapsulation_overhead(endpoint->encapsulation, endpoint->family);
	int verdict = endpoint->mtu ? check_length(p) : VERDICT_NONE;

	if (verdict)
		return verdict;
	*out = port;
	if (endpoint->encapsulation == ENCAPSULATION_REWRITE)
		return leave_rewritten(ctx, p, endpoint, port);
	if (!endpoint->port)
		return DROP_UNDERLAY_UNRESOLVED;
	verdict = prepare(ctx, p);
	if (verdict)
		return verdict;
	__u64 router_mac = mac_of(directory->router_mac);
	bool uniform = directory->dscp_uniform;
	__u32 vsid = subnet_of(p, p->subnet)->vsid;

	if (endpoint->family == 6) {
		if (endpoint->encapsulation == ENCAPSULATION_VXLAN)
			return leave_encapsulated(ctx, p, endpoint, port, vsid, router_mac, uniform, true, true);
		return leave_encapsulated(ctx, p, endpoint, port, vsid, router_mac, uniform, true, false);
	}
	if (endpoint->encapsulation == ENCAPSULATION_VXLAN)
		return leave_encapsulated(ctx, p, endpoint, port, vsid, router_mac, uniform, false, true);
	return leave_encapsulated(ctx, p, endpoint, port, vsid, router_mac, uniform, false, false);
}

/* A packet for the router itself. */
static __always_inline int deliver(struct packet *p)
{
	if (is_echo_request(p))
		return VERDICT_ANSWERED;
	if (p->protocol == IPPROTO_UDP)
		owe_error(p, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0);
	return DROP_LOCAL_NOT_SERVED;
}

/* The end of every packet that may still leave, and of those that another program has to answer. */
static __always_inline int conclude(struct xdp_md *ctx, struct packet *p, const struct directory *directory, int verdict)
{
	struct port *out = NULL;

	if (!verdict)
		verdict = p->local				   ? deliver(p) :
			  p->hop_kind == NEXT_HOP_EXTERNAL ? leave_external(ctx, p, &out) :
							     leave_overlay(ctx, p, directory, &out);
	if (verdict == VERDICT_FORWARDED && out) {
		finish(ctx, p, verdict, out->interface);
		return bpf_redirect_map(&devices, out->device, 0);
	}
	if (verdict == DROP_RESOLVING)
		continue_in(ctx, p, STAGE_RESOLVE, verdict);
	else if (p->error_type || verdict == VERDICT_ANSWERED)
		continue_in(ctx, p, STAGE_ANSWER, verdict);
	return done(ctx, p, verdict);
}

/* Packets that more than a route decides about. */
static __always_inline bool needs_service(struct packet *p, int verdict)
{
	if (p->translated)
		return false;
	if (p->service || p->origin != FROM_OVERLAY || !has_services(p))
		return p->service;
	struct address source;

	copy6(source.words, p->source);
	if (is_icmp_error(p) || p->fragment & 2 || is_translated(p->table_line, &source, p->six))
		p->service = SERVICE_FROM_MACHINE;
	else if (verdict == DROP_NO_ROUTE)
		p->service = SERVICE_OUTBOUND;
	return p->service;
}

/* Between a probe's compartment and what it probes: no list is asked. */
static __always_inline bool is_probe(const struct packet *p)
{
	struct table_compartment *compartment = line_of(&p->table, 3);
	bool back = p->hop_kind == NEXT_HOP_EXTERNAL && p->target == compartment->port;

	if (!compartment->port || (!back && p->port != compartment->port))
		return false;
	if (is_six(p))
		return same6(back ? p->destination : p->source, compartment->service6);
	return (back ? p->destination[V4] : p->source[V4]) == compartment->service4;
}

SEC("xdp.frags")
int gateway(struct xdp_md *ctx)
{
	struct packet packet = {}, *p = &packet;
	struct root *root = the_root();

	if (!root || !root->directory)
		return XDP_PASS;
	p->captured = !!root->capture;
	if (p->captured)
		keep_before(ctx);
	p->directory_line = *(volatile __u32 *)&root->directory;
	if (!open_block(&p->directory, p->directory_line))
		return XDP_PASS;
	struct directory *directory = line_of(&p->directory, 0);
	int verdict = receive(ctx, p, directory);

	forget(p->network);
	forget(p->ethernet);

	if (verdict == VERDICT_CONSUMED) {
		continue_in(ctx, p, STAGE_NEIGHBOUR, verdict);
		return done(ctx, p, DROP_INTERNAL);
	}
	if (verdict == VERDICT_ORDERED) {
		continue_in(ctx, p, STAGE_ARRIVE, verdict);
		return done(ctx, p, DROP_INTERNAL);
	}
	if (!verdict) {
		struct standing standing;

		verdict = take_standing(p, directory, &standing);
		if (verdict)
			return done(ctx, p, verdict);
		forget(p->translated);
		if (!p->translated && table_of(p)->flags & TABLE_LISTS)
			look_up_flow(p);
		forget(p->looked_up);
		forget_all(p->place);
		verdict = decide(ctx, p);
		if (!verdict && p->translated)
			touch_standing(standing.place, standing.word, standing.from_client, p->tcp_flags);
		if (needs_service(p, verdict)) {
			continue_in(ctx, p, STAGE_BALANCE, verdict);
			return done(ctx, p, DROP_INTERNAL);
		}
	}
	if (!verdict && !p->local && !p->translated && table_of(p)->flags & TABLE_LISTS && !pass_known(p, more_of(p)->generation) && !is_probe(p)) {
		continue_in(ctx, p, STAGE_ADMIT, verdict);
		return done(ctx, p, DROP_INTERNAL);
	}
	return conclude(ctx, p, directory, verdict);
}

/* A packet that another program of these has begun with: the rest of what was known is in map memory, pointers are not. */
static __always_inline bool take_over(struct packet *p, bool where_it_arrived)
{
	struct packet *handed = packet_in_hand();

	if (!handed)
		return false;
	*p = *handed;
	return open_block(&p->directory, p->directory_line) && open_block(&p->table, where_it_arrived ? p->arrival_line : p->table_line);
}

/* A packet of a domain with access lists; asking them needs the stack for itself. */
SEC("xdp.frags")
int gateway_admit(struct xdp_md *ctx)
{
	struct packet *p = packet_in_hand();

	struct balancing *b = balancing_in_hand();

	if (!p || !b)
		return XDP_DROP;
	p->verdict = admit_flow(ctx, p, &b->quoted, &b->sought.flow);
	bpf_tail_call(ctx, &stages, STAGE_LEAVE);
	return done(ctx, p, DROP_INTERNAL);
}

SEC("xdp.frags")
int gateway_leave(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;

	return take_over(p, false) ? conclude(ctx, p, line_of(&p->directory, 0), p->verdict) : XDP_DROP;
}

/* The route of a translated packet, in its domain or, for what is public, in the Internet's. */
static __always_inline MUST_CHECK int route_translated(struct packet *p, const struct balancing *b, const struct directory *directory)
{
	__u8 service = p->service;

	p->error_type = 0;
	p->local = 0;
	p->service = SERVICE_NONE;
	p->looked_up = false;
	p->place = PLACE_NONE;
	if (b->internet && !open_table(&p->table, directory->internet))
		return DROP_NO_ROUTE;
	int verdict = find_route(p);
	bool to_the_gateway = p->local || p->service;

	p->service = service;
	p->local = 0;
	if (b->internet && !open_block(&p->table, p->table_line))
		return DROP_INTERNAL;
	if (verdict)
		return verdict;
	return to_the_gateway ? DROP_VIP_NOT_SERVED : admit_to_forwarding(p);
}

/* The end of what these two programs do. */
static __always_inline int after_balancing(struct xdp_md *ctx, struct packet *p, int verdict)
{
	if (verdict) {
		if (p->error_type)
			continue_in(ctx, p, STAGE_ANSWER, verdict);
		return done(ctx, p, verdict);
	}
	bool listed = !p->local && table_of(p)->flags & TABLE_LISTS && !is_probe(p);

	continue_in(ctx, p, listed ? STAGE_ADMIT : STAGE_LEAVE, verdict);
	return done(ctx, p, DROP_INTERNAL);
}

/* A packet to or from an address that stands for others: who is behind it. */
SEC("xdp.frags")
int gateway_balance(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;
	struct rewriting *r = rewriting_in_hand();
	struct balancing *b = balancing_in_hand();

	if (!take_over(p, false) || !r || !b)
		return XDP_DROP;
	__builtin_memset(b, 0, sizeof(*b));
	copy6(r->came_to, p->destination);
	int verdict = p->service == SERVICE_TO_FRONTEND	 ? to_frontend(ctx, p, r, b) :
		      p->service == SERVICE_FROM_MACHINE ? from_machine(ctx, p, r, b) :
							   reach_internet(p, r, b);

	if (!verdict)
		continue_in(ctx, p, STAGE_SETTLE, verdict);
	if (verdict == VERDICT_ORDERED) {
		continue_in(ctx, p, STAGE_ORDER, verdict);
		return done(ctx, p, DROP_INTERNAL);
	}
	if (verdict == VERDICT_CONSUMED && b->ordinary)
		remember(p, r, b);
	if (verdict == VERDICT_CONSUMED)
		verdict = p->service == SERVICE_FROM_MACHINE ? p->verdict : VERDICT_NONE;
	return after_balancing(ctx, p, verdict);
}

/* Then: the way there, and the connection. */
SEC("xdp.frags")
int gateway_settle(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;
	struct rewriting *r = rewriting_in_hand();
	struct balancing *b = balancing_in_hand();

	if (!take_over(p, false) || !r || !b)
		return XDP_DROP;
	struct directory *directory = line_of(&p->directory, 0);
	int verdict = route_translated(p, b, directory);

	if (!verdict && b->settles)
		verdict = settle(p, r, b, idle_of(p, b));
	if (!verdict)
		remember(p, r, b);
	if (verdict || table_of(p)->flags & TABLE_LISTS)
		return after_balancing(ctx, p, verdict);
	return hand_over(p, verdict) ? conclude(ctx, p, directory, verdict) : XDP_DROP;
}

/* A fragment that Linux is to put in order. */
SEC("xdp.frags")
int gateway_order(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;
	struct balancing *b = balancing_in_hand();

	if (!b || !take_over(p, false))
		return XDP_DROP;
	struct port *out = port_of(compartment_of(p)->fragments);
	int verdict = out ? hand_to_compartment(ctx, p, out) : DROP_INTERNAL;

	if (verdict != VERDICT_ORDERED || !out)
		return done(ctx, p, verdict);
	if (!(p->fragment & 2))
		forget_fragments(p, &b->sought);
	write_note(p, &b->sought);
	finish(ctx, p, verdict, out->interface);
	return bpf_redirect_map(&devices, out->device, 0);
}

/* A fragment that has been put in order: only a datagram of its own domain's services may come back. */
SEC("xdp.frags")
int gateway_arrive(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;
	struct balancing *b = balancing_in_hand();

	if (!b || !take_over(p, false))
		return XDP_DROP;
	struct directory *directory = line_of(&p->directory, 0);
	__u32 owner = p->domain;
	int verdict = DROP_FRAGMENT_UNMATCHED;

	p->end = bpf_xdp_get_buff_len(ctx);
	if ((p->type == bpf_htons(ETH_P_IP) || p->type == bpf_htons(ETH_P_IPV6)) && enter_domain(p, owner))
		verdict = parse_packet(ctx, p);
	if (!verdict)
		verdict = arrive_again(ctx, p, &b->sought, directory->internet);
	if (verdict)
		return done(ctx, p, verdict);
	verdict = decide(ctx, p);
	if (needs_service(p, verdict) && (p->service != SERVICE_TO_FRONTEND || p->owner == owner)) {
		continue_in(ctx, p, STAGE_BALANCE, verdict);
		return done(ctx, p, DROP_INTERNAL);
	}
	return done(ctx, p, DROP_FRAGMENT_UNMATCHED);
}

/* An echo reply, or the ICMP error that a dropped packet deserves. */
SEC("xdp.frags")
int gateway_answer(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;
	__u32 egress = 0;

	if (!take_over(p, true))
		return XDP_DROP;
	int verdict = p->verdict;

	if (verdict == VERDICT_ANSWERED) {
		if (p->origin == FROM_REWRITE)
			verdict = DROP_LOCAL_NOT_SERVED;
		else if (!may_answer(p->domain))
			verdict = DROP_ANSWER_LIMITED;
		else
			verdict = echo_reply(ctx, p);
		if (!verdict) {
			verdict = VERDICT_ANSWERED;
			egress = ctx->ingress_ifindex;
		}
	} else if (deserves_error(p) && may_answer(p->domain) && !icmp_error(ctx, p)) {
		egress = ctx->ingress_ifindex;
	}
	finish(ctx, p, verdict, egress);
	return egress ? XDP_TX : XDP_DROP;
}

/* ARP and neighbour discovery. */
SEC("xdp.frags")
int gateway_neighbour(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;

	if (!take_over(p, false))
		return XDP_DROP;
	int verdict = p->type == bpf_htons(ETH_P_ARP) ? answer_arp(ctx, p) : answer_nd(ctx, p);

	finish(ctx, p, verdict, verdict == VERDICT_ANSWERED ? ctx->ingress_ifindex : 0);
	if (verdict == VERDICT_ANSWERED)
		return XDP_TX;
	return verdict == VERDICT_PASSED ? XDP_PASS : XDP_DROP;
}

/* A packet without a neighbour becomes the question for it. */
SEC("xdp.frags")
int gateway_resolve(struct xdp_md *ctx)
{
	struct packet packet, *p = &packet;

	if (!take_over(p, false))
		return XDP_DROP;
	struct port *out = port_of(p->target);
	bool asked = out && !ask_for_neighbour(ctx, p, out);

	finish(ctx, p, p->verdict, asked ? out->interface : 0);
	return asked ? bpf_redirect_map(&devices, out->device, 0) : XDP_DROP;
}

char _license[] SEC("license") = "GPL";
