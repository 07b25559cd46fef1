"""From a domain and what its probes found to who takes connections; and the members' numbers."""

import numpy
import pytest
from balanced_domains import domain, pool

from lb import maglev
from lb.health import MemberHealth, Status
from lb.pools import Choice, DrainingMember, MemberNumbers, PoolState, draining_members, pool_states

A, B, C = "10.1.6.21", "10.1.6.22", "10.1.6.23"
WEB = Choice("lb", "web", "tcp")


def unhealthy(*addresses: str) -> list[MemberHealth]:
    return [MemberHealth(address, Status.UNHEALTHY, 0.0, "refused", "refused") for address in addresses]


def states(state: PoolState) -> dict[str, str]:
    return {member.customer_address: member.state for member in state.members}


def test_members_that_nobody_has_probed_are_active() -> None:
    assert states(pool_states(domain(pool("web", A, B)), {})[WEB]) == {A: "active", B: "active"}


def test_an_unhealthy_member_is_down() -> None:
    assert states(pool_states(domain(pool("web", A, B)), {WEB: unhealthy(B)})[WEB]) == {A: "active", B: "down"}


def test_a_pool_whose_members_all_fail_keeps_all() -> None:
    assert set(states(pool_states(domain(pool("web", A, B)), {WEB: unhealthy(A, B)})[WEB]).values()) == {"active"}


def test_below_the_floor_health_is_not_asked() -> None:
    floor = domain(pool("web", A, B, C, minimum_healthy=2))
    assert states(pool_states(floor, {WEB: unhealthy(C)})[WEB])[C] == "down"
    assert set(states(pool_states(floor, {WEB: unhealthy(B, C)})[WEB]).values()) == {"active"}


def test_a_draining_member_takes_no_slot_and_is_down_when_unhealthy_or_out_of_time() -> None:
    draining = domain(pool("web", A, B, draining=(B,)))
    state = pool_states(draining, {})[WEB]
    assert states(state)[B] == "draining"
    slots = state.slots()
    assert slots is not None
    assert set(slots) == {0}
    assert states(pool_states(draining, {WEB: unhealthy(B)})[WEB])[B] == "down"
    assert states(pool_states(draining, {}, {DrainingMember("lb", "web", B)})[WEB])[B] == "down"


def test_a_draining_member_does_not_keep_a_pool_above_its_floor() -> None:
    state = pool_states(domain(pool("web", A, B, draining=(B,))), {WEB: unhealthy(A)})[WEB]
    assert states(state) == {A: "active", B: "draining"}


def test_a_pool_of_which_all_members_drain_has_no_slots() -> None:
    assert pool_states(domain(pool("web", A, draining=(A,))), {})[WEB].slots() is None


def test_rules_that_agree_in_pool_and_probe_share_a_choice_and_others_do_not() -> None:
    found = pool_states(
        domain(pool("web", A), pool("api", A), pool("idle", A), rules="web/tcp web/tcp web api/tcp"), {}
    )
    assert list(found) == [Choice("lb", "api", "tcp"), Choice("lb", "web", None), WEB]


def test_health_by_one_probe_does_not_touch_rules_without_it() -> None:
    found = pool_states(domain(pool("web", A, B), rules="web/tcp web"), {WEB: unhealthy(B)})
    assert states(found[Choice("lb", "web", None)])[B] == "active"
    assert states(found[WEB])[B] == "down"


def test_a_member_that_goes_down_moves_its_own_slots_and_few_others() -> None:
    addresses = [f"10.1.7.{number}" for number in range(1, 101)]
    big = domain(pool("web", *addresses))
    before, after = pool_states(big, {})[WEB].slots(), pool_states(big, {WEB: unhealthy(addresses[7])})[WEB].slots()
    assert before is not None
    assert after is not None
    assert len(before) == maglev.SMALL_TABLE
    assert numpy.count_nonzero((before != after) & (before != 7)) <= 0.02 * len(before)
    assert 7 not in after


def test_draining_members_are_those_the_policy_names() -> None:
    assert draining_members(domain(pool("web", A, B, draining=(B,)))) == {DrainingMember("lb", "web", B)}


def test_members_keep_their_numbers_while_others_come_and_go() -> None:
    numbers = MemberNumbers({})
    assert numbers.assign([B, A]) == {A: 1, B: 2}
    assert numbers.assign([C, B]) == {B: 2, C: 3}
    assert numbers.assign([A, B, C]) == {A: 4, B: 2, C: 3}


def test_numbers_go_on_from_what_the_datapath_holds() -> None:
    assert MemberNumbers({A: 7, B: 3}).assign([A, B, C]) == {A: 7, B: 3, C: 8}
    assert MemberNumbers({A: 7}, last=9).assign([A, C]) == {A: 7, C: 10}


def test_a_free_number_is_given_again_only_after_all_others() -> None:
    numbers = MemberNumbers({A: 65534})
    assert numbers.assign([A, B]) == {A: 65534, B: 65535}
    assert numbers.assign([A, C]) == {A: 65534, C: 1}
    given = [numbers.assign([A, f"10.2.{n >> 8}.{n & 255}"]) for n in range(65532)]
    assert given[-1] != {B: 65535}
    assert numbers.last == 65533
    assert numbers.assign([A, B])[B] == 65535


def test_a_full_pool_uses_every_number_once() -> None:
    members = _addresses(65535)
    assert sorted(MemberNumbers({}).assign(members).values()) == list(range(1, 65536))
    with pytest.raises(ValueError, match="65,535 numbers"):
        MemberNumbers({}).assign([*members, "fd00::1"])


def _addresses(count: int) -> list[str]:
    return [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(count)]
