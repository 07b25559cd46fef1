"""The routes of a domain as its policy says them, and what they lead to."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_network

from gateway.compartments.specification import Compartment, Leg
from gateway.datapath.model.ethernet import mac_bytes
from gateway.datapath.model.ip import Address
from gateway.policy.connections import IpsecConnection
from gateway.policy.model import CustomerRoute, RoutingDomain

Prefix = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Record:
    """A lookup record. Its `customer_address` is unspecified for a wildcard; `version` is that of the CA."""

    entry: str
    vsid: int
    customer_address: Address
    mac: bytes
    provider_address: Address
    encapsulation: str


@dataclass(frozen=True, slots=True)
class Connection:
    """An l3 connection: the attachment it uses and the gateway's own addresses there."""

    entry: str
    name: str
    interface: str
    vlan: int
    local: tuple[IPv4Interface | IPv6Interface, ...]

    def address_of_family(self, version: int) -> Address | None:
        """The first local address of the family, from which ICMP errors come."""
        return next((local.ip for local in self.local if local.version == version), None)

    def address_asking(self, neighbour: Address) -> Address | None:
        """The address that asks for a neighbour: that of the longest prefix around it, else the first of its family."""
        around = [local for local in self.local if neighbour in local.network]
        if not around:
            return self.address_of_family(neighbour.version)
        return max(around, key=lambda local: local.network.prefixlen).ip


@dataclass(frozen=True, slots=True)
class Subnet:
    """A virtual subnet: the router's address in each of its prefixes, in the order of the document."""

    entry: str
    vsid: int
    router_addresses: dict[Prefix, Address]

    def address_of_family(self, version: int) -> Address | None:
        return next((address for address in self.router_addresses.values() if address.version == version), None)


@dataclass(frozen=True, slots=True)
class OnLink:
    """A prefix of a virtual subnet: only its records and its wildcard are there."""

    vsid: int


@dataclass(frozen=True, slots=True)
class Exit:
    """Out through a connection, to a next hop or (None) to the destination itself.

    With a `mac` nobody is asked: that is the neighbour, the far end of a compartment's leg.
    """

    connection: Connection
    next_hop: Address | None
    mac: bytes | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """In again at once, as a packet from the Internet: to a public address that the gateway has there itself."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Nowhere, so that what was to go by a tunnel takes no less specific route."""


@dataclass(frozen=True, slots=True)
class Inside:
    """The way into a domain's compartment, and the gateway's own addresses there."""

    exit: Exit
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of a domain's routes. A record as target is a customer route's next hop, found.

    `tunnel` is the connection that it is behind, if it is behind one.
    """

    entry: str
    prefix: Prefix
    metric: int
    target: OnLink | Exit | Record | Closed
    tunnel: str | None = None


def inside_of(entry: str, domain: RoutingDomain, compartment: Compartment | None) -> Inside | None:
    """The way into a domain's compartment."""
    if compartment is None:
        return None
    addresses = tuple(map(ip_address, compartment.specification.inside_addresses))
    return Inside(exit_to(compartment.inside, domain.name, entry), addresses)


def exit_to(leg: Leg, domain_name: str, entry: str) -> Exit:
    """The way to the far end of a compartment's leg."""
    connection = Connection(entry, f"the compartment of {domain_name}", leg.interface, 0, ())
    return Exit(connection, None, mac_bytes(leg.mac))


def build(
    entry: str,
    domain: RoutingDomain,
    records: Mapping[Address, Record],
    subnets: Iterable[Subnet],
    connections: Iterable[Connection],
    inside: Inside | None,
) -> tuple[Route, ...]:
    """All routes of a domain, in the order of its policy."""
    return (
        *_on_link(subnets),
        *_customer_routes(entry, domain, records, subnets),
        *_connection_routes(domain, connections),
        *(_compartment_routes(entry, inside) if inside else ()),
        *_tunnel_routes(entry, domain, inside),
    )


def _on_link(subnets: Iterable[Subnet]) -> list[Route]:
    return [
        Route(f"{subnet.entry}/prefixes/{i}", prefix, 0, OnLink(subnet.vsid))
        for subnet in subnets
        for i, prefix in enumerate(subnet.router_addresses)
    ]


def _customer_routes(
    entry: str, domain: RoutingDomain, records: Mapping[Address, Record], subnets: Iterable[Subnet]
) -> list[Route]:
    routes = []
    for i, route in enumerate(domain.customer_routes):
        target = _customer_target(route, records, subnets)
        if target is not None:
            routes.append(Route(f"{entry}/customer_routes/{i}", ip_network(route.prefix), route.metric, target))
    return routes


def _customer_target(
    route: CustomerRoute, records: Mapping[Address, Record], subnets: Iterable[Subnet]
) -> OnLink | Record | None:
    """None where the next hop has no record: such a route does not resolve."""
    if route.next_hop is not None:
        return records.get(ip_address(route.next_hop))
    if route.vsid is not None:
        return OnLink(route.vsid)
    network = ip_network(route.prefix).network_address
    holders = [subnet.vsid for subnet in subnets for prefix in subnet.router_addresses if network in prefix]
    return OnLink(holders[0] if holders else 0)


def _connection_routes(domain: RoutingDomain, connections: Iterable[Connection]) -> list[Route]:
    routes = []
    for connection, source in zip(connections, domain.l3_connections(), strict=True):
        for i, local in enumerate(connection.local):
            routes.append(Route(f"{connection.entry}/local_addresses/{i}", local.network, 0, Exit(connection, None)))
        for i, route in enumerate(source.routes):
            next_hop = None if route.next_hop is None else ip_address(route.next_hop)
            target = Exit(connection, next_hop)
            routes.append(Route(f"{connection.entry}/routes/{i}", ip_network(route.prefix), route.metric, target))
    return routes


def _compartment_routes(entry: str, inside: Inside) -> Iterator[Route]:
    for address in inside.addresses:
        yield Route(f"{entry}/service_addresses", ip_network(address), 0, inside.exit)


def _tunnel_routes(entry: str, domain: RoutingDomain, inside: Inside | None) -> Iterator[Route]:
    enabled = (tunnel for tunnel in domain.ipsec_connections() if tunnel.enabled)
    in_use = {route.prefix for tunnel in enabled for route in tunnel.reached()}
    for index, connection in enumerate(domain.network_connections):
        if not isinstance(connection, IpsecConnection):
            continue
        field = "routes" if connection.routes else "traffic_selectors/remote"
        for i, route in enumerate(connection.reached()):
            at = f"{entry}/network_connections/{index}/{field}/{i}"
            target = inside.exit if inside and route.prefix in in_use else Closed()
            yield Route(at, ip_network(route.prefix), route.metric, target, connection.name)
