"""Policies made up at random: valid, with much in common between domains, so that a leak would show."""

from collections.abc import Iterator
from ipaddress import ip_network
from random import Random

from gateway.datapath.model.world import UnderlayHop, World
from gateway.policy.model import (
    AccessControlList,
    AccessRule,
    AppliesTo,
    ConnectionRoute,
    CustomerRoute,
    Host,
    LookupRecord,
    NetworkConnection,
    Policy,
    ProviderAddress,
    RoutingDomain,
    VirtualSubnet,
)
from tests.worlds import places

SUBNETS = (
    "10.1.1.0/24",
    "10.1.2.0/24",
    "10.1.6.0/24",
    "10.2.0.0/16",
    "10.3.0.16/28",
    "fd00:1::/64",
    "fd00:6::/64",
    "fd00:7::/120",
)
ROUTED = (
    "172.16.0.0/12",
    "172.16.5.0/24",
    "0.0.0.0/0",
    "10.9.0.0/16",
    "10.1.1.128/25",
    "10.1.1.77/32",
    "10.2.3.0/24",
    "fd00:ff::/48",
    "fd00:ff::8/125",
    "fd00:1::7:0/112",
    "::/0",
)
LOCAL_ADDRESSES = ("157.1.0.254/16", "157.1.9.9/24", "198.51.100.1/30", "fd00:157::fe/64", "fd00:158::1/64")
MTUS = (1500, 1550, 1600, 3000)


def family(text: str) -> int:
    return 6 if ":" in text else 4


class _Shared:
    """What domains must not take twice."""

    def __init__(self, random: Random) -> None:
        self.attachments = random.sample(places.ATTACHMENTS, len(places.ATTACHMENTS))
        self.rewritten = list(places.REWRITTEN_ADDRESSES)
        self.own_rewritten = list(places.OWN_REWRITTEN)
        self.vsid = 4096

    def next_vsid(self, random: Random) -> int:
        self.vsid += random.randint(1, 900)
        return self.vsid

    def take_rewritten(self, version: int, *, own: bool) -> str | None:
        pool = self.own_rewritten if own else self.rewritten
        address = next((one for one in pool if family(one) == version), None)
        if address is not None:
            pool.remove(address)
        return address


def random_world(random: Random) -> World:
    """A gateway with one to four routing domains, some of its neighbours and ways on the provider network known."""
    shared = _Shared(random)
    domains = tuple(_domain(random, number, shared) for number in range(random.randint(1, 4)))
    policy = Policy(hosts=_hosts(random), routing_domains=domains)
    interfaces = places.interfaces(random.choice(MTUS), random.choice((1400, 1500, 1550)))
    world = World(
        policy,
        places.PORTS,
        places.ROUTER_MAC,
        interfaces,
        _underlay(random, policy, interfaces["p0"].mtu),
        dscp=random.choice(("uniform", "pipe")),
    )
    for domain in domains:
        _know_neighbours(random, world, domain)
    return world


def _hosts(random: Random) -> tuple[Host, ...]:
    pairs = zip(places.HOST_ADDRESSES, places.SECOND_HOST_ADDRESSES, strict=True)
    return tuple(
        Host(
            id=f"host{number}",
            provider_addresses=tuple(ProviderAddress(one, 64 if ":" in one else 24) for one in pair),
        )
        for number, pair in enumerate(pairs)
        if random.random() < 0.6
    )


def _underlay(random: Random, policy: Policy, mtu: int) -> dict[str, UnderlayHop | None]:
    addresses = {record.provider_address for domain in policy.routing_domains for record in domain.lookup_records}
    underlay: dict[str, UnderlayHop | None] = {}
    for address in sorted(addresses - set(places.OWN_REWRITTEN)):
        interface = random.choice(("p0", "p0", "p1")) if family(address) == 4 else "p0"
        underlay[address] = places.hop(address, min(mtu, random.choice(MTUS)), interface)
        if random.random() < 0.08:
            underlay[address] = None
    return underlay


def _domain(random: Random, number: int, shared: _Shared) -> RoutingDomain:
    subnets = tuple(_subnets(random, shared))
    records = tuple(_records(random, subnets, shared))
    addresses = [record.customer_address for record in records if record.type in ("static", "dynamic")]
    connections = tuple(_connections(random, number, shared, subnets))
    return RoutingDomain(
        id=f"11111111-2222-3333-4444-{number:012d}",
        name=f"domain{number}",
        virtual_subnets=subnets,
        lookup_records=records,
        customer_routes=tuple(_customer_routes(random, subnets, addresses)),
        network_connections=connections,
        access_control_lists=tuple(_access_lists(random, subnets, addresses)) if random.random() < 0.5 else (),
    )


def _subnets(random: Random, shared: _Shared) -> Iterator[VirtualSubnet]:
    prefixes = random.sample(SUBNETS, random.randint(2, len(SUBNETS)))
    while prefixes:
        own = tuple(prefixes.pop() for _ in range(min(len(prefixes), random.randint(1, 3))))
        overridden = tuple(str(ip_network(prefix)[9]) for prefix in own if random.random() < 0.2)
        yield VirtualSubnet(vsid=shared.next_vsid(random), prefixes=own, gateways=overridden)


def _records(random: Random, subnets: tuple[VirtualSubnet, ...], shared: _Shared) -> Iterator[LookupRecord]:
    for subnet in subnets:
        for index, prefix in enumerate(subnet.prefixes):
            # The tenth address is a router address in some subnets: a record there is legal and changes its MAC.
            for offset in random.sample((2, 3, 5, 7, 9, 11, 12), random.randint(0, 5)):
                address = str(ip_network(prefix)[offset])
                yield _record(
                    random, subnet, address, f"02-{subnet.vsid % 251:02X}-00-00-{index:02X}-{offset:02X}", shared
                )
        yield from _without_address(random, subnet)


