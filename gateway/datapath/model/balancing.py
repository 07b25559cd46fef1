"""Frontends and the rules on them, pools and who in them takes a connection; nothing here remembers anything."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from gateway.datapath.model import lending
from gateway.datapath.model.flow import hash_of, ports_of
from gateway.datapath.model.ip import TCP, UDP, Address, Packet
from gateway.datapath.model.lending import Outbound, lender_to
from gateway.datapath.model.routes import Prefix
from gateway.policy.balancing import BalancingRule, InboundNatRule, LoadBalancer
from gateway.policy.lending import shared_addresses
from gateway.policy.model import RoutingDomain
from lb import maglev
from lb.pools import Choice, MemberNumbers, MemberState, PoolState, pool_states

PROTOCOLS = {"tcp": TCP, "udp": UDP}
INBOUND_NAT_SECONDS = 240

PoolKey = tuple[str, ...]
Numbers = dict[PoolKey, MemberNumbers]
Pools = Mapping[Choice, "Pool"]


@dataclass(frozen=True, slots=True)
class Member:
    """A machine in a pool; connections remember it by its pool and number, so that a successor is another one."""

    pool: PoolKey
    number: int
    address: Address
    state: str

    @property
    def keeps_connections(self) -> bool:
        return self.state in ("active", "draining")


@dataclass(frozen=True, slots=True)
class Pool:
    """The members as one probe sees them, in the order of the policy. `state` is None for an inbound NAT rule's own."""

    entry: str
    key: PoolKey
    members: tuple[Member, ...]
    state: PoolState | None = None

    def choose(self, chosen_hash: int) -> tuple[int, Member] | None:
        """The slot and who serves it, None where nobody takes new connections."""
        if self.state is None:
            return 0, self.members[0]
        slots = _slots(self.state)
        if slots is None:
            return None
        slot = chosen_hash * len(slots) >> 32
        return slot, self.members[slots[slot]]


@lru_cache(maxsize=256)
def _slots(state: PoolState) -> maglev.Slots | None:
    return state.slots()


@dataclass(frozen=True, slots=True)
class Frontend:
    """An address of the gateway's for a routing domain.

    `blocks`: the ports that are the domain's where other domains may have others, 0: all of the address is.
    """

    entry: str
    name: str
    address: Address
    is_public: bool
    vsid: int | None
    blocks: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A port of a frontend and the pool that serves it. `entry` is that of the balancing or inbound NAT rule."""

    entry: str
    name: str
    frontend: Frontend
    protocol: int
    port: int
    member_port: int
    distribution: str
    idle_seconds: int
    is_floating: bool
    pool: Pool

    def hash(self, packet: Packet) -> int:
        """Of a client's packet as it came, by as much of its tuple as the rule looks at."""
        ports = ports_of(packet) if self.distribution == "five_tuple" else 0
        return hash_of(packet, ports, 0 if self.distribution == "two_tuple" else packet.protocol)


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """A public address that belongs to one machine alone; or to a frontend itself, as whose members may send."""

    entry: str
    address: Address
    customer_address: Address


@dataclass(frozen=True, slots=True)
class Services:
    """All of a routing domain. `rules` are by frontend address, protocol and port, in the order of the policy.

    `senders` are by the address that sends: of machines with a public address, and public ones that packets keep.
    """

    frontends: Mapping[Address, Frontend]
    rules: Mapping[tuple[Address, int, int], Rule]
    public: Mapping[Address, PublicAddress]
    senders: Mapping[Address, PublicAddress]
    outbound: tuple[Outbound, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.frontends or self.public)

    def public_addresses(self) -> Iterator[tuple[Address, int]]:
        """The addresses at which the domain is reached from the Internet, with the blocks of ports that are its."""
        yield from ((address, 0) for address in self.public)
        yield from ((one.address, one.blocks) for one in self.frontends.values() if one.is_public)

    def leads_to(self, address: Address, protocol: int) -> bool:
        """Whether some rule for this protocol leads to the machine."""
        rules = (rule for rule in self.rules.values() if rule.protocol == protocol)
        return any(member.address == address for rule in rules for member in rule.pool.members)

    def translates(self, address: Address) -> bool:
        """Whether anything may become of what this address sends."""
        return address in self.senders or self.leads_to(address, TCP) or self.leads_to(address, UDP)

    def internal(self) -> frozenset[Address]:
        """The frontends' addresses inside the domain."""
        return frozenset(one.address for one in self.frontends.values() if not one.is_public)

    def outbound_of(self, vsid: int | None, machine: Address) -> Outbound | None:
        """By what a machine of a virtual subnet reaches the Internet."""
        return lender_to(self.outbound, vsid, machine)

    def outbound_by(self, address: Address, vsid: int, customers: tuple[Prefix, ...]) -> Outbound | None:
        """The outbound NAT for these machines from this address, if it is still there."""
        alike = (one for one in self.outbound if (one.address, one.vsid, one.customers) == (address, vsid, customers))
        return next(alike, None)

    def rules_of_member(self, address: Address, protocol: int, port: int) -> Iterator[tuple[Rule, Member]]:
        """The rules that may have led somebody to a port of this machine, whatever its state, and its membership."""
        for rule in self.rules.values():
            if (rule.protocol, rule.member_port) == (protocol, port):
                yield from ((rule, member) for member in rule.pool.members if member.address == address)


