"""The policy as the layers of the model read it: addresses parsed, every entry with its name, nothing else prepared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network

from gateway.compartments.specification import Compartment
from gateway.configuration import Port
from gateway.datapath.model import balancing, routes
from gateway.datapath.model.balancing import Numbers, Services
from gateway.datapath.model.ethernet import mac_bytes
from gateway.datapath.model.ip import Address
from gateway.datapath.model.routes import Connection, Exit, Inside, Record, Route, Subnet
from gateway.policy.internet import internet_domain
from gateway.policy.model import (
    AccessControlList,
    LookupRecord,
    NetworkConnection,
    Policy,
    RoutingDomain,
    VirtualSubnet,
)
from lb.pools import Choice, PoolState


@dataclass(frozen=True, slots=True)
class AccessList:
    entry: str
    list: AccessControlList


@dataclass(frozen=True, slots=True)
class Domain:
    """A routing domain. `local` maps each router address to the entry that gives it; `records` holds what has a CA.

    `inside` is the way into its compartment, if one stands.
    """

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
    inside: Inside | None = None


def build(
    policy: Policy,
    ports: Iterable[Port],
    also_admitted: Mapping[str, frozenset[str]],
    pools: Mapping[str, Mapping[Choice, PoolState]],
    numbers: Numbers,
    compartments: Mapping[str, Compartment],
) -> tuple[Domain, ...]:
    """The policy's routing domains, in its order."""
    named = {port.name: port for port in ports}
    found = []
    for index, domain in enumerate(policy.routing_domains):
        entry = f"/routing_domains/{index}"
        services = balancing.build(entry, domain, pools.get(domain.id, balancing.healthy(domain)), numbers)
        admitted = _admitted(domain, policy) | {ip_address(one) for one in also_admitted.get(domain.id, ())}
        inside = routes.inside_of(entry, domain, compartments.get(domain.id))
        found.append(_build_domain(entry, domain, named, admitted, services, inside))
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
    found = tuple(_with_connection(route, connections) for route in built.routes)
    return replace(built, connections=tuple(connections.values()), local=local, routes=found)


def _with_connection(route: Route, connections: Mapping[Connection, Connection]) -> Route:
    assert isinstance(route.target, Exit)  # there is nothing else in the Internet
    connection = connections[route.target.connection]
    return replace(route, entry=connection.entry, target=Exit(connection, route.target.next_hop))


def _build_domain(
    entry: str,
    domain: RoutingDomain,
    ports: Mapping[str, Port],
    admitted: frozenset[Address],
    services: Services,
    inside: Inside | None = None,
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
        routes=routes.build(entry, domain, records, subnets, connections, inside),
        connections=connections,
        admitted=admitted,
        access_lists=tuple(
            AccessList(f"{entry}/access_control_lists/{i}", access_list)
            for i, access_list in enumerate(domain.access_control_lists)
        ),
        services=services,
        inside=inside,
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


def _admitted(domain: RoutingDomain, policy: Policy) -> frozenset[Address]:
    """The PAs of all the domain's records, and all PAs of every host that owns one of them."""
    admitted = {record.provider_address for record in domain.lookup_records}
    for host in policy.hosts:
        of_host = {provider_address.address for provider_address in host.provider_addresses}
        if of_host & {record.provider_address for record in domain.lookup_records}:
            admitted |= of_host
    return frozenset(ip_address(address) for address in admitted)
