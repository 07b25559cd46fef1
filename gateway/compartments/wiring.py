"""What is to be in a compartment's namespace, compared with what is there: only differences are changed."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from ipaddress import ip_network

from pyroute2.netlink import rtnl  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP  # type: ignore[import-untyped]

from gateway.compartments import changes, settings
from gateway.compartments.changes import NEXT_HOPS, AssignedAddress, Change, End, RouteToDatapath, make, remove_links
from gateway.compartments.gateway_side import GatewaySide
from gateway.compartments.names import LegNames, Names
from gateway.compartments.specification import INSIDE, OUTSIDE, CompartmentSpecification, Leg
from gateway.underlay.messages import (
    IFINFOMSG,
    IFLA_ADDRESS,
    IFLA_IFNAME,
    IFLA_LINK,
    IFLA_MTU,
    OUR_PROTOCOL,
    address_of,
    attributes_of,
    mac_of,
    neighbour_of,
    number_of,
    route_of,
    text_of,
)
from gateway.underlay.netlink import RT_TABLE_MAIN, Requests

SMALLEST_PATH = 1280  # bytes: fragments that are made anew fit wherever IPv6 does (RFC 8200, section 5)
_DEFAULTS = ("0.0.0.0/0", "::/0")
_HEADER_BYTES = 16  # struct nlmsghdr
_ROUTE_PROTOCOL_OFFSET = _HEADER_BYTES + 5  # rtm_protocol of struct rtmsg


@dataclass(frozen=True, slots=True)
class _Link:
    """An interface as it is. `peer` is the other end's index."""

    index: int
    mac: bytes
    mtu: int
    up: bool
    peer: int


def wire(specification: CompartmentSpecification, names: Names, gateway: GatewaySide) -> dict[str, Leg]:
    """Make the calling thread's namespace as specified; return the legs by their names there. Raises OSError."""
    wanted = {INSIDE: names.inside} | ({OUTSIDE: names.outside} if specification.outside_addresses else {})
    with closing(Requests()) as requests:
        outer = _pair(requests, wanted, specification.mtu, gateway)
        links = _links(requests)
        make(requests, _up(links, wanted, specification.mtu))
        for leg in wanted:
            settings.set_inner_end(leg)
        indexes = {leg: links[leg].index for leg in wanted}
        stale = _assign(requests, specification, indexes)
        _know_datapath(requests, indexes, gateway.router_mac)
        _route(requests, specification, indexes)
        make(requests, map(changes.no_address, stale))  # last, as Linux then removes routes with that source
        remove_links(requests, {INSIDE, OUTSIDE} & links.keys() - wanted.keys())
    return {leg: Leg(names.interface, outer[leg], leg, names.mac) for leg, names in wanted.items()}


def _pair(requests: Requests, wanted: Mapping[str, LegNames], mtu: int, gateway: GatewaySide) -> dict[str, int]:
    """Make the veth pairs that are not there, instead of those that lead elsewhere; return the outer ends' indexes.

    The outer end is up first: Linux sends by the second one to come up at once, by the first a little later.
    """
    links = _links(requests)
    outer: dict[str, int] = {}
    for leg, names in wanted.items():
        there = links.get(leg)
        if not there or there.peer != gateway.interfaces.get(names.interface):
            remove_links(requests, [leg] if there else [])
            remove_links(gateway.requests, [names.interface] if names.interface in gateway.interfaces else [])
            near, far = End(leg, _colons(names.mac)), End(names.interface, _colons(names.gateway_mac))
            make(requests, [changes.new_pair(near, far, gateway.namespace, mtu)])
        outer[leg] = gateway.take_up(names.interface, mtu)
    return outer


def _links(requests: Requests) -> dict[str, _Link]:
    return dict(_link(message.data) for message in requests.dump(rtnl.RTM_NEWLINK))