def build(entry: str, domain: RoutingDomain, states: Mapping[Choice, PoolState], numbers: Numbers) -> Services:
    """The services of a domain. `numbers` are all domains' numbers of members, and follow the policy."""
    frontends: dict[Address, Frontend] = {}
    rules: list[Rule] = []
    outbound: list[Outbound] = []
    shared = shared_addresses(domain)
    for index, balancer in enumerate(domain.load_balancers):
        at = f"{entry}/load_balancers/{index}"
        named = {frontend.name: frontend for frontend in _frontends(at, balancer, shared)}
        pools = _pools(at, (domain.id, balancer.name), balancer, states, numbers)
        frontends |= {frontend.address: frontend for frontend in named.values()}
        rules += [_balancing(f"{at}/rules/{i}", rule, named, pools) for i, rule in enumerate(balancer.rules)]
        rules += [
            _inbound_nat(f"{at}/inbound_nat_rules/{i}", rule, named, (domain.id, balancer.name))
            for i, rule in enumerate(balancer.inbound_nat_rules)
        ]
        outbound += lending.build(at, balancer)
    public = [
        PublicAddress(f"{entry}/public_addresses/{i}", ip_address(one.address), ip_address(one.customer_address))
        for i, one in enumerate(domain.public_addresses)
    ]
    floating = (rule.frontend for rule in rules if rule.is_floating and rule.frontend.is_public)
    senders = [PublicAddress(one.entry, one.address, one.address) for one in floating]
    return Services(
        frontends=frontends,
        rules={(rule.frontend.address, rule.protocol, rule.port): rule for rule in rules},
        public={one.address: one for one in public},
        senders={one.customer_address: one for one in (*public, *senders)},
        outbound=tuple(outbound),
    )


def _frontends(at: str, balancer: LoadBalancer, shared: Mapping[str, int]) -> Iterable[Frontend]:
    for index, frontend in enumerate(balancer.frontends):
        blocks, address = shared.get(frontend.address, 0), ip_address(frontend.address)
        yield Frontend(f"{at}/frontends/{index}", frontend.name, address, frontend.public, frontend.vsid, blocks)


def _pools(
    at: str, of: PoolKey, balancer: LoadBalancer, states: Mapping[Choice, PoolState], numbers: Numbers
) -> dict[tuple[str, str | None], Pool]:
    assigned = {}
    for pool in balancer.backend_pools:
        addresses = [member.customer_address for member in pool.members]
        at_first = MemberNumbers({address: i for i, address in enumerate(addresses, 1)})
        assigned[pool.name] = numbers.setdefault((*of, pool.name), at_first).assign(addresses)
    positions = {pool.name: index for index, pool in enumerate(balancer.backend_pools)}
    found = {}
    for choice, state in states.items():
        if choice.load_balancer == balancer.name:
            key = (*of, choice.pool)
            members = tuple(_member(key, assigned[choice.pool], member) for member in state.members)
            entry = f"{at}/backend_pools/{positions[choice.pool]}"
            found[choice.pool, choice.probe] = Pool(entry, key, members, state)
    return found


def _member(pool: PoolKey, numbers: Mapping[str, int], member: MemberState) -> Member:
    return Member(pool, numbers[member.customer_address], ip_address(member.customer_address), member.state)


def _balancing(
    entry: str, rule: BalancingRule, named: Mapping[str, Frontend], pools: Mapping[tuple[str, str | None], Pool]
) -> Rule:
    return Rule(
        entry=entry,
        name=rule.name,
        frontend=named[rule.frontend],
        protocol=PROTOCOLS[rule.protocol],
        port=rule.port,
        member_port=rule.destination_port(),
        distribution=rule.distribution,
        idle_seconds=rule.idle_timeout_s,
        is_floating=rule.floating_ip,
        pool=pools[rule.pool, rule.probe],
    )


def _inbound_nat(entry: str, rule: InboundNatRule, named: Mapping[str, Frontend], of: PoolKey) -> Rule:
    key = (*of, "inbound NAT", rule.customer_address)
    machine = Member(key, 1, ip_address(rule.customer_address), "active")
    return Rule(
        entry=entry,
        name=rule.name,
        frontend=named[rule.frontend],
        protocol=PROTOCOLS[rule.protocol],
        port=rule.port,
        member_port=rule.destination_port(),
        distribution="five_tuple",
        idle_seconds=INBOUND_NAT_SECONDS,
        is_floating=False,
        pool=Pool(entry, key, (machine,)),
    )


def healthy(domain: RoutingDomain) -> dict[Choice, PoolState]:
    """The state of every pool where all members are healthy."""
    return pool_states(domain, health={})
