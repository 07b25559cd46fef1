"""Load balancers, public addresses and an Internet made up at random, for worlds that have none."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_network
from random import Random
from typing import Literal

from gateway.compartments.specification import Compartment, CompartmentSpecification, Leg
from gateway.configuration import Port
from gateway.datapath.model.world import Interface, World
from gateway.policy.lending import blocks_of, ports_of
from gateway.policy.model import (
    BackendPool,
    BalancingRule,
    Frontend,
    InboundNatRule,
    LoadBalancer,
    OutboundNat,
    Policy,
    PoolMember,
    PublicAddress,
    RoutingDomain,
    VirtualSubnet,
)
from tests.worlds import places
from tests.worlds.random_worlds import family, random_world

Transport = Literal["tcp", "udp"]

INTERNET_PORTS = (
    Port(
        name="internet",
        role="external",
        interface="i0",
        addresses=("203.0.113.1/24", "2001:db8:113::1/64"),
        gateways=("203.0.113.254", "2001:db8:113::fe"),
    ),
    Port(name="exchange", role="external", interface="x1", vlan=40, addresses=("192.0.2.1/24",)),
)
INTERNET_INTERFACE = Interface("i0", "02-00-00-00-01-01", 1500)
NEIGHBOURS = (("i0", 0, "203.0.113.254"), ("i0", 0, "2001:db8:113::fe"), ("x1", 40, "192.0.2.9"))
PUBLIC = (*(f"203.0.113.{n}" for n in range(10, 40)), *(f"192.0.2.{n}" for n in range(10, 30)))
PUBLIC6 = tuple(f"2001:db8:113::{n:x}" for n in range(16, 48))

# Those of random packets, so that most of them are for some rule; each once, so that an answer tells its rule.
MEMBER_PORTS = {"tcp": (80, 443, 8085, 53), "udp": (53, 80, 443, 1024)}
FRONTEND_PORTS = {"tcp": (80, 80, 443, 53), "udp": (53, 53, 80, 443)}


def interfaces() -> dict[str, Interface]:
    return {**places.interfaces(), "i0": INTERNET_INTERFACE}


def random_balanced_world(random: Random) -> World:
    """A random world where most routing domains have services."""
    world = random_world(random)
    addresses = {4: random.sample(PUBLIC, len(PUBLIC)), 6: random.sample(PUBLIC6, len(PUBLIC6))}
    shared = [addresses[version].pop() for version in (4, 6)]
    domains = tuple(
        with_shared_addresses(random, with_services(random, domain, addresses), shared, blocks)
        if random.random() < 0.9
        else domain
        for domain, blocks in _dealt(random, world.policy.routing_domains)
    )
    balanced = World(
        replace(world.policy, routing_domains=domains),
        (*places.PORTS, *INTERNET_PORTS),
        places.ROUTER_MAC,
        {**world.interfaces, "i0": INTERNET_INTERFACE},
        world.underlay,
        dscp=world.dscp,
        compartments=dict(_for_fragments(random, domains)),
    )
    balanced.neighbours.update(world.neighbours)
    for key in NEIGHBOURS:
        if random.random() < 0.9:
            balanced.neighbours[key] = "02-00-00-00-DD-FE"
    return balanced


def _for_fragments(random: Random, domains: Iterable[RoutingDomain]) -> Iterator[tuple[str, Compartment]]:
    """Compartments where fragments are put in order, for most domains."""
    for number, domain in enumerate(domains):
        wanted = CompartmentSpecification(domain.id, (), mtu=9216, for_fragments=True)
        leg = Leg(f"gf{number}", 0, "inside", f"02-00-00-00-F0-{number:02X}")
        if random.random() < 0.8:
            yield wanted.key, Compartment(wanted, "/run/netns/none", leg, None)


def with_services(random: Random, domain: RoutingDomain, public: dict[int, list[str]]) -> RoutingDomain:
    """The domain with a load balancer and public addresses of machines; takes from `public`, by IP family."""
    machines = {
        version: [
            record.customer_address
            for record in domain.lookup_records
            if record.type in ("static", "dynamic")
            and record.encapsulation != "rewrite"
            and family(record.customer_address) == version
            and record.customer_address not in _routers(domain)
        ]
        for version in (4, 6)
    }
    balancer = _balancer(random, domain, machines, public)
    owners = [one for version in (4, 6) for one in random.sample(machines[version], min(2, len(machines[version])))]
    return replace(
        domain,
        load_balancers=(balancer,),
        public_addresses=tuple(PublicAddress(public[family(owner)].pop(), owner) for owner in owners),
    )


def _dealt(random: Random, domains: Iterable[RoutingDomain]) -> Iterator[tuple[RoutingDomain, int]]:
    """Each domain with blocks of ports of its own, now and then with none; some blocks are nobody's."""
    left = random.sample(range(1, 16), 14)
    for domain in domains:
        count = random.choice((0, 1, 2, 4, 5))
        dealt, left = left[:count], left[count:]
        yield domain, sum(1 << block for block in dealt)


