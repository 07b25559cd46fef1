"""Numbers that connections carry: they last while they mean the same, and are told of when they mean something else."""

from dataclasses import replace

import pytest

from gateway.policy.balancing import BackendPool, BalancingRule, Frontend, LoadBalancer, OutboundNat, PoolMember
from gateway.policy.model import RoutingDomain
from gateway.programming.block import CapacityError
from gateway.programming.numbering import assigned
from gateway.programming.planned_services import NO_NUMBERS, Numbers, Plan
from gateway.programming.recovery import recovered_numbers
from gateway.programming.service_plan import plan_services
from lb.pools import Choice
from tests.unit.programming.arena import layout
from tests.unit.programming.service_samples import BALANCER, BLUE, WEB, compiled

TCP = 6
WWW = (0, TCP, 80)
CHOICE = Choice("web", "web", None)


def having(balancer: LoadBalancer) -> RoutingDomain:
    return replace(BLUE, load_balancers=(balancer,))


def with_members(*addresses: str) -> LoadBalancer:
    pools = (BackendPool("web", tuple(map(PoolMember, addresses))), BALANCER.backend_pools[1])
    return replace(BALANCER, backend_pools=pools)


def adopted(plan: Plan, domain: RoutingDomain = BLUE) -> Numbers:
    """What is known of a plan after a restart, which is what its blocks say."""
    members = {number: choice.numbers for number, choice in enumerate(plan.choices.values(), 100)}
    return recovered_numbers(compiled(domain, plan), layout(), members)


def test_the_same_policy_keeps_all_numbers() -> None:
    first = plan_services(BLUE, NO_NUMBERS)
    again = plan_services(BLUE, first.numbers)
    assert again.numbers == first.numbers
    assert (again.new_rules, again.new_members) == (frozenset(), frozenset())


def test_a_restart_recovers_all_numbers_from_the_blocks() -> None:
    first = plan_services(BLUE, NO_NUMBERS)
    changed = plan_services(having(with_members(WEB[0], WEB[2], "10.1.1.99")), first.numbers)
    after = plan_services(having(with_members(WEB[0], WEB[2], "10.1.1.99")), adopted(changed))
    assert after.numbers == changed.numbers
    assert (after.new_rules, after.new_members) == (frozenset(), frozenset())


def test_a_removed_members_number_is_not_given_again_at_once_and_told_of_when_it_is() -> None:
    first = plan_services(BLUE, NO_NUMBERS)
    assert first.numbers.members[CHOICE] == {WEB[0]: 1, WEB[1]: 2, WEB[2]: 3}
    second = plan_services(having(with_members(WEB[0], WEB[2], "10.1.1.14")), first.numbers)
    assert second.numbers.members[CHOICE] == {WEB[0]: 1, WEB[2]: 3, "10.1.1.14": 4}
    third = plan_services(having(with_members(WEB[0], WEB[2], "10.1.1.14", "10.1.1.15")), second.numbers)
    assert third.numbers.members[CHOICE]["10.1.1.15"] == 2
    rules = {number for key, number in third.numbers.rules.items() if third.numbers.choosers.get(key) == CHOICE}
    assert third.new_members == {(rule, 2) for rule in rules}
    assert third.new_rules == frozenset()


def test_a_removed_rules_number_is_not_given_again_at_once_and_told_of_when_it_is() -> None:
    first = plan_services(BLUE, NO_NUMBERS)
    gone, new = first.numbers.rules[WWW], BalancingRule("new", "public", "web", "tcp", 443)
    others = tuple(rule for rule in BALANCER.rules if rule.name != "www")
    second = plan_services(having(replace(BALANCER, rules=(*others, new))), first.numbers)
    assert gone not in second.numbers.rules.values()
    newer = replace(new, name="newer", port=444)
    third = plan_services(having(replace(BALANCER, rules=(*others, new, newer))), second.numbers)
    assert third.numbers.rules[0, TCP, 444] == gone
    assert third.new_rules == {gone}


def test_other_frontends_rules_and_members_keep_theirs_when_some_go() -> None:
    first = plan_services(BLUE, NO_NUMBERS)
    fewer = replace(
        with_members(WEB[0], WEB[2]),
        frontends=(BALANCER.frontends[0], BALANCER.frontends[2]),
        rules=tuple(rule for rule in BALANCER.rules if rule.frontend != "public6"),
        outbound_nat=(),
    )
    second = plan_services(having(fewer), first.numbers)
    for before, after in (
        (first.numbers.frontends, second.numbers.frontends),
        (first.numbers.rules, second.numbers.rules),
        (first.numbers.members[CHOICE], second.numbers.members[CHOICE]),
    ):
        assert set(after.items()) <= set(before.items())  # type: ignore[arg-type]
        assert len(after) < len(before)