def _record(random: Random, subnet: VirtualSubnet, address: str, mac: str, shared: _Shared) -> LookupRecord:
    provider_address = None
    if random.random() < 0.15 and address not in subnet.router_addresses().values():
        provider_address = shared.take_rewritten(family(address), own=random.random() < 0.4)
    return LookupRecord(
        vsid=subnet.vsid,
        customer_address=address,
        mac=mac,
        provider_address=provider_address or random.choice(places.HOST_ADDRESSES),
        encapsulation="rewrite" if provider_address else random.choice(("vxlan", "nvgre")),
        type=random.choice(("static", "dynamic")),
    )


def _without_address(random: Random, subnet: VirtualSubnet) -> Iterator[LookupRecord]:
    for address in ("0.0.0.0", "::"):
        if random.random() < 0.3:
            yield LookupRecord(
                vsid=subnet.vsid,
                customer_address=address,
                mac=f"02-{subnet.vsid % 251:02X}-00-00-EE-{family(address):02X}",
                provider_address=random.choice(places.HOST_ADDRESSES),
                encapsulation=random.choice(("vxlan", "nvgre")),
                type=random.choice(("gateway_wildcard", "gateway_wildcard", "l2only")),
            )


def _customer_routes(
    random: Random, subnets: tuple[VirtualSubnet, ...], addresses: list[str]
) -> Iterator[CustomerRoute]:
    for prefix in random.sample(ROUTED, random.randint(0, 6)):
        candidates = [address for address in addresses if family(address) == family(prefix)]
        for next_hop in random.sample(candidates, min(len(candidates), random.choice((1, 1, 2, 3)))):
            yield CustomerRoute(prefix=prefix, next_hop=next_hop, metric=random.choice((0, 0, 10)))
    for subnet in subnets:
        if random.random() < 0.3:
            prefix = random.choice(subnet.prefixes)
            inside = random.choice((prefix, str(next(ip_network(prefix).subnets(2)))))
            yield CustomerRoute(prefix=inside, vsid=random.choice((subnet.vsid, None)))


def _connections(
    random: Random, number: int, shared: _Shared, subnets: tuple[VirtualSubnet, ...]
) -> Iterator[NetworkConnection]:
    local = random.sample(LOCAL_ADDRESSES, len(LOCAL_ADDRESSES))
    for index in range(random.choice((0, 1, 1, 2, 2))):
        if not shared.attachments:
            return
        port, vlan = shared.attachments.pop()
        own = tuple(local.pop() for _ in range(random.choice((1, 2))))
        yield NetworkConnection(
            name=f"connection{number}-{index}",
            port=port,
            vlan=vlan,
            local_addresses=own,
            routes=tuple(_connection_routes(random, own)),
        )


def _connection_routes(random: Random, local: tuple[str, ...]) -> Iterator[ConnectionRoute]:
    if random.random() < 0.5:
        yield ConnectionRoute(prefix=str(ip_network(local[0], strict=False)))
    for prefix in random.sample(ROUTED, random.randint(0, 5)):
        of_family = [one for one in local if family(one) == family(prefix)]
        if of_family:
            network = ip_network(random.choice(of_family), strict=False)
            routers = [str(network[n]) for n in (2, 3) if f"{network[n]}/{network.prefixlen}" not in local]
            for next_hop in random.sample([*routers, None], random.choice((1, 1, 2))):
                yield ConnectionRoute(prefix=prefix, next_hop=next_hop, metric=random.choice((0, 0, 10)))


def _access_lists(
    random: Random, subnets: tuple[VirtualSubnet, ...], addresses: list[str]
) -> Iterator[AccessControlList]:
    targets = [AppliesTo(vsid=subnet.vsid) for subnet in subnets]
    targets += [AppliesTo(customer_address=address) for address in addresses]
    random.shuffle(targets)
    for number in range(random.randint(1, 3)):
        own = tuple(targets.pop() for _ in range(min(len(targets), random.randint(1, 3))))
        yield AccessControlList(
            name=f"list{number}",
            applies_to=own,
            default_inbound=random.choice(("allow", "deny")),
            default_outbound=random.choice(("allow", "allow", "deny")),
            rules=tuple(_rules(random)),
        )


def _rules(random: Random) -> Iterator[AccessRule]:
    for priority in random.sample(range(1000), random.randint(0, 8)):
        version = random.choice((4, 4, 6))
        prefixes: list[str | None] = [one for one in (*SUBNETS, *ROUTED, "157.1.0.0/16") if family(one) == version]
        protocol = random.choice((None, None, "tcp", "udp", "icmp" if version == 4 else "icmpv6", 132))
        with_ports = protocol in (None, "tcp", "udp")
        yield AccessRule(
            priority=priority,
            direction=random.choice(("inbound", "outbound")),
            action=random.choice(("allow", "allow", "deny")),
            protocol=protocol,
            source_prefix=random.choice((None, None, random.choice(prefixes))),
            destination_prefix=random.choice((None, None, random.choice(prefixes))),
            source_ports=random.choice((None, None, "1024-65535")) if with_ports else None,
            destination_ports=random.choice((None, None, "80,443,8080-8089", "53")) if with_ports else None,
        )


def _know_neighbours(random: Random, world: World, domain: RoutingDomain) -> None:
    ports = {port.name: port for port in places.PORTS}
    for connection in domain.network_connections:
        port = ports[connection.port]
        for address in connection.local_addresses:
            network = ip_network(address, strict=False)
            for offset in (2, 3):
                if random.random() < 0.8:
                    key = (port.interface, connection.vlan or port.vlan, str(network[offset]))
                    world.neighbours[key] = f"02-00-00-00-DD-{offset:02X}"
