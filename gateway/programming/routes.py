"""What a routing domain's prefixes lead to, worked out from its policy: longest prefix, lowest metric, equal next hops.

Plain values only; `domain_block` gives them their places in memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from gateway.policy.addresses import AddressRange, address_range, family, network_of, ordinal
from gateway.policy.model import (
    CustomerRoute,
    LookupRecord,
    NetworkConnection,
    RoutingDomain,
    VirtualSubnet,
)

PortName: TypeAlias = tuple[str, int]  # a port's name in the configuration, and the VLAN
Neighbour: TypeAlias = tuple[PortName, str]  # and its MAC


@dataclass(frozen=True, slots=True)
class OnLink:
    """In a virtual subnet, at an address without a record: the subnet's wildcard record, if it has one."""

    wildcard: LookupRecord | None


@dataclass(frozen=True, slots=True)
class Overlay:
    """To the machine of a lookup record."""

    record: LookupRecord


@dataclass(frozen=True, slots=True)
class External:
    """Out of an external port: to `gateway`, or on-link if it is None. `source` asks for the neighbour.

    With a `mac` nobody is asked: that is the neighbour.
    """

    port: PortName
    gateway: str | None
    source: str | None
    mac: str | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """Nowhere, so that what was to go by a tunnel takes no less specific route."""


Hop: TypeAlias = OnLink | Overlay | External | Closed


@dataclass(frozen=True, slots=True)
class Inside:
    """The leg of a domain's compartment that leads into it, and the gateway's own addresses there."""

    port: PortName
    mac: str
    addresses: tuple[str, ...]

    def hop(self) -> External:
        """Return the way into the compartment."""
        return External(self.port, None, None, self.mac)


@dataclass(frozen=True, slots=True)
class Route:
    """The equal next hops of one prefix. `inside`: the VSID of the virtual subnet that it is cut out of, or 0."""

    hops: tuple[Hop, ...]
    inside: int = 0


@dataclass(frozen=True, slots=True)
class _Candidate:
    prefix: str
    metric: int
    hop: Hop


def wildcards(domain: RoutingDomain) -> dict[tuple[int, int], LookupRecord]:
    """The gateway_wildcard record of each (VSID, family)."""
    return {
        (record.vsid, family(record.customer_address)): record
        for record in domain.lookup_records
        if record.type == "gateway_wildcard"
    }


def routed_records(domain: RoutingDomain) -> Iterator[LookupRecord]:
    """The records that an address leads to: all but wildcards and those without a customer address."""
    return (record for record in domain.lookup_records if record.type in ("static", "dynamic"))


def connection_port(connection: NetworkConnection, port_vlans: dict[str, int]) -> PortName:
    """Where a connection leaves; VLAN 0 means the port's own."""
    return connection.port, connection.vlan or port_vlans.get(connection.port, 0)


def routes_of(domain: RoutingDomain, port_vlans: dict[str, int], inside: Inside | None = None) -> dict[str, Route]:
    """All prefixes of a domain, virtual subnets' included. `inside`: its compartment, if it has one."""
    best: dict[str, list[_Candidate]] = {}
    for candidate in (*_candidates(domain, port_vlans), *_through_compartment(domain, inside)):
        same = best.setdefault(candidate.prefix, [])
        if same and candidate.metric > same[0].metric:
            continue
        if same and candidate.metric < same[0].metric:
            same.clear()
        same.append(candidate)
    subnets = [(address_range(prefix), subnet.vsid) for subnet in domain.virtual_subnets for prefix in subnet.prefixes]
    return {prefix: Route(_hops(same), _inside(prefix, same, subnets)) for prefix, same in best.items()}


def _hops(same: list[_Candidate]) -> tuple[Hop, ...]:
    """Of equal ways those that are open, if any is."""
    hops = tuple(dict.fromkeys(each.hop for each in same))
    return tuple(hop for hop in hops if not isinstance(hop, Closed)) or hops