def test_a_renamed_pool_keeps_its_rules_and_its_members_numbers() -> None:
    first = plan_services(BLUE, NO_NUMBERS)
    pools = (replace(BALANCER.backend_pools[0], name="other"), BALANCER.backend_pools[1])
    rules = tuple(replace(rule, pool="other") if rule.pool == "web" else rule for rule in BALANCER.rules)
    renamed = having(replace(BALANCER, backend_pools=pools, rules=rules))
    for before in (first.numbers, adopted(first)):
        second = plan_services(renamed, before)
        assert second.numbers.rules == first.numbers.rules
        assert second.numbers.members[Choice("web", "other", None)] == first.numbers.members[CHOICE]
        assert (second.new_rules, second.new_members) == (frozenset(), frozenset())


def test_a_rule_that_leads_to_another_pool_in_use_is_another_rule() -> None:
    """Its connections carry the numbers of the former pool's members, which mean others in the latter."""
    pools = (*BALANCER.backend_pools, BackendPool("reverse", tuple(map(PoolMember, reversed(WEB)))))
    rules = (*BALANCER.rules, BalancingRule("back", "tier", "reverse", "tcp", 9090))
    balancer = replace(BALANCER, backend_pools=pools, rules=rules)
    first = plan_services(having(balancer), NO_NUMBERS)
    moved = (replace(rules[0], pool="reverse"), *rules[1:])
    for before in (first.numbers, adopted(first, having(balancer))):
        second = plan_services(having(replace(balancer, rules=moved)), before)
        assert second.numbers.rules[WWW] not in first.numbers.rules.values()
        assert second.new_rules == {second.numbers.rules[WWW]}


def outbound(*entries: OutboundNat) -> RoutingDomain:
    return having(replace(BALANCER, outbound_nat=entries))


def number_of(plan: Plan, *customers: str) -> int:
    """The number of the outbound rule for these machines."""
    return next(rule.number for rule in plan.rules if rule.chooser is None and rule.customers == customers)


def test_outbound_nat_that_lends_other_ports_or_to_other_machines_keeps_its_number() -> None:
    group, machine, joined = ("10.1.1.64/26",), "10.1.1.11/32", ("10.1.1.64/26", "10.1.1.12/32")
    rest = OutboundNat("public", 6001)
    first = plan_services(outbound(rest, OutboundNat("public", 6001, group, "4096-20479")), NO_NUMBERS)
    wider = outbound(
        OutboundNat("public", 6001, (machine,), "4096-8191"), rest, OutboundNat("public", 6001, joined, "8192-32767")
    )
    for before in (first.numbers, adopted(first, outbound(rest, OutboundNat("public", 6001, group, "4096-20479")))):
        after = plan_services(wider, before)
        assert number_of(after) == number_of(first)
        assert number_of(after, *joined) == number_of(first, *group)
        assert number_of(after, machine) not in first.numbers.rules.values()


def test_ports_of_outbound_nat_are_recovered_with_the_numbers() -> None:
    domain = outbound(OutboundNat("public", 6001), OutboundNat("public", 6001, ("10.1.1.64/26",), "4096-20479"))
    first = plan_services(domain, NO_NUMBERS)
    assert sorted(first.numbers.blocks.values()) == [0x001E, 0xFFE0]
    assert adopted(first, domain).blocks == first.numbers.blocks


def test_the_same_address_inside_two_domains_subnets_and_outside_are_different_frontends() -> None:
    twice = replace(BALANCER, frontends=(Frontend("in", "10.1.1.80", vsid=6001), Frontend("out", "10.1.1.80", True)))
    plan = plan_services(having(replace(twice, rules=(), inbound_nat_rules=(), outbound_nat=())), NO_NUMBERS)
    assert plan.numbers.frontends == {("10.1.1.80", 6001): 0, ("10.1.1.80", 0): 1, ("198.51.100.81", 0): 2}


def test_numbers_that_run_out_are_named() -> None:
    with pytest.raises(CapacityError, match="4 things are wanted, at most 3 fit"):
        assigned("abcd", {}, range(1, 4), "things")
    with pytest.raises(CapacityError, match="those that just went included"):
        assigned("d", {"a": 1, "b": 2}, range(1, 4), "things", used=(3,))
