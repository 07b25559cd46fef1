"""Works out a routing domain's services, and which numbers they have: the values of `planned_services`. Pure.

A connection carries the number of its rule and of its member. So a rule that leads elsewhere from now on is another
one, and a number that is given anew is told of: connections that still carry it were somebody else's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2s

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
from gateway.programming.planned_services import (
    OUTBOUND,
    Chooser,
    FrontendKey,
    InboundChoice,
    Numbers,
    Plan,
    PlannedChoice,
    PlannedFrontend,
    PlannedRule,
    RuleKey,
)
from lb.pools import Choice

FRONTENDS = range((1 << 15) - 1)  # (number + 1) << 17 is part of a key of 32 bits
RULES = range(1, (1 << 16) - 1)  # the count of all, number 0 included, has 16 bits
MEMBERS = range(1, 1 << 16)
VSID_BITS = 24
VSID_MASK = (1 << VSID_BITS) - 1
INBOUND_IDLE_S = 240
_DISTRIBUTIONS: Mapping[str, int] = {"five_tuple": 5, "three_tuple": 3, "two_tuple": 2}


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
