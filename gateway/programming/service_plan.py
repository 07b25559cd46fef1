"""What a routing domain's load balancers and public addresses come to: frontends, rules and choices, by number. Pure.

A connection carries the number of its rule and of its member. So a rule that leads elsewhere from now on is another
one, and a number that is given anew is told of: connections that still carry it were somebody else's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway.policy.addresses import family
from gateway.policy.balancing import BalancingRule, Frontend, InboundNatRule, LoadBalancer, PoolMember
from gateway.policy.fields import PROTOCOL_NUMBERS
from gateway.policy.model import RoutingDomain
from gateway.programming.numbering import assigned
from lb.pools import Choice

FRONTENDS = range((1 << 15) - 1)  # (number + 1) << 17 is part of a key of 32 bits
RULES = range(1, (1 << 16) - 1)  # the count of all, number 0 included, has 16 bits
MEMBERS = range(1, 1 << 16)
OUTBOUND = 0  # in place of a protocol
OUTBOUND_IDLE_S = 7200
INBOUND_IDLE_S = 240
_DISTRIBUTIONS: Mapping[str, int] = {"five_tuple": 5, "three_tuple": 3, "two_tuple": 2}


@dataclass(frozen=True, slots=True)
class InboundChoice:
    """The one machine of an inbound NAT rule."""

    load_balancer: str
    rule: str


Chooser: TypeAlias = Choice | InboundChoice
Origin: TypeAlias = Chooser | int  # after a restart: the number of the choice, until it is known whose it is
FrontendKey: TypeAlias = tuple[str, int]  # address; VSID, 0: public
RuleKey: TypeAlias = tuple[int, int, int]  # frontend, protocol, port; of outbound NAT: frontend, OUTBOUND, VSID


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is in use. `choosers`: by which choice a rule's connections found their members."""

    frontends: Mapping[FrontendKey, int] = field(default_factory=dict)
    rules: Mapping[RuleKey, int] = field(default_factory=dict)
    choosers: Mapping[RuleKey, Origin] = field(default_factory=dict)
    members: Mapping[Origin, Mapping[str, int]] = field(default_factory=dict)


NO_NUMBERS = Numbers()


@dataclass(frozen=True, slots=True)
class PlannedFrontend:
    """An address that stands for others. `machine`: the one that has all of it.

    `peers`: who is steered to which port and MAC; `own`: the address is the router's besides.
    """

    number: int
    address: str
    vsid: int = 0
    machine: str | None = None
    peers: Mapping[str, tuple[int, str]] | None = None
    own: bool = False


