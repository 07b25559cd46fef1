"""Customer routes and network connections of one domain: pointers are relative to the domain."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

from gateway.configuration import Port
from gateway.policy.addresses import address_or_prefix, address_range, family, network_of, ordinal, why_not_routable
from gateway.policy.faults import Fault
from gateway.policy.model import (
    ConnectionRoute,
    CustomerRoute,
    IpsecConnection,
    NetworkConnection,
    ProviderRoute,
    RoutingDomain,
)
from gateway.policy.subnet_checks import WITHOUT_ADDRESS

MOST_EQUAL_ROUTES = 64


class PrefixSet:
    """A set of prefixes that tells whether another one lies inside one of them."""

    def __init__(self, prefixes: Iterable[str]) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        for network in sorted(address_range(prefix) for prefix in prefixes):
            if not self._last or network.last > self._last[-1]:  # prefixes nest or are disjoint: keep the outer ones
                self._first.append(network.first)
                self._last.append(network.last)

    def hold(self, prefix: str) -> bool:
        """Tell whether a prefix lies in one of the set."""
        network = address_range(prefix)
        at = bisect_right(self._first, network.first) - 1
        return at >= 0 and network.last <= self._last[at]


def customer_addresses(domain: RoutingDomain) -> set[str]:
    """Return the addresses of the domain that have a record."""
    return {record.customer_address for record in domain.lookup_records if record.type not in WITHOUT_ADDRESS}


def customer_route_faults(domain: RoutingDomain) -> Iterator[Fault]:
    """Prefixes that are never routed, unknown subnets, next hops that nothing is known of."""
    if not domain.customer_routes:
        return
    known = customer_addresses(domain)
    of_subnet = {subnet.vsid: PrefixSet(subnet.prefixes) for subnet in domain.virtual_subnets}
    of_domain = PrefixSet(prefix for subnet in domain.virtual_subnets for prefix in subnet.prefixes)
    for index, route in enumerate(domain.customer_routes):
        at = f"/customer_routes/{index}"
        yield from route_faults(route, at)
        if route.vsid is not None and route.vsid not in of_subnet:
            detail = f"{route.vsid} is not a virtual subnet of this routing domain"
            yield Fault(f"{at}/vsid", detail, absence=True)
        elif route.next_hop is None and not of_subnet.get(route.vsid or 0, of_domain).hold(route.prefix):
            detail = f"{route.prefix} without a next hop lies in no prefix of {_subnets(route)}: give a next_hop"
            yield Fault(f"{at}/prefix", detail, absence=True)
        if route.next_hop and route.next_hop not in known and family(route.next_hop) == family(route.prefix):
            detail = f"{route.next_hop} is not a customer address of this routing domain: no lookup record has it"
            yield Fault(f"{at}/next_hop", detail, absence=True)


def _subnets(route: CustomerRoute) -> str:
    return f"virtual subnet {route.vsid}" if route.vsid is not None else "a virtual subnet"


def route_faults(route: CustomerRoute | ConnectionRoute | ProviderRoute, at: str) -> Iterator[Fault]:
    """Tell what is wrong with a route by itself."""
    if kind := why_not_routable(route.prefix):
        yield Fault(f"{at}/prefix", f"{route.prefix} is never routed: {kind}")
    if route.next_hop and family(route.next_hop) != family(route.prefix):
        yield Fault(f"{at}/next_hop", f"{route.next_hop} and {route.prefix} are of different IP families")


def connection_faults(domain: RoutingDomain, ports: Mapping[str, Port]) -> Iterator[Fault]:
    """Ports, local addresses and routes of the domain's connections."""
    names: set[str] = set()
    taken = {prefix for subnet in domain.virtual_subnets for prefix in subnet.prefixes}
    local: set[str] = set()
    for index, connection in enumerate(domain.network_connections):
        at = f"/network_connections/{index}"
        if connection.name in names:
            yield Fault(
                f"{at}/name", f"the name {connection.name!r} is given to two connections of this routing domain"
            )
        names.add(connection.name)
        if isinstance(connection, IpsecConnection):
            continue
        yield from _port_faults(connection, at, ports)
        yield from _local_address_faults(connection, at, taken, local)
        yield from _connection_route_faults(connection, at)


