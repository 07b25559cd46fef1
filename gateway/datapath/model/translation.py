"""What is remembered of translated connections: the member chosen, and the port that stands for the client's."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.datapath.model.balancing import Member, PoolKey, Rule, Services
from gateway.datapath.model.connections import FIN, FRAGMENT_SECONDS, RST, TCP_CLOSING_SECONDS, TCP_HALF_OPEN_SECONDS
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ip import ICMP, ICMPV6, TCP, UDP, Address, Packet
from gateway.datapath.model.lending import Outbound
from gateway.datapath.model.rewriting import Between, End
from gateway.datapath.model.routes import Prefix
from gateway.policy.lending import ALL_BLOCKS

OUTBOUND_SECONDS = {TCP: 7200, UDP: 180, ICMP: 60, ICMPV6: 60}
OUTBOUND = 0  # in place of a protocol
NAT_BLOCKS = 15
NAT_PORTS_NEAR = 16
NAT_PORT_LOW = 0xFFF

_WORD = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Key:
    """Whose connection it is, by its first packet: to which port of a frontend, or (outbound) from which VSID by it.

    Outbound connections are told apart by `remote`, a hash of the end outside; `customers` are as in `Outbound`.
    """

    domain: str
    client: End
    protocol: int
    frontend: Address
    port_or_vsid: int
    remote: int
    customers: tuple[Prefix, ...] = ()


@dataclass(slots=True)
class Translation:
    """A connection. `member` is the chosen one's pool and number, None for outbound; `nat_port` 0 means none."""

    key: Key
    member: tuple[PoolKey, int] | None
    nat_port: int
    established_seconds: int
    seen: float
    answered: bool = False
    closing: bool = False

    def is_live(self, now: float) -> bool:
        return now - self.seen <= self._idle_seconds

    @property
    def way(self) -> "Way":
        """What packets to its client are translated by."""
        if self.member is None:
            key = self.key
            return Way(key.frontend, OUTBOUND, key.port_or_vsid, customers=key.customers, nat_port=self.nat_port)
        return Way(self.key.frontend, self.key.protocol, self.key.port_or_vsid, self.member[0])

    @property
    def _idle_seconds(self) -> int:
        if self.key.protocol != TCP or (self.answered and not self.closing):
            return self.established_seconds
        return TCP_CLOSING_SECONDS if self.closing else TCP_HALF_OPEN_SECONDS

    def is_direct_to(self, member: Member) -> bool:
        """Whether the member's answers go to the client's own address."""
        return self.member == (member.pool, member.number) and not self.nat_port

    def touch(self, packet: Packet, now: float, *, is_answer: bool) -> None:
        self.seen = now
        self.answered |= is_answer
        self.closing |= bool(packet.tcp_flags & (FIN | RST))


@dataclass(frozen=True, slots=True)
class Way:
    """What a packet is translated by: a port of a frontend that leads to a pool, or `OUTBOUND` by it a VSID.

    `member` is the number of the one in the pool that it goes to, None for packets to clients. `nat_port`: the lent
    port that it came to, 0: none.
    """

    frontend: Address
    protocol: int
    port_or_vsid: int
    pool: PoolKey = ()
    member: int | None = None
    customers: tuple[Prefix, ...] = ()
    nat_port: int = 0

    def stands(self, services: Services) -> bool:
        """Whether later fragments can go the same way."""
        if self.protocol == OUTBOUND:
            outbound = services.outbound_by(self.frontend, self.port_or_vsid, self.customers)
            return outbound is not None and (not self.nat_port or outbound.lends(self.nat_port))
        rule = services.rules.get((self.frontend, self.protocol, self.port_or_vsid))
        if rule is None or rule.pool.key != self.pool:
            return False
        return self.member is None or any(one.number == self.member for one in rule.pool.members)


@dataclass(frozen=True, slots=True)
class View:
    """A packet's ends as routes and lists see them, whose routes hold, and the entry of the policy that says so."""

    entry: str
    ends: Between
    by_internet: bool = False


def _without_ports(ends: Between) -> Between:
    return End(ends[0].address, 0), End(ends[1].address, 0)


FragmentKey = tuple[str, Address, Address, int, int]


@dataclass(frozen=True, slots=True)
class Followed:
    """What later fragments have to do as their first one did."""

    way: Way
    view: View
    sent: Between


@dataclass(frozen=True, slots=True)
class First:
    """What became of a first fragment, and when; `followed` is None where it was none of a rule's."""

    seen: float
    followed: Followed | None


