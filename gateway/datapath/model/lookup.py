"""Where a destination is: an exact entry first, then the longest prefix."""

from ipaddress import ip_network

from gateway.datapath.model.answers import HOST_UNREACHABLE, NET_UNREACHABLE, PORT_UNREACHABLE, echo_reply, refused
from gateway.datapath.model.course import Course
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ip import UDP, Address, Packet
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.routes import Closed, Exit, OnLink, Record, Route, Turn
from gateway.datapath.model.verdict import DropReason, dropped

DROPPED_THERE = "The compartment drops what comes for it meanwhile: nothing leaves in clear."


def best_routes(domain: Domain, destination: Address) -> list[Route]:
    """The routes of the longest prefix with the lowest metric, one for each next hop, in the order of the policy."""
    matching = [route for route in domain.routes if destination in route.prefix]
    longest = max((route.prefix.prefixlen for route in matching), default=0)
    matching = [route for route in matching if route.prefix.prefixlen == longest]
    lowest = min((route.metric for route in matching), default=0)
    first_of_target = {route.target: route for route in reversed(matching) if route.metric == lowest}
    return list(reversed(first_of_target.values()))


def is_unrouted(passage: Passage, domain: Domain, destination: Address) -> bool:
    """Whether nothing in the domain leads to this address, so that only what lies outside may."""
    record = domain.records.get(destination)
    return (
        destination not in domain.local
        and (record is None or _leads_here(passage, record))
        and not best_routes(domain, destination)
    )


def find(passage: Passage, origin: Origin, course: Course, flow_hash: int) -> Record | Exit | Turn:
    """The next hop of the packet; raises the gateway's answer or the drop where there is none."""
    packet, domain, destination = course.came, course.domain, course.viewed.destination
    if course.is_translated and domain is passage.internet and passage.is_public(destination):
        passage.note("route", domain.entry, f"{destination} is a public address of this gateway's: it comes in there.")
        return Turn()
    if course.is_translated and _is_the_gateways(domain, destination):
        passage.note("route", domain.entry, f"{destination} is the gateway's own, which no translated packet reaches.")
        raise dropped(DropReason.VIP_NOT_SERVED)
    if destination in domain.local:
        raise _local(passage, origin, packet, domain.local[destination])
    record = domain.records.get(destination)
    if record is not None:
        if not _leads_here(passage, record):
            passage.note("route", record.entry, f"{destination} has a record in VSID {record.vsid}.")
            return record
        passage.note("route", record.entry, f"{destination} is rewritten here for what lies beyond: the routes decide.")
    routes = _open(best_routes(domain, destination))
    if not routes:
        passage.note("route", domain.entry, f"No prefix of {domain.source.name} holds {destination}.")
        raise refused(passage, origin, packet, DropReason.NO_ROUTE, NET_UNREACHABLE)
    route = routes[(flow_hash >> 16) % len(routes)]
    passage.note("route", route.entry, _chosen(route, destination, len(routes)))
    if route.tunnel is not None:
        _tell_of_tunnels(passage, domain, route, course.viewed)
    if isinstance(route.target, OnLink):
        return _wildcard(passage, origin, course, route.target)
    if isinstance(route.target, Closed):
        passage.note("route", route.entry, "It is closed, so that nothing for it goes another way in clear.")
        raise refused(passage, origin, course.came, DropReason.NO_RECORD, HOST_UNREACHABLE)
    return route.target


def _tell_of_tunnels(passage: Passage, domain: Domain, route: Route, packet: Packet) -> None:
    """Say how the tunnels for a packet fare, up to the first that carries, which is the one that takes it."""
    ways = [each for each in domain.routes if each.tunnel is not None and packet.destination in each.prefix]
    known = {way: state for way in ways if (state := passage.tunnels.get((domain.id, str(way.tunnel))))}
    taking = [way for way in known if _takes(domain, way, packet.source)]
    longest = max((way.prefix.prefixlen for way in taking), default=0)
    of_longest = [way for way in taking if way.prefix.prefixlen == longest]
    for way in sorted(of_longest, key=lambda way: (way.metric, str(way.tunnel))):
        passage.note("tunnel", way.entry, known[way].words)
        if known[way].carries:
            return
    if known and not taking:
        passage.note("tunnel", route.entry, f"Its local selectors do not hold {packet.source}.")
    if known and isinstance(route.target, Exit):
        passage.note("tunnel", route.entry, DROPPED_THERE)


def _takes(domain: Domain, way: Route, source: Address) -> bool:
    """Whether the tunnel of a route is negotiated for this source."""
    connection = next(each for each in domain.source.ipsec_connections() if each.name == way.tunnel)
    selectors = connection.traffic_selectors
    return selectors is None or any(source in ip_network(prefix) for prefix in selectors.local)


def _open(routes: list[Route]) -> list[Route]:
    """Of equal ways those that are open, if any is."""
    return [route for route in routes if not isinstance(route.target, Closed)] or routes[:1]


def _is_the_gateways(domain: Domain, address: Address) -> bool:
    return address in domain.local or address in domain.services.internal()


def _leads_here(passage: Passage, record: Record) -> bool:
    """Whether the record only gives an address outside the overlay a provider address of ours, to be rewritten to."""
    return record.encapsulation == "rewrite" and record.provider_address in passage.surroundings.provider_addresses


def _chosen(route: Route, destination: Address, equals: int) -> str:
    way = f"{destination} lies in {route.prefix}"
    if route.tunnel is not None:
        way += f", behind the tunnel {route.tunnel}"
        way += f": to {route.target.connection.name}" if isinstance(route.target, Exit) else ""
    elif isinstance(route.target, Exit):
        hop = route.target.next_hop
        way += f", reached through {route.target.connection.name}" + (f" by {hop}" if hop else ", on-link")
    elif isinstance(route.target, Record):
        way += f", reached through the VM {route.target.customer_address}"
    elif isinstance(route.target, OnLink):
        way += f", on-link in VSID {route.target.vsid}"
    return way + (f" (one of {equals} equal routes, chosen by flow)." if equals > 1 else ".")


def _wildcard(passage: Passage, origin: Origin, course: Course, on_link: OnLink) -> Record:
    record = course.domain.wildcards.get((on_link.vsid, course.came.version))
    if record is None:
        passage.note("route", course.domain.entry, f"There is no record for {course.viewed.destination}.")
        raise refused(passage, origin, course.came, DropReason.NO_RECORD, HOST_UNREACHABLE)
    passage.note("route", record.entry, f"The wildcard record of VSID {on_link.vsid} takes it.")
    return record


def _local(passage: Passage, origin: Origin, packet: Packet, entry: str) -> Exception:
    passage.note("route", entry, f"{packet.destination} is the gateway's own address.")
    if packet.is_echo_request and not origin.is_rewrite:
        return echo_reply(passage, origin, packet)
    if packet.protocol == UDP:
        return refused(passage, origin, packet, DropReason.LOCAL_NOT_SERVED, PORT_UNREACHABLE)
    return dropped(DropReason.LOCAL_NOT_SERVED)
