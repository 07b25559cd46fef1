"""The policy as the layers of the model read it: addresses parsed, every entry with its name, nothing else prepared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_interface, ip_network

from gateway.configuration import Port
from gateway.datapath.model import balancing
from gateway.datapath.model.balancing import Numbers, Services
from gateway.datapath.model.ethernet import mac_bytes
from gateway.datapath.model.ip import Address
from gateway.policy.internet import internet_domain
from gateway.policy.model import (
    AccessControlList,
    CustomerRoute,
    LookupRecord,
    NetworkConnection,
    Policy,
    RoutingDomain,
    VirtualSubnet,
)
from lb.pools import Choice, PoolState

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
class OnLink:
    """A prefix of a virtual subnet: only its records and its wildcard are there."""

    vsid: int


@dataclass(frozen=True, slots=True)
class Exit:
    """Out through a connection, to a next hop or (None) to the destination itself."""

    connection: Connection
    next_hop: Address | None


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of a domain's routes. A record as target is a customer route's next hop, found."""

    entry: str
    prefix: Prefix
    metric: int
    target: OnLink | Exit | Record


@dataclass(frozen=True, slots=True)
class AccessList:
    entry: str
    list: AccessControlList


@dataclass(frozen=True, slots=True)
class Subnet:
    """A virtual subnet: the router's address in each of its prefixes, in the order of the document."""

    entry: str
    vsid: int
    router_addresses: dict[Prefix, Address]

    def address_of_family(self, version: int) -> Address | None:
        return next((address for address in self.router_addresses.values() if address.version == version), None)


@dataclass(frozen=True, slots=True)
class Domain:
    """A routing domain. `local` maps each router address to the entry that gives it; `records` holds what has a CA."""

    id: str
    entry: str
    source: RoutingDomain
    subnets: dict[int, Subnet]
    records: dict[Address, Record]
    wildcards: dict[tuple[int, int], Record]
    rewritten: dict[Address, Record]
    local: dict[Address, str]
    routes: tuple[Route, ...]
    connections: tuple[Connection, ...]
    admitted: frozenset[Address]
    access_lists: tuple[AccessList, ...]
    services: Services


def build(
    policy: Policy,
    ports: Iterable[Port],
    also_admitted: Mapping[str, frozenset[str]],
    pools: Mapping[str, Mapping[Choice, PoolState]],
    numbers: Numbers,
) -> tuple[Domain, ...]:
    """The policy's routing domains, in its order."""
    named = {port.name: port for port in ports}
    found = []
    for index, domain in enumerate(policy.routing_domains):
        entry = f"/routing_domains/{index}"
        services = balancing.build(entry, domain, pools.get(domain.id, balancing.healthy(domain)), numbers)
        admitted = _admitted(domain, policy) | {ip_address(one) for one in also_admitted.get(domain.id, ())}
        found.append(_build_domain(entry, domain, named, admitted, services))
    return tuple(found)


def build_internet(ports: Iterable[Port]) -> Domain | None:
    """The domain of the ports with addresses, None if there are none. Its entries are the ports themselves."""
    source = internet_domain(ports)
    if source is None:
        return None
    entries = {port.name: f"/ports/{index}" for index, port in enumerate(ports)}
    built = _build_domain("/ports", source, {port.name: port for port in ports}, frozenset(), Services({}, {}, {}, {}))
    connections = {one: replace(one, entry=entries[one.name]) for one in built.connections}
    local = {own.ip: one.entry for one in connections.values() for own in one.local}
    routes = tuple(_with_connection(route, connections) for route in built.routes)
    return replace(built, connections=tuple(connections.values()), local=local, routes=routes)


def _with_connection(route: Route, connections: Mapping[Connection, Connection]) -> Route:
    assert isinstance(route.target, Exit)  # there is nothing else in the Internet
    connection = connections[route.target.connection]
    return replace(route, entry=connection.entry, target=Exit(connection, route.target.next_hop))


def _build_domain(
    entry: str, domain: RoutingDomain, ports: Mapping[str, Port], admitted: frozenset[Address], services: Services
) -> Domain:
    subnets = [_subnet(f"{entry}/virtual_subnets/{i}", subnet) for i, subnet in enumerate(domain.virtual_subnets)]
    all_records = [
        (_record(f"{entry}/lookup_records/{i}", record), record.type) for i, record in enumerate(domain.lookup_records)
    ]
    records = {record.customer_address: record for record, kind in all_records if kind in ("static", "dynamic")}
    connections = tuple(
        _connection(f"{entry}/network_connections/{i}", connection, ports[connection.port])
        for i, connection in enumerate(domain.network_connections)
        if isinstance(connection, NetworkConnection)
    )
    return Domain(
        id=domain.id,
        entry=entry,
        source=domain,
        subnets={subnet.vsid: subnet for subnet in subnets},
        records=records,
        wildcards={
            (record.vsid, record.customer_address.version): record
            for record, kind in all_records
            if kind == "gateway_wildcard"
        },
        rewritten={record.provider_address: record for record in records.values() if record.encapsulation == "rewrite"},
        local=_local_addresses(subnets, connections),
        routes=(
            *_on_link(subnets),
            *_customer_routes(entry, domain, records, subnets),
            *_connection_routes(domain, connections),
        ),
        connections=connections,
        admitted=admitted,
        access_lists=tuple(
            AccessList(f"{entry}/access_control_lists/{i}", access_list)
            for i, access_list in enumerate(domain.access_control_lists)
        ),
        services=services,
    )


def _subnet(entry: str, subnet: VirtualSubnet) -> Subnet:
    addresses = {ip_network(prefix): ip_address(address) for prefix, address in subnet.router_addresses().items()}
    return Subnet(entry, subnet.vsid, addresses)


def _record(entry: str, record: LookupRecord) -> Record:
    return Record(
        entry=entry,
        vsid=record.vsid,
        customer_address=ip_address(record.customer_address),
        mac=mac_bytes(record.mac),
        provider_address=ip_address(record.provider_address),
        encapsulation=record.encapsulation,
    )


def _connection(entry: str, connection: NetworkConnection, port: Port) -> Connection:
    return Connection(
        entry=entry,
        name=connection.name,
        interface=port.interface,
        vlan=connection.vlan or port.vlan,
        local=tuple(ip_interface(address) for address in connection.local_addresses),
    )


def _local_addresses(subnets: Iterable[Subnet], connections: Iterable[Connection]) -> dict[Address, str]:
    local = {address: subnet.entry for subnet in subnets for address in subnet.router_addresses.values()}
    local.update({address.ip: connection.entry for connection in connections for address in connection.local})
    return local


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


def _admitted(domain: RoutingDomain, policy: Policy) -> frozenset[Address]:
    """The PAs of all the domain's records, and all PAs of every host that owns one of them."""
    admitted = {record.provider_address for record in domain.lookup_records}
    for host in policy.hosts:
        of_host = {provider_address.address for provider_address in host.provider_addresses}
        if of_host & {record.provider_address for record in domain.lookup_records}:
            admitted |= of_host
    return frozenset(ip_address(address) for address in admitted)
