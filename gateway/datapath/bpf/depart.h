/* The end of a packet's way: out of a port, in an encapsulation, with other addresses, or answered. */
#pragma once

#include "leave.h"
#include "neighbours.h"
#include "rewrite.h"
#include "route.h"
#include "stages.h"

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

	if (!is_six(p))
		return find_neighbour(port, p->next);
	return p->hop && open_block(&block, p->hop) ? find_neighbour6(port, taken_on_by(p, line_of(&block, 0))) : 0;
}

static __always_inline int leave_external(struct xdp_md *ctx, struct packet *p, struct port **out)
{
	struct port *port = port_of(p->target);

	*out = port;
	if (port->provider && deceives_hosts(p))
		return refuse(DROP_MARTIAN_DESTINATION);
	p->limit = port->mtu;
	int verdict = check_length(p);

	if (verdict)
		return verdict;
	__u64 mac = p->mac ? p->mac : mac_of_neighbour(p, port);

	if (!mac)
		return refuse(DROP_RESOLVING);
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
		return refuse(DROP_REWRITE_NO_SOURCE);
	if (!endpoint->port)
		return refuse(DROP_UNDERLAY_UNRESOLVED);
	int verdict = prepare(ctx, p);

	if (!verdict)
		verdict = rewrite_addresses(ctx, p, own->destination, endpoint->destination);
	return verdict ? verdict : leave_plain(ctx, p, out, mac_of(endpoint->mac));
}

static __always_inline int leave_overlay(struct xdp_md *ctx, struct packet *p, const struct directory *directory, struct port **out)
{
	struct endpoint *endpoint = endpoint_of(p->target);
	struct port *port = port_of(endpoint->port);

	p->limit = endpoint->mtu - encapsulation_overhead(endpoint->encapsulation, endpoint->family);
	int verdict = endpoint->mtu ? check_length(p) : VERDICT_NONE;

	if (verdict)
		return verdict;
	*out = port;
	if (endpoint->encapsulation == ENCAPSULATION_REWRITE)
		return leave_rewritten(ctx, p, endpoint, port);
	if (!endpoint->port)
		return refuse(DROP_UNDERLAY_UNRESOLVED);
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
		return refuse(VERDICT_ANSWERED);
	if (p->protocol == IPPROTO_UDP)
		owe_error(p, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, 0);
	return refuse(DROP_LOCAL_NOT_SERVED);
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

/* The same for a packet that may have been translated, and so may turn. */
static __always_inline int conclude_translated(struct xdp_md *ctx, struct packet *p, const struct directory *directory, int verdict)
{
	if (verdict || p->hop_kind != NEXT_HOP_TURN)
		return conclude(ctx, p, directory, verdict);
	continue_in(ctx, p, STAGE_TURN, verdict);
	return done(ctx, p, DROP_INTERNAL);
}
