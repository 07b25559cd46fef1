"""Who is chosen for a connection, and who keeps it, while pools change."""

from collections import Counter
from dataclasses import replace

import pytest

from gateway.policy.model import BackendPool, PoolMember
from tests.unit.model.services import (
    BALANCER,
    CLIENT,
    SERVICES,
    VIP,
    VM1,
    VM2,
    VM3,
    WEB,
    Balancing,
    ends,
    inner,
    inside,
    outside,
    tcp,
    with_balancer,
    with_members,
    with_rule,
)


def chosen(gateway: Balancing, source_port: int, client: str = CLIENT, flags: str = "S") -> str:
    """The member that a connection to the farm goes to."""
    frame = gateway.forwards(*outside(tcp(client, source_port, VIP, 8000, flags)))
    return str(inner(frame).dst)


def test_connections_are_spread_over_the_members(gateway: Balancing) -> None:
    gateway.hold()
    counts = Counter(chosen(gateway, port) for port in range(20000, 20300))
    assert set(counts) == set(WEB)
    assert min(counts.values()) > 60


def test_weights_share_connections_out(gateway: Balancing) -> None:
    gateway.hold(with_members("all", PoolMember(VM1, weight=9), PoolMember(VM2)))
    counts = Counter(chosen(gateway, port) for port in range(20000, 20300))
    assert 240 < counts[VM1] < 295


@pytest.mark.parametrize(("distribution", "members"), [("five_tuple", 3), ("three_tuple", 1), ("two_tuple", 1)])
def test_a_rule_looks_at_as_much_of_the_tuple_as_it_says(gateway: Balancing, distribution: str, members: int) -> None:
    gateway.hold(with_rule("farm", distribution=distribution))
    assert len({chosen(gateway, port) for port in range(20000, 20050)}) == members


def test_a_draining_member_keeps_its_connections_and_takes_no_new_ones(gateway: Balancing) -> None:
    gateway.hold()
    before = {port: chosen(gateway, port) for port in range(20000, 20060)}
    assert VM2 in before.values()
    gateway.change(with_members("all", PoolMember(VM1), PoolMember(VM2, state="draining"), PoolMember(VM3)))
    assert {port: chosen(gateway, port, flags="A") for port in before} == before
    assert VM2 not in {chosen(gateway, port) for port in range(30000, 30060)}


def test_only_the_connections_of_a_removed_member_move(gateway: Balancing) -> None:
    gateway.hold()
    before = {port: chosen(gateway, port) for port in range(20000, 20060)}
    gateway.change(with_members("all", PoolMember(VM1), PoolMember(VM3)))
    after = {port: chosen(gateway, port, flags="A") for port in before}
    assert {port for port in before if before[port] != after[port]} == {p for p in before if before[p] == VM2}
    gateway.change(SERVICES)
    assert {port: chosen(gateway, port, flags="A") for port in before} == after


def test_new_members_take_no_connections_from_others(gateway: Balancing) -> None:
    gateway.hold(with_members("all", PoolMember(VM1)))
    ports = range(20000, 20060)
    assert {chosen(gateway, port) for port in ports} == {VM1}
    gateway.change(SERVICES)
    assert {chosen(gateway, port, flags="A") for port in ports} == {VM1}
    assert {chosen(gateway, port) for port in range(30000, 30060)} == set(WEB)


def test_a_fresh_syn_on_a_closed_connection_is_balanced_anew(gateway: Balancing) -> None:
    gateway.hold(with_members("all", PoolMember(VM1)))
    assert chosen(gateway, 20000) == VM1
    gateway.change(with_members("all", PoolMember(VM1, state="draining"), PoolMember(VM2)))
    assert chosen(gateway, 20000) == VM1  # a SYN sent again
    assert chosen(gateway, 20000, flags="FA") == VM1
    assert chosen(gateway, 20000, flags="A") == VM1
    assert chosen(gateway, 20000) == VM2
    assert chosen(gateway, 20000, flags="A") == VM2


def test_a_reset_from_the_machine_closes_a_connection_too(gateway: Balancing) -> None:
    gateway.hold(with_members("all", PoolMember(VM1)))
    chosen(gateway, 20000)
    gateway.forwards(*inside(tcp(VM1, 8080, CLIENT, 20000, "R")))
    gateway.change(with_members("all", PoolMember(VM1, state="draining"), PoolMember(VM2)))
    assert chosen(gateway, 20000) == VM2


@pytest.mark.parametrize("flags", ["R", "FA"])
def test_a_connection_that_began_with_its_end_is_closed(gateway: Balancing, flags: str) -> None:
    gateway.hold(with_members("all", PoolMember(VM1)))
    chosen(gateway, 20000, flags=flags)
    gateway.change(with_members("all", PoolMember(VM1, state="draining"), PoolMember(VM2)))
    assert chosen(gateway, 20000) == VM2


def test_without_an_active_member_nothing_is_chosen(gateway: Balancing) -> None:
    gateway.hold(with_members("all", PoolMember(VM1)))
    chosen(gateway, 20000)
    gateway.change(with_members("all", PoolMember(VM1, state="draining")))
    assert chosen(gateway, 20000, flags="A") == VM1
    assert gateway.drops(*outside(tcp(CLIENT, 20001, VIP, 8000))) == "no_member"


def test_a_pool_of_one_and_one_of_another_share_no_connection(gateway: Balancing) -> None:
    """The rule's pool is exchanged: who had number 1 in the old one is not number 1 of the new one."""
    gateway.hold()
    gateway.forwards(*outside(tcp(CLIENT, 40000, VIP, 80)))
    other = BackendPool("other", (PoolMember(VM3),))
    rules = tuple(replace(one, pool="other") if one.name == "www" else one for one in BALANCER.rules)
    gateway.change(with_balancer(backend_pools=(*BALANCER.backend_pools, other), rules=rules))
    assert ends(gateway.forwards(*outside(tcp(CLIENT, 40000, VIP, 80, "A"))))[2] == VM3
