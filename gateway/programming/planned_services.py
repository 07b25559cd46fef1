"""Frontends, rules and choices by number: what a routing domain's load balancers and public addresses come to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway.policy.addresses import family
from gateway.policy.balancing import PoolMember
from gateway.policy.lending import ALL_BLOCKS
from lb.pools import Choice

OUTBOUND = 0  # in place of a protocol
OUTBOUND_IDLE_S = 7200


@dataclass(frozen=True, slots=True)
class InboundChoice:
    """The one machine of an inbound NAT rule."""

    load_balancer: str
    rule: str


Chooser: TypeAlias = Choice | InboundChoice
Origin: TypeAlias = Chooser | int  # after a restart: the number of the choice, until it is known whose it is
FrontendKey: TypeAlias = tuple[str, int]  # address; VSID, 0: public
RuleKey: TypeAlias = tuple[int, int, int]  # frontend, protocol, port; of outbound NAT: frontend, OUTBOUND, whose
Target: TypeAlias = tuple[int, int]  # routing domain, frontend
PublicAddress: TypeAlias = tuple[str, int, int]  # address, frontend; the blocks of ports that are its, 0: all of it


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is in use. `choosers`: by which choice a rule's connections found their members.

    `blocks`: what rules of outbound NAT lend.
    """

    frontends: Mapping[FrontendKey, int] = field(default_factory=dict)
    rules: Mapping[RuleKey, int] = field(default_factory=dict)
    choosers: Mapping[RuleKey, Origin] = field(default_factory=dict)
    members: Mapping[Origin, Mapping[str, int]] = field(default_factory=dict)
    blocks: Mapping[RuleKey, int] = field(default_factory=dict)


NO_NUMBERS = Numbers()


@dataclass(frozen=True, slots=True)
class PlannedFrontend:
    """An address that stands for others. `machine`: the one that has all of it.

    `blocks`: what it lends of ports, where other domains may have other ports; 0: all of the address is the domain's.
    `peers`: who is steered to which port and MAC; `own`: the address is the router's besides. `lenders`: whose ports
    are, by block.
    """

    number: int
    address: str
    vsid: int = 0
    machine: str | None = None
    blocks: int = 0
    peers: Mapping[str, tuple[int, str]] | None = None
    own: bool = False
    lenders: Mapping[int, Target] | None = None

    def is_entry(self) -> bool:
        """Tell whether its own domain's table leads to it."""
        return bool(self.vsid) or self.peers is not None or self.lenders is not None


@dataclass(frozen=True, slots=True)
class PlannedRule:
    """A rule of a frontend; `chooser` is None where machines of the virtual subnet `vsid` reach the outside by it.

    These are all, or those in the prefixes `customers`. `blocks`: the ports that it lends.
    """

    number: int
    frontend: PlannedFrontend
    chooser: Chooser | None
    protocol: int = 0
    port: int = 0
    backend_port: int = 0
    distribution: int = 0
    idle_s: int = OUTBOUND_IDLE_S
    floating: bool = False
    vsid: int = 0
    customers: tuple[str, ...] = ()
    blocks: int = ALL_BLOCKS


@dataclass(frozen=True, slots=True)
class PlannedChoice:
    """Who a rule's connections are for. `origin`: the choice whose numbers of members these were, None: nobody's."""

    members: tuple[PoolMember, ...]
    numbers: Mapping[str, int]
    origin: Origin | None


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a domain's. `new_rules`, and of other rules `new_members` (rule, member): numbers with a new meaning."""

    frontends: tuple[PlannedFrontend, ...] = ()
    rules: tuple[PlannedRule, ...] = ()
    choices: Mapping[Chooser, PlannedChoice] = field(default_factory=dict)
    numbers: Numbers = NO_NUMBERS
    new_rules: frozenset[int] = frozenset()
    new_members: frozenset[tuple[int, int]] = frozenset()

    def public(self) -> frozenset[PublicAddress]:
        """Return the addresses outside."""
        outside = (each for each in self.frontends if not each.vsid and each.lenders is None)
        return frozenset((each.address, each.number, each.blocks) for each in outside)


def outbound_rules(rules: Iterable[PlannedRule]) -> dict[tuple[int, Literal[4, 6]], dict[str, int]]:
    """Return the numbers of the rules by which virtual subnets reach the outside, by (VSID, IP family).

    They are told by the prefix of the machines that they are for, "" for those of no other.
    """
    found: dict[tuple[int, Literal[4, 6]], dict[str, int]] = {}
    for rule in rules:
        if rule.chooser is None:
            of_subnet = found.setdefault((rule.vsid, 6 if family(rule.frontend.address) == 6 else 4), {})
            of_subnet |= dict.fromkeys(rule.customers or ("",), rule.number)
    return found