def _through_compartment(domain: RoutingDomain, inside: Inside | None) -> Iterator[_Candidate]:
    """The gateway's own addresses, and what lies behind tunnels."""
    if inside:
        for address in inside.addresses:
            yield _Candidate(host_prefix(address), 0, inside.hop())
    tunnels = list(domain.ipsec_connections())
    in_use = {route.prefix for tunnel in tunnels if tunnel.enabled for route in tunnel.reached()}
    for tunnel in tunnels:
        for route in tunnel.reached():  # another tunnel may stand in for one that is disabled
            hop = inside.hop() if inside and route.prefix in in_use else Closed()
            yield _Candidate(route.prefix, route.metric, hop)


def _inside(prefix: str, same: list[_Candidate], subnets: list[tuple[AddressRange, int]]) -> int:
    own = address_range(prefix)
    if all(isinstance(each.hop, OnLink) for each in same):
        return 0
    around = (
        vsid for network, vsid in subnets if network.first <= own.first <= own.last <= network.last and network != own
    )
    return next(around, 0)


def _candidates(domain: RoutingDomain, port_vlans: dict[str, int]) -> Iterator[_Candidate]:
    caught = wildcards(domain)
    for subnet in domain.virtual_subnets:
        for prefix in subnet.prefixes:
            yield _Candidate(prefix, 0, _on_link(subnet.vsid, prefix, caught))
    if domain.customer_routes:
        records = {record.customer_address: record for record in routed_records(domain)}
        for route in domain.customer_routes:
            yield from _customer_route(route, domain.virtual_subnets, records, caught)
    for connection in domain.l3_connections():
        yield from _connection(connection, connection_port(connection, port_vlans))


def _on_link(vsid: int, prefix: str, caught: dict[tuple[int, int], LookupRecord]) -> Hop:
    return OnLink(caught.get((vsid, family(prefix))))


def _customer_route(
    route: CustomerRoute,
    subnets: Iterable[VirtualSubnet],
    records: dict[str, LookupRecord],
    caught: dict[tuple[int, int], LookupRecord],
) -> Iterator[_Candidate]:
    if route.next_hop is None:
        vsid = route.vsid or _subnet_of(route.prefix, subnets)
        if vsid is not None:
            yield _Candidate(route.prefix, route.metric, _on_link(vsid, route.prefix, caught))
    elif route.next_hop in records:
        yield _Candidate(route.prefix, route.metric, Overlay(records[route.next_hop]))


def _subnet_of(prefix: str, subnets: Iterable[VirtualSubnet]) -> int | None:
    own = address_range(prefix)
    for subnet in subnets:
        for each in subnet.prefixes:
            network = address_range(each)
            if network.first <= own.first <= own.last <= network.last:
                return subnet.vsid
    return None


def _connection(connection: NetworkConnection, port: PortName) -> Iterator[_Candidate]:
    for text in connection.local_addresses:
        yield _Candidate(network_of(text), 0, External(port, None, text.partition("/")[0]))
    for route in connection.routes:
        source = asking_address(connection, host_prefix(route.next_hop) if route.next_hop else route.prefix)
        yield _Candidate(route.prefix, route.metric, External(port, route.next_hop, source))


def asking_address(connection: NetworkConnection, prefix: str) -> str | None:
    """The local address that asks for neighbours there: on the smallest network around it, else the first."""
    of_family = [text for text in connection.local_addresses if family(text) == family(prefix)]
    first, last, _ = address_range(prefix)
    around = [text for text in of_family if address_range(text).first <= first <= last <= address_range(text).last]
    best = max(around, key=lambda text: address_range(text).length) if around else next(iter(of_family), None)
    return best.partition("/")[0] if best else None


def host_prefix(address: str) -> str:
    """The prefix of one address."""
    return f"{address}/{32 if family(address) == 4 else 128}"


def covering(routes: dict[str, Route], address: str) -> Route | None:
    """The route of the longest prefix that an address lies in."""
    at, found, length = ordinal(address), None, -1
    for prefix, route in routes.items():
        network = address_range(prefix)
        if network.first <= at <= network.last and network.length > length:
            found, length = route, network.length
    return found
