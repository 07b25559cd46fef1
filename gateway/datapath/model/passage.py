"""One frame on its way: what the layers share about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.datapath.model.balancing import Numbers
from gateway.datapath.model.compartments import Steering, TunnelStates
from gateway.datapath.model.connections import Connections
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ethernet import Frame
from gateway.datapath.model.ip import Address, Packet
from gateway.datapath.model.surroundings import Attachment, Interface, Surroundings
from gateway.datapath.model.translation import Translations
from gateway.datapath.model.tunnels import Tunnel
from gateway.datapath.model.verdict import Step

Sharers = Mapping[Address, tuple[tuple[Domain, int], ...]]  # each with its blocks of ports, as bits


@dataclass(frozen=True, slots=True)
class Allowance:
    """How often the gateway does something by itself for one domain."""

    per_second: int
    at_once: int


ANSWERS = Allowance(1000, 1000)
FRAGMENTS = Allowance(4000, 1000)  # to be put in order


@dataclass(slots=True)
class Budget:
    """What is left of a domain's allowance."""

    allowance: Allowance
    refilled: float
    tokens: float

    def take(self, now: float) -> bool:
        earned = (now - self.refilled) * self.allowance.per_second
        self.tokens = min(self.allowance.at_once, self.tokens + earned)
        self.refilled = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(frozen=True, slots=True)
class Arrival:
    """How fragments arrived that went to be put in order; `by_internet`: not in the domain that they are for."""

    vsid: int | None
    tunnel: Tunnel | None
    by_internet: bool
    limit: int


@dataclass(slots=True)
class State:
    """What the datapath has learned: neighbours by (interface, VLAN, address), connections, and what is spent.

    `member_numbers` are those by which translations remember the members of pools. `arrivals`, with the time of the
    latest: of fragments that went to be put in order, by RDID, source and destination.
    """

    neighbours: dict[tuple[str, int, str], str] = field(default_factory=dict)
    connections: Connections = field(default_factory=Connections)
    translations: Translations = field(default_factory=Translations)
    member_numbers: Numbers = field(default_factory=dict)
    arrivals: dict[tuple[str, Address, Address], tuple[float, Arrival]] = field(default_factory=dict)
    budgets: dict[tuple[str, Allowance], Budget] = field(default_factory=dict)


@dataclass(slots=True)
class Passage:
    """A frame that came in on `interface`, and what is noted about it on the way. `now` is in seconds.

    `internet` is the domain behind the ports with addresses; `owners` tells whose a public address is, `sharers` who
    have which of its ports where several do, `steering` to whom peers belong, `tunnels` how a domain's tunnel fares.
    """

    surroundings: Surroundings
    domains: tuple[Domain, ...]
    internet: Domain | None
    owners: Mapping[Address, Domain]
    sharers: Sharers
    steering: Steering
    tunnels: TunnelStates
    state: State
    assume_neighbours: bool
    now: float
    interface: Interface
    attachment: Attachment
    frame: Frame
    steps: list[Step]
    domain: Domain | None = None

    def note(self, layer: str, entry: str, words: str) -> None:
        self.steps.append(Step(layer, entry, words))

    def is_public(self, address: Address) -> bool:
        """Whether the gateway has the address in the Internet, besides the router's own there."""
        return address in self.owners or address in self.sharers or address in self.steering

    def may_answer(self, domain: Domain) -> bool:
        """Take one answer from the domain's budget."""
        return self.may_spend(ANSWERS, domain)

    def may_spend(self, allowance: Allowance, domain: Domain) -> bool:
        full = Budget(allowance, self.now, allowance.at_once)
        return self.state.budgets.setdefault((domain.id, allowance), full).take(self.now)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an admitted packet came from.

    `vsid` is None for an external origin; `source_mac` is the inner one; `tunnel` is None unless it came encapsulated.
    `limit` is the longest IP packet that fits the way back. A rewritten packet's sender is never answered. What left
    for a public address of the gateway's own, and so came in there, has `turned`: where from and what it was before.
    """

    domain: Domain
    vsid: int | None
    source_mac: bytes
    tunnel: Tunnel | None
    limit: int
    turned: "tuple[Origin, Packet] | None" = None

    def as_it_came(self, packet: Packet) -> "tuple[Origin, Packet]":
        """What the sender is told about, and where it is."""
        return self.turned or (self, packet)

    @property
    def is_overlay(self) -> bool:
        return self.vsid is not None

    @property
    def is_rewrite(self) -> bool:
        return self.is_overlay and self.tunnel is None