def _link(data: bytes) -> tuple[str, _Link]:
    _, index, flags = IFINFOMSG.unpack_from(data, _HEADER_BYTES)
    attributes = dict(attributes_of(data, _HEADER_BYTES + IFINFOMSG.size))
    return text_of(attributes[IFLA_IFNAME]), _Link(
        index=index,
        mac=attributes.get(IFLA_ADDRESS, b""),
        mtu=number_of(attributes[IFLA_MTU]),
        up=bool(flags & IFF_UP),
        peer=number_of(attributes.get(IFLA_LINK, b"")),
    )


def _up(links: Mapping[str, _Link], wanted: Mapping[str, LegNames], mtu: int) -> Iterator[Change]:
    if not links["lo"].up:
        yield changes.link_up(links["lo"].index, "lo")
    for leg, names in wanted.items():
        link, mac = links[leg], _colons(names.mac)
        if not link.up or link.mtu != mtu or link.mac != mac_of(mac):
            yield changes.link_up(link.index, leg, IFLA_MTU=mtu, IFLA_ADDRESS=mac)


def _assign(
    requests: Requests, specification: CompartmentSpecification, indexes: Mapping[str, int]
) -> set[AssignedAddress]:
    """Add the addresses that are missing; return those that are too many."""
    by_leg = {INSIDE: specification.inside_addresses, OUTSIDE: specification.outside_addresses}
    wanted = {
        AssignedAddress(index, address, 128 if ":" in address else 32): None
        for leg, index in indexes.items()
        for address in by_leg[leg]
    }
    messages = [message.decode() for message in requests.dump(rtnl.RTM_NEWADDR)]
    held = {AssignedAddress(*address_of(message), message["prefixlen"]) for message in messages}
    make(requests, [changes.address(assigned) for assigned in wanted if assigned not in held])
    return {assigned for assigned in held - wanted.keys() if assigned.interface in indexes.values()}


def _know_datapath(requests: Requests, indexes: Mapping[str, int], router_mac: str) -> None:
    held = dict(neighbour_of(message.data) for message in requests.dump(rtnl.RTM_NEWNEIGH))
    wanted = []
    for index in indexes.values():
        for version, address in NEXT_HOPS.items():
            neighbour = held.get((index, address))
            if not neighbour or not neighbour.fixed or neighbour.mac != mac_of(router_mac):
                wanted.append(changes.neighbour(index, version, router_mac))
    make(requests, wanted)


def _route(requests: Requests, specification: CompartmentSpecification, indexes: Mapping[str, int]) -> None:
    """Make the routes of our mark be those wanted. Others, such as those into tunnels, are not ours."""
    wanted = {route.prefix: route for route in _wanted_routes(specification, indexes)}
    held = set(_our_routes(requests))
    make(requests, [changes.route(route) for route in wanted.values() if route not in held])
    make(requests, [changes.no_route(route) for route in held if route.prefix not in wanted])


def _wanted_routes(specification: CompartmentSpecification, indexes: Mapping[str, int]) -> Iterator[RouteToDatapath]:
    mtus = {4: SMALLEST_PATH if specification.for_fragments else 0, 6: 0}  # of IPv6, senders alone may fragment
    way_out = OUTSIDE if OUTSIDE in indexes else INSIDE
    sources = {INSIDE: specification.inside_addresses, OUTSIDE: specification.outside_addresses}
    for leg, prefixes in ((INSIDE, specification.inside_prefixes), (way_out, _DEFAULTS)):
        for prefix in map(ip_network, prefixes):
            of_family = (address for address in sources[leg] if (":" in address) == (prefix.version == 6))
            yield RouteToDatapath(prefix, indexes[leg], next(of_family, None), mtus[prefix.version])


def _our_routes(requests: Requests) -> Iterator[RouteToDatapath]:
    for message in requests.dump(rtnl.RTM_NEWROUTE):
        if message.table == RT_TABLE_MAIN and message.data[_ROUTE_PROTOCOL_OFFSET] == OUR_PROTOCOL:
            route = route_of(message.decode())
            for hop in route.next_hops:
                yield RouteToDatapath(route.prefix, hop.interface_index, route.preferred_source, route.mtu)


def _colons(mac: str) -> str:
    return mac.replace("-", ":").lower()