@dataclass(frozen=True, slots=True)
class PlannedRule:
    """A rule of a frontend; `chooser` is None where machines of the virtual subnet `vsid` reach the outside by it."""

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

    def public(self) -> frozenset[tuple[str, int]]:
        """Return the addresses outside, each with the number of its frontend."""
        return frozenset((each.address, each.number) for each in self.frontends if not each.vsid)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A rule without its number."""

    key: RuleKey
    chooser: Chooser | None
    rule: BalancingRule | InboundNatRule | None


def plan_services(domain: RoutingDomain, before: Numbers) -> Plan:
    """Work out the services of a domain that had these numbers until now. Raises CapacityError."""
    frontends = _frontends(domain, before)
    by_number = {each.number: each for each in frontends.values()}
    drafts = {draft.key: draft for draft in _drafts(domain, frontends)}
    choices = _choices(domain, drafts.values(), before)
    lasting = {
        key: before.rules[key]
        for key, draft in drafts.items()
        if key in before.rules and (draft.chooser is None or before.choosers[key] == choices[draft.chooser].origin)
    }
    numbers = assigned(drafts, lasting, RULES, "rules of load balancers", used=before.rules.values())
    rules = tuple(_planned(draft, numbers[key], by_number[key[0]]) for key, draft in drafts.items())
    return Plan(
        frontends=tuple(frontends.values()),
        rules=rules,
        choices=choices,
        numbers=Numbers(
            frontends={key: each.number for key, each in frontends.items()},
            rules=numbers,
            choosers={key: draft.chooser for key, draft in drafts.items() if draft.chooser is not None},
            members={chooser: choice.numbers for chooser, choice in choices.items()},
        ),
        new_rules=frozenset(number for key, number in numbers.items() if key not in lasting),
        new_members=frozenset(
            _new_members((rule for rule in rules if rule.number in lasting.values()), choices, before)
        ),
    )


def _frontends(domain: RoutingDomain, before: Numbers) -> dict[FrontendKey, PlannedFrontend]:
    machines = {(one.address, 0): one.customer_address for one in domain.public_addresses}
    balanced = [_key(one) for balancer in domain.load_balancers for one in balancer.frontends]
    numbers = assigned([*balanced, *machines], before.frontends, FRONTENDS, "frontends and public addresses")
    return {key: PlannedFrontend(number, *key, machines.get(key)) for key, number in numbers.items()}


def _key(frontend: Frontend) -> FrontendKey:
    return frontend.address, 0 if frontend.public else frontend.vsid or 0


def _drafts(domain: RoutingDomain, frontends: Mapping[FrontendKey, PlannedFrontend]) -> Iterator[_Draft]:
    for balancer in domain.load_balancers:
        number = {one.name: frontends[_key(one)].number for one in balancer.frontends}
        for rule in balancer.rules:
            key = (number[rule.frontend], PROTOCOL_NUMBERS[rule.protocol], rule.port)
            yield _Draft(key, Choice(balancer.name, rule.pool, rule.probe), rule)
        for inbound in balancer.inbound_nat_rules:
            key = (number[inbound.frontend], PROTOCOL_NUMBERS[inbound.protocol], inbound.port)
            yield _Draft(key, InboundChoice(balancer.name, inbound.name), inbound)
        for outbound in balancer.outbound_nat:
            yield _Draft((number[outbound.frontend], OUTBOUND, outbound.vsid), None, None)


def _choices(domain: RoutingDomain, drafts: Iterable[_Draft], before: Numbers) -> dict[Chooser, PlannedChoice]:
    keys: dict[Chooser, list[RuleKey]] = {}
    for draft in drafts:
        if draft.chooser is not None:
            keys.setdefault(draft.chooser, []).append(draft.key)
    members = dict(_members(domain.load_balancers))
    rules_of = Counter(before.choosers.values())
    found = {}
    for chooser, of_rules in keys.items():
        votes = Counter(before.choosers[key] for key in of_rules if key in before.choosers)
        likeliest = max(votes, key=lambda each: votes[each] / rules_of[each], default=None)
        origin = chooser if chooser in before.members else likeliest
        numbers = assigned(
            (one.customer_address for one in members[chooser]),
            before.members[origin] if origin is not None else {},
            MEMBERS,
            "members of a pool",
        )
        found[chooser] = PlannedChoice(members[chooser], numbers, origin)
    return found


def _members(balancers: Iterable[LoadBalancer]) -> Iterator[tuple[Chooser, tuple[PoolMember, ...]]]:
    for balancer in balancers:
        pools = {pool.name: pool.members for pool in balancer.backend_pools}
        for rule in balancer.rules:
            yield Choice(balancer.name, rule.pool, rule.probe), pools[rule.pool]
        for inbound in balancer.inbound_nat_rules:
            yield InboundChoice(balancer.name, inbound.name), (PoolMember(inbound.customer_address),)


def _planned(draft: _Draft, number: int, frontend: PlannedFrontend) -> PlannedRule:
    rule = draft.rule
    if rule is None:
        return PlannedRule(number, frontend, None, vsid=draft.key[2])
    balanced = rule if isinstance(rule, BalancingRule) else None
    return PlannedRule(
        number=number,
        frontend=frontend,
        chooser=draft.chooser,
        protocol=PROTOCOL_NUMBERS[rule.protocol],
        port=rule.port,
        backend_port=rule.destination_port(),
        distribution=_DISTRIBUTIONS[balanced.distribution if balanced else "five_tuple"],
        idle_s=balanced.idle_timeout_s if balanced else INBOUND_IDLE_S,
        floating=balanced.floating_ip if balanced else False,
    )


def _new_members(
    rules: Iterable[PlannedRule], choices: Mapping[Chooser, PlannedChoice], before: Numbers
) -> Iterator[tuple[int, int]]:
    for rule in rules:
        if rule.chooser is not None:
            choice = choices[rule.chooser]
            known = before.members[choice.origin] if choice.origin is not None else {}
            for address, number in choice.numbers.items():
                if address not in known:
                    yield rule.number, number


def outbound_rules(rules: Iterable[PlannedRule]) -> dict[tuple[int, Literal[4, 6]], int]:
    """Return the numbers of the rules by which virtual subnets reach the outside, by (VSID, IP family)."""
    return {
        (rule.vsid, 6 if family(rule.frontend.address) == 6 else 4): rule.number
        for rule in rules
        if rule.chooser is None
    }