def _port_faults(connection: NetworkConnection, at: str, ports: Mapping[str, Port]) -> Iterator[Fault]:
    port = ports.get(connection.port)
    if port is None:
        external = ", ".join(port.name for port in ports.values() if port.role == "external")
        yield Fault(
            f"{at}/port", f"{connection.port!r} is not a port of this gateway: external ports are {external or 'none'}"
        )
    elif port.role != "external":
        yield Fault(f"{at}/port", f"port {connection.port!r} is a {port.role} port: a connection needs an external one")


def _local_address_faults(connection: NetworkConnection, at: str, taken: set[str], local: set[str]) -> Iterator[Fault]:
    """`taken`: the domain's virtual subnets; `local`: local addresses of the connections before, added to."""
    if not connection.local_addresses:
        yield Fault(f"{at}/local_addresses", "a connection needs at least one local address", absence=True)
    for number, entry in enumerate(connection.local_addresses):
        pointer = f"{at}/local_addresses/{number}"
        address, _, length = entry.partition("/")
        network = address_range(entry)
        if kind := why_not_routable(address):
            yield Fault(pointer, f"{address} is never routed: {kind}")
        if ":" not in entry and int(length) < 31 and ordinal(address) in (network.first, network.last):
            yield Fault(
                pointer, f"{entry} is the network or the broadcast address of its network: no router may have it"
            )
        if network_of(entry) in taken:
            yield Fault(pointer, f"{network_of(entry)} is the prefix of a virtual subnet of this routing domain too")
        if address in local:
            yield Fault(pointer, f"{address} is given twice in this routing domain")
        local.add(address)


def _connection_route_faults(connection: NetworkConnection, at: str) -> Iterator[Fault]:
    families = {family(entry) for entry in connection.local_addresses}
    own = {entry.partition("/")[0] for entry in connection.local_addresses}
    networks = PrefixSet(connection.local_addresses)
    for number, route in enumerate(connection.routes):
        pointer = f"{at}/routes/{number}"
        yield from route_faults(route, pointer)
        next_hop = route.next_hop
        if family(route.prefix) not in families:
            detail = f"the connection has no local IPv{family(route.prefix)} address to send from"
            yield Fault(f"{pointer}/prefix", detail, absence=True)
        elif next_hop is None or family(next_hop) != family(route.prefix):
            continue
        elif not networks.hold(address_or_prefix(next_hop)):
            detail = f"{next_hop} is outside the networks of the connection's local addresses"
            yield Fault(f"{pointer}/next_hop", detail, absence=True)
        elif next_hop in own:
            yield Fault(f"{pointer}/next_hop", f"{next_hop} is a local address of the connection itself")


def equal_route_faults(domain: RoutingDomain) -> Iterator[Fault]:
    """More equal routes than flows are spread over: every route beyond the sixty-fourth."""
    equal: dict[tuple[str, int], set[object]] = {}
    for prefix, metric, way, pointer in _ways(domain):
        ways = equal.setdefault((prefix, metric), set())
        ways.add(way)
        if len(ways) > MOST_EQUAL_ROUTES:
            yield Fault(pointer, f"{len(ways)} routes to {prefix} of metric {metric}: {MOST_EQUAL_ROUTES} may be equal")


def _ways(domain: RoutingDomain) -> Iterator[tuple[str, int, object, str]]:
    """Prefix, metric, identity and pointer of every route there is; an on-link route may be written twice."""
    for index, subnet in enumerate(domain.virtual_subnets):
        for number, prefix in enumerate(subnet.prefixes):
            yield prefix, 0, subnet.vsid, f"/virtual_subnets/{index}/prefixes/{number}"
    for index, route in enumerate(domain.customer_routes):
        pointer = f"/customer_routes/{index}/prefix"
        if route.next_hop:
            yield route.prefix, route.metric, pointer, pointer
    for index, connection in enumerate(domain.network_connections):
        at = f"/network_connections/{index}"
        local = connection.local_addresses if isinstance(connection, NetworkConnection) else ()
        for number, entry in enumerate(local):
            yield network_of(entry), 0, at, f"{at}/local_addresses/{number}"
        for number, way in enumerate(connection.routes):
            pointer = f"{at}/routes/{number}/prefix"
            yield way.prefix, way.metric, pointer if way.next_hop else at, pointer