@dataclass(slots=True)
class Translations:
    """Of all domains, by key; and what became of first fragments."""

    entries: dict[Key, Translation] = field(default_factory=dict)
    fragments: dict[FragmentKey, First] = field(default_factory=dict)

    def live(self, key: Key, now: float) -> Translation | None:
        entry = self.entries.get(key)
        return entry if entry is not None and entry.is_live(now) else None

    def by_nat_port(self, domain: Domain, version: int, protocol: int, port: int, now: float) -> Translation | None:
        """The live connection that has this port; of those of a domain with the same protocol there is but one."""
        return next((one for one in self._with_ports(domain, version, protocol, now) if one.nat_port == port), None)

    def _with_ports(self, domain: Domain, version: int, protocol: int, now: float) -> Iterator[Translation]:
        for key, entry in self.entries.items():
            is_like = (key.domain, key.client.address.version, key.protocol) == (domain.id, version, protocol)
            if is_like and entry.nat_port and entry.is_live(now):
                yield entry

    def free_port(self, domain: Domain, key: Key, now: float, blocks: int = ALL_BLOCKS) -> int | None:
        """A port for the connection: the first of a few, by its client's hash, that nobody has."""
        version, protocol = key.client.address.version, key.protocol
        taken = {one.nat_port for one in self._with_ports(domain, version, protocol, now) if one.key != key}
        for port in ports_for(key.client, protocol, blocks):
            if port not in taken and (key.frontend, protocol, port) not in domain.services.rules:
                return port
        return None

    def remember_first(self, domain: Domain, packet: Packet, way: Way, view: View, sent: Between, now: float) -> None:
        without_ports = View(view.entry, _without_ports(view.ends), view.by_internet)
        followed = Followed(way, without_ports, _without_ports(sent))
        self.fragments[_fragment_key(domain, packet)] = First(now, followed)

    def remember_ordinary_first(self, domain: Domain, packet: Packet, now: float) -> None:
        self.fragments[_fragment_key(domain, packet)] = First(now, None)

    def forget_first(self, domain: Domain, packet: Packet) -> None:
        self.fragments.pop(_fragment_key(domain, packet), None)

    def first_of(self, domain: Domain, packet: Packet, now: float) -> First | None:
        """What became of the first fragment of the packet that this is a later one of, None if it was not seen."""
        found = self.fragments.get(_fragment_key(domain, packet))
        return found if found is not None and now - found.seen <= FRAGMENT_SECONDS else None


def _fragment_key(domain: Domain, packet: Packet) -> FragmentKey:
    return domain.id, packet.source, packet.destination, packet.protocol, packet.identification


def balanced_key(domain: Domain, rule: Rule, client: End) -> Key:
    return Key(domain.id, client, rule.protocol, rule.frontend.address, rule.port, 0)


def outbound_key(domain: Domain, outbound: Outbound, client: End, protocol: int, remote: End) -> Key:
    hashed = remote_hash(remote, protocol)
    return Key(domain.id, client, protocol, outbound.address, outbound.vsid, hashed, outbound.customers)


def way_by(rule: Rule, member: Member | None = None) -> Way:
    """By a rule, to a member of its pool or (None) from one to a client."""
    number = member.number if member else None
    return Way(rule.frontend.address, rule.protocol, rule.port, rule.pool.key, number)


def remembered_member(rule: Rule, entry: Translation) -> Member | None:
    """The member that a connection of the rule was given to, if it is still in the rule's pool."""
    return next((one for one in rule.pool.members if (one.pool, one.number) == entry.member), None)


def ports_for(client: End, protocol: int, blocks: int = ALL_BLOCKS) -> Iterator[int]:
    """The ports that may stand for the client's, the first choice first: 32 of each block."""
    hashed = client_hash(client, protocol)
    for low in (hashed & NAT_PORT_LOW, hashed >> 16 & NAT_PORT_LOW):
        for near in range(NAT_PORTS_NEAR):
            for turn in range(NAT_BLOCKS):
                block = 1 + ((hashed >> 24 & 15) + turn) % NAT_BLOCKS
                if blocks >> block & 1:
                    yield low & ~(NAT_PORTS_NEAR - 1) | (low + near) % NAT_PORTS_NEAR | block << 12


def client_hash(client: End, protocol: int) -> int:
    port = _swapped(client.port)
    return _mixed(_folded(client.address) ^ _mixed((port * 0x9E3779B1 + protocol) & _WORD))


def remote_hash(remote: End, protocol: int) -> int:
    """16 bits, the highest four of the address alone. Echoes to one address share them: their id is the client's."""
    port = 0 if protocol in (ICMP, ICMPV6) else _swapped(remote.port)
    address = _folded(remote.address)
    return _mixed(address) & 0xF000 | _mixed(address ^ port) & 0x0FFF


def _swapped(port: int) -> int:
    """The port's two bytes as they lie in a packet, read by the machine (x86 and arm64: the low byte first)."""
    return int.from_bytes(port.to_bytes(2, "big"), "little")


def _folded(address: Address) -> int:
    words = [int.from_bytes(address.packed[at : at + 4], "little") for at in range(0, len(address.packed), 4)]
    folded = 0
    for i, word in enumerate(words, 4 - len(words)):  # an IPv4 address is the last of four words
        folded ^= (word << 9 * i | word >> (32 - 9 * i)) & _WORD
    return folded


def _mixed(h: int) -> int:
    h ^= h >> 16
    h = h * 0x7FEB352D & _WORD
    h ^= h >> 15
    h = h * 0x846CA68B & _WORD
    return h ^ h >> 16