def with_shared_addresses(random: Random, domain: RoutingDomain, shared: list[str], blocks: int) -> RoutingDomain:
    """The domain with ports of addresses that others have too, for virtual subnets without outbound NAT."""
    frontends = tuple(Frontend(f"shared-{address}", address, public=True) for address in shared)
    family_of = {one.name: family(one.address) for balancer in domain.load_balancers for one in balancer.frontends}
    served = {(one.vsid, family_of[one.frontend]) for each in domain.load_balancers for one in each.outbound_nat}
    outbound = []
    for subnet in domain.virtual_subnets:
        for frontend in frontends:
            if (subnet.vsid, family(frontend.address)) not in served and blocks:
                lent, blocks = _some_blocks(random, blocks)
                outbound.append(OutboundNat(frontend.name, subnet.vsid, ports=ports_of(lent)))
    if not outbound:
        return domain
    used = tuple(one for one in frontends if one.name in {each.frontend for each in outbound})
    balancer = LoadBalancer("shared", frontends=used, outbound_nat=tuple(outbound))
    return replace(domain, load_balancers=(*domain.load_balancers, balancer))


def _some_blocks(random: Random, blocks: int) -> tuple[int, int]:
    """Blocks to lend, and those that are left."""
    numbers = [block for block in range(16) if blocks >> block & 1]
    lent = sum(1 << block for block in random.sample(numbers, random.randint(1, len(numbers))))
    return lent, blocks & ~lent


def _routers(domain: RoutingDomain) -> set[str]:
    return {address for subnet in domain.virtual_subnets for address in subnet.router_addresses().values()}


def _balancer(
    random: Random, domain: RoutingDomain, machines: dict[int, list[str]], public: dict[int, list[str]]
) -> LoadBalancer:
    frontends = tuple(_frontends(random, domain, public))
    pools = tuple(_pools(random, machines))
    ports: dict[tuple[int, str], list[int]] = {
        (version, protocol): random.sample(numbers, len(numbers))
        for version in (4, 6)
        for protocol, numbers in MEMBER_PORTS.items()
    }
    taken: set[tuple[str, str, int]] = set()
    rules = tuple(_rules(random, frontends, pools, ports, taken))
    return LoadBalancer(
        name="services",
        frontends=frontends,
        backend_pools=pools,
        rules=rules,
        inbound_nat_rules=tuple(_inbound(random, frontends, machines, ports, taken)),
        outbound_nat=tuple(_outbound(random, domain, frontends)),
    )


def _frontends(random: Random, domain: RoutingDomain, public: dict[int, list[str]]) -> Iterator[Frontend]:
    for version in (4, 4, 6):
        address = public[version].pop()
        yield Frontend(f"public-{address}", address, public=True)
    for subnet in domain.virtual_subnets:
        for prefix in subnet.prefixes:
            if random.random() < 0.7:
                address = str(ip_network(prefix)[random.choice((10, 13))])
                yield Frontend(f"tier-{address}", address, vsid=subnet.vsid)


def _pools(random: Random, machines: dict[int, list[str]]) -> Iterator[BackendPool]:
    for version in (4, 6):
        for number in range(random.choice((1, 2)) if machines[version] else 0):
            size = random.randint(1, min(4, len(machines[version])))
            members = tuple(_member(random, one) for one in random.sample(machines[version], size))
            yield BackendPool(f"pool{version}-{number}", members)


def _member(random: Random, address: str) -> PoolMember:
    state: Literal["active", "draining"] = "draining" if random.random() < 0.1 else "active"
    return PoolMember(address, weight=random.choice((1, 1, 1, 5)), state=state)


