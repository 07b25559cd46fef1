"""What a routing domain's load balancers and public addresses come to: frontends, rules and choices, by number. Pure.

A connection carries the number of its rule and of its member. So a rule that leads elsewhere from now on is another
one, and a number that is given anew is told of: connections that still carry it were somebody else's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2s
from typing import Literal, TypeAlias

from gateway.policy.addresses import family
from gateway.policy.balancing import (
    BalancingRule,
    Frontend,
    InboundNatRule,
    LoadBalancer,
    OutboundNat,
    PoolMember,
)
from gateway.policy.fields import PROTOCOL_NUMBERS
from gateway.policy.lending import ALL_BLOCKS, blocks_lent, shared_addresses
from gateway.policy.model import RoutingDomain
from gateway.programming.numbering import assigned
from lb.pools import Choice

FRONTENDS = range((1 << 15) - 1)  # (number + 1) << 17 is part of a key of 32 bits
RULES = range(1, (1 << 16) - 1)  # the count of all, number 0 included, has 16 bits
MEMBERS = range(1, 1 << 16)
OUTBOUND = 0  # in place of a protocol
VSID_BITS = 24
VSID_MASK = (1 << VSID_BITS) - 1
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


@dataclass(frozen=True, slots=True)
class _Draft:
    """A rule without its number."""

    key: RuleKey
    chooser: Chooser | None
    rule: BalancingRule | InboundNatRule | OutboundNat
    blocks: int = ALL_BLOCKS


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
    lasting |= _for_other_machines(drafts, before)
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
            blocks={key: draft.blocks for key, draft in drafts.items() if draft.chooser is None},
        ),
        new_rules=frozenset(number for key, number in numbers.items() if key not in lasting),
        new_members=frozenset(
            _new_members((rule for rule in rules if rule.number in lasting.values()), choices, before)
        ),
    )


def _for_other_machines(drafts: Mapping[RuleKey, _Draft], before: Numbers) -> Iterator[tuple[RuleKey, int]]:
    """Outbound NAT with most of the ports of one that is gone: connections of machines that both are for stay."""
    gone = {key: blocks for key, blocks in before.blocks.items() if key not in drafts}
    new = [draft for key, draft in drafts.items() if draft.chooser is None and key not in before.rules]
    common = [
        ((gone[old] & draft.blocks).bit_count(), draft.key, old)
        for draft in new
        for old in gone
        if _subnet_of(old) == _subnet_of(draft.key) and gone[old] & draft.blocks
    ]
    taken: set[RuleKey] = set()
    for _, key, old in sorted(common, reverse=True):
        if not taken & {key, old}:
            taken |= {key, old}
            yield key, before.rules[old]


def _subnet_of(key: RuleKey) -> tuple[int, int]:
    """The frontend, and the VSID."""
    return key[0], key[2] & VSID_MASK


def _frontends(domain: RoutingDomain, before: Numbers) -> dict[FrontendKey, PlannedFrontend]:
    machines = {(one.address, 0): one.customer_address for one in domain.public_addresses}
    balanced = [_key(one) for balancer in domain.load_balancers for one in balancer.frontends]
    numbers = assigned([*balanced, *machines], before.frontends, FRONTENDS, "frontends and public addresses")
    shared = {(address, 0): blocks for address, blocks in shared_addresses(domain).items()}
    return {
        key: PlannedFrontend(number, *key, machines.get(key), shared.get(key, 0)) for key, number in numbers.items()
    }


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
        for outbound, blocks in zip(balancer.outbound_nat, blocks_lent(balancer), strict=True):
            whose = whose_number(outbound.vsid, customers_digest(outbound.customer_prefixes))
            yield _Draft((number[outbound.frontend], OUTBOUND, whose), None, outbound, blocks)


def customers_digest(prefixes: Iterable[str]) -> int:
    """Return 64 bits by which rules for some machines of a virtual subnet are told apart, 0 for all of them."""
    text = ",".join(sorted(prefixes))
    return int.from_bytes(blake2s(text.encode(), digest_size=8).digest()) if text else 0


def whose_number(vsid: int, digest: int) -> int:
    """Return what tells outbound NAT of a frontend apart in its rule's key."""
    return digest << VSID_BITS | vsid


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
    if isinstance(rule, OutboundNat):
        return PlannedRule(
            number, frontend, None, vsid=rule.vsid, customers=rule.customer_prefixes, blocks=draft.blocks
        )
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