def _rules(
    random: Random,
    frontends: tuple[Frontend, ...],
    pools: tuple[BackendPool, ...],
    ports: dict[tuple[int, str], list[int]],
    taken: set[tuple[str, str, int]],
) -> Iterator[BalancingRule]:
    for number in range(10):
        frontend = random.choice(frontends)
        version = family(frontend.address)
        fitting = [pool for pool in pools if family(pool.members[0].customer_address) == version]
        protocol: Transport = random.choice(("tcp", "udp"))
        port = random.choice(FRONTEND_PORTS[protocol])
        free = ports[version, protocol]
        if not fitting or not free or (frontend.name, protocol, port) in taken:
            continue
        floating = random.random() < 0.15 and port in free
        member_port = port if floating else free[-1]
        free.remove(member_port)
        taken.add((frontend.name, protocol, port))
        yield BalancingRule(
            name=f"rule{number}",
            frontend=frontend.name,
            pool=random.choice(fitting).name,
            protocol=protocol,
            port=port,
            backend_port=None if member_port == port else member_port,
            distribution=random.choice(("five_tuple", "five_tuple", "three_tuple", "two_tuple")),
            floating_ip=floating,
        )


def _inbound(
    random: Random,
    frontends: tuple[Frontend, ...],
    machines: dict[int, list[str]],
    ports: dict[tuple[int, str], list[int]],
    taken: set[tuple[str, str, int]],
) -> Iterator[InboundNatRule]:
    for number in range(2):
        frontend = random.choice(frontends)
        version = family(frontend.address)
        protocol: Transport = random.choice(("tcp", "udp"))
        port = random.choice(FRONTEND_PORTS[protocol])
        free = ports[version, protocol]
        if free and machines[version] and (frontend.name, protocol, port) not in taken:
            taken.add((frontend.name, protocol, port))
            machine = random.choice(machines[version])
            yield InboundNatRule(f"inbound{number}", frontend.name, protocol, port, machine, free.pop())


def _outbound(random: Random, domain: RoutingDomain, frontends: tuple[Frontend, ...]) -> Iterator[OutboundNat]:
    left = {one.name: 0x0FFE for one in frontends}  # blocks that some may name, so that others have the rest
    for subnet in domain.virtual_subnets:
        for version in (4, 6):
            public = [one.name for one in frontends if one.public and family(one.address) == version]
            if random.random() < 0.35:
                yield OutboundNat(random.choice(public), subnet.vsid)
            for customers in _customers(random, domain, subnet, version):
                frontend = random.choice(public)
                if left[frontend]:
                    lent, left[frontend] = _some_blocks(random, left[frontend])
                    yield OutboundNat(frontend, subnet.vsid, (customers,), ports_of(lent))


def _customers(random: Random, domain: RoutingDomain, subnet: VirtualSubnet, version: int) -> Iterator[str]:
    """A machine of the virtual subnet or one of its prefixes, now and then."""
    machines = [
        f"{one.customer_address}/{32 if version == 4 else 128}"
        for one in domain.lookup_records
        if one.vsid == subnet.vsid and one.type == "static" and family(one.customer_address) == version
    ]
    prefixes = [one for one in subnet.prefixes if family(one) == version]
    for found in (machines, prefixes):
        if found and random.random() < 0.3:
            yield random.choice(found)


def with_other_members(random: Random, policy: Policy) -> Policy:
    """The policy with members that drain, leave, or come back to work, and with fewer ports that are lent.

    A pool keeps at least one member, and outbound NAT a block of ports.
    """
    return replace(policy, routing_domains=tuple(_changed(random, domain) for domain in policy.routing_domains))


def _changed(random: Random, domain: RoutingDomain) -> RoutingDomain:
    balancers = tuple(
        replace(
            one,
            backend_pools=tuple(_changed_pool(random, pool) for pool in one.backend_pools),
            outbound_nat=tuple(_with_other_ports(random, entry) for entry in one.outbound_nat),
        )
        for one in domain.load_balancers
    )
    return replace(domain, load_balancers=balancers)


def _changed_pool(random: Random, pool: BackendPool) -> BackendPool:
    kept = [one for one in pool.members if random.random() < 0.8] or list(pool.members[:1])
    return replace(pool, members=tuple(_member(random, one.customer_address) for one in kept))


def _with_other_ports(random: Random, entry: OutboundNat) -> OutboundNat:
    if entry.ports is None or random.random() < 0.7:
        return entry
    return replace(entry, ports=ports_of(_some_blocks(random, blocks_of(entry.ports))[0]))
