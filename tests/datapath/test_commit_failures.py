"""What cannot be programmed leaves the old policy forwarding; what is not as it was written is noticed and repaired."""

from collections.abc import Iterator
from dataclasses import replace
from socket import if_nametoindex

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.vxlan import VXLAN

from gateway.datapath.model.world import World
from gateway.policy.model import (
    AccessControlList,
    AccessRule,
    AppliesTo,
    CustomerRoute,
    LookupRecord,
    Policy,
    RoutingDomain,
    VirtualSubnet,
)
from gateway.programming.encoding import mac_bytes
from gateway.programming.programmer import Programmer
from gateway.underlay.network import Link
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.unit.model.support import (
    BLUE,
    BLUE_DOMAIN,
    POLICY,
    RECORDS,
    RED,
    RED_DOMAIN,
    changed,
    external,
    tunnelled,
)

pytestmark = needs_root

TO_BLUE = ("x0", external(IP(src="157.1.0.9", dst="10.1.6.21") / UDP(sport=7, dport=8)))
TO_RED = ("x0", external(IP(src="157.1.0.9", dst="10.1.1.12") / UDP(sport=7, dport=8), vlan=10))
HOPS = tuple(
    LookupRecord(6002, f"10.1.6.{number}", f"10-10-10-10-16-{number:02X}", "192.168.6.4") for number in range(100, 165)
)
FORKED = replace(
    BLUE_DOMAIN,
    lookup_records=HOPS,
    customer_routes=tuple(CustomerRoute("172.30.0.0/16", record.customer_address) for record in HOPS),
)
CHANGED_RED = replace(
    RED_DOMAIN,
    lookup_records=(replace(RED_DOMAIN.lookup_records[1], mac="20-20-20-20-99-99", encapsulation="vxlan"),),
)


def links_of(world: World) -> dict[str, Link]:
    return {
        each.name: Link(each.name, if_nametoindex(each.name), mac_bytes(each.mac), each.mtu, True)
        for each in world.interfaces.values()
    }


def restart(gateway: Gateway, world: World) -> Programmer:
    """Another daemon, which knows Linux's interfaces but has not been told of any policy."""
    programmer = gateway.programs.restarted(world.ports, world.router_mac, world.dscp)
    programmer.links_changed(links_of(world))
    gateway.programs.programmer = programmer
    return programmer


def memory(gateway: Gateway) -> dict[str, bytes]:
    names = ("arena", "root", "tables", "choices", "domains", "endpoints", "ports", "connections", "neighbours")
    return {name: gateway.programs.datapath.maps[name].mmap().tobytes() for name in names}


def too_many_records() -> RoutingDomain:
    """More than the table memory of these tests has room for."""
    mac, host = "10-10-10-10-66-66", "192.168.1.10"
    records = (LookupRecord(6001, f"fd00:1::1:{n >> 16:x}:{n & 0xFFFF:x}", mac, host) for n in range(70_000))
    return replace(BLUE_DOMAIN, lookup_records=(*RECORDS, *records))


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        (FORKED, "65 equal next hops, at most 64 fit"),
        (
            replace(
                BLUE_DOMAIN,
                access_control_lists=(
                    AccessControlList(
                        "long",
                        (AppliesTo(6001),),
                        rules=tuple(AccessRule(number, "inbound", "deny") for number in range(4097)),
                    ),
                ),
            ),
            "access list long has 4097 inbound rules, at most 4096 fit",
        ),
    ],
    ids=["next_hops", "rules"],
)
def test_a_domain_that_does_not_fit_forwards_on_as_before_and_only_it_is_named(
    gateway: Gateway, domain: RoutingDomain, why: str
) -> None:
    gateway.hold()
    before = gateway.send(*TO_BLUE)
    errors = gateway.programs.apply(replace(POLICY, routing_domains=(domain, CHANGED_RED)))
    assert list(errors) == [BLUE]
    assert why in errors[BLUE]
    assert gateway.send(*TO_BLUE) == before
    assert gateway.forwards(*TO_RED)[VXLAN].payload.dst == "20:20:20:20:99:99"
    assert gateway.programs.programmer.verify() == {}


def test_when_the_table_memory_is_full_the_old_table_forwards_on(gateway: Gateway) -> None:
    gateway.hold()
    before = gateway.send(*TO_BLUE)
    errors = gateway.programs.apply(replace(POLICY, routing_domains=(too_many_records(), CHANGED_RED)))
    assert list(errors) == [BLUE]
    assert "the table memory" in errors[BLUE]
    assert gateway.send(*TO_BLUE) == before
    assert gateway.programs.apply(changed()) == {}
    used, _ = gateway.programs.programmer.used_lines()
    assert gateway.programs.apply(replace(POLICY, routing_domains=(too_many_records(), RED_DOMAIN))).keys() == {BLUE}
    assert gateway.programs.programmer.used_lines()[0] == used


def test_a_vsid_that_a_failed_domain_holds_is_given_to_no_other(gateway: Gateway) -> None:
    gateway.hold()
    greedy = replace(RED_DOMAIN, virtual_subnets=(*RED_DOMAIN.virtual_subnets, VirtualSubnet(6003, ("10.9.0.0/24",))))
    shrunk = replace(FORKED, virtual_subnets=BLUE_DOMAIN.virtual_subnets[:2])
    errors = gateway.programs.apply(replace(POLICY, routing_domains=(shrunk, greedy)))
    assert set(errors) == {BLUE, RED}
    assert "VSID 6003 is still held by domain" in errors[RED]
    outcome = gateway.send("p0", tunnelled(IP(src="10.1.7.5", dst="10.1.6.21") / UDP(sport=7, dport=8), 6003))
    assert (outcome.action, outcome.domain) == ("forwarded", BLUE)


def test_a_new_domain_that_does_not_fit_is_nobodys(gateway: Gateway) -> None:
    gateway.hold(Policy((), (RED_DOMAIN,)), neighbours_known=False)
    assert gateway.programs.apply(replace(POLICY, routing_domains=(FORKED, RED_DOMAIN))).keys() == {BLUE}
    frame = tunnelled(IP(src="10.1.1.11", dst="10.1.6.100") / UDP(sport=7, dport=8), 6001)
    assert gateway.drops("p0", frame) == "unknown_vsid"
    assert gateway.send(*TO_RED).domain == RED


@pytest.fixture
def blues_place(gateway: Gateway) -> Iterator[tuple[World, int]]:
    """The world, and the number of blue's domain, of a policy that is in place."""
    world = gateway.hold()
    yield world, gateway.programs.programmer.numbers()[BLUE]


def test_a_flipped_byte_in_a_domains_table_is_noticed_and_a_restart_repairs_it(
    gateway: Gateway, blues_place: tuple[World, int]
) -> None:
    world, number = blues_place
    maps, layout = gateway.programs.datapath.maps, gateway.programs.layout
    before = gateway.send(*TO_BLUE)
    place = maps["tables"].records(layout.struct("table_word"))[number]
    first, lines = int(place["line"]), int(place["lines"])
    for at in (first * 64, (first + lines // 2) * 64 + 17, (first + lines) * 64 - 1):
        maps["arena"].mmap()[at] ^= 0x40
        assert gateway.programs.programmer.verify() == {BLUE: "the table in the datapath is not what was written"}
        maps["arena"].mmap()[at] ^= 0x40
    maps["arena"].mmap()[first * 64 + 5] ^= 0xFF
    assert gateway.programs.apply(POLICY).keys() == {BLUE}
    assert restart(gateway, world).apply(POLICY) == {}
    assert gateway.programs.programmer.verify() == {}
    assert gateway.send(*TO_BLUE) == before


def test_another_tables_number_in_a_domains_word_is_noticed(gateway: Gateway, blues_place: tuple[World, int]) -> None:
    _, number = blues_place
    words = gateway.programs.datapath.maps["tables"].records(gateway.programs.layout.struct("table_word"))
    words["line"][number] += 1
    assert gateway.programs.programmer.verify() == {BLUE: "the datapath uses another table than the one programmed"}
    words["line"][number] -= 1
    assert gateway.programs.programmer.verify() == {}


def test_a_directory_that_is_not_what_was_written_is_noticed_for_every_domain(
    gateway: Gateway, blues_place: tuple[World, int]
) -> None:
    maps, layout = gateway.programs.datapath.maps, gateway.programs.layout
    root = maps["root"].records(layout.struct("root"))
    at = int(root["directory"][0]) * 64 + 3
    maps["arena"].mmap()[at] ^= 1
    assert gateway.programs.programmer.verify().keys() == {BLUE, RED}
    maps["arena"].mmap()[at] ^= 1
    assert gateway.programs.programmer.verify() == {}


def test_a_restart_that_finds_no_difference_rewrites_nothing(gateway: Gateway) -> None:
    lists = (AccessControlList("stateful", (AppliesTo(6002),), default_inbound="deny"),)
    policy = changed(access_control_lists=lists)
    world = gateway.hold(policy)
    request = tunnelled(IP(src="10.1.6.21", dst="157.1.0.9") / UDP(sport=7, dport=8), 6002, "192.168.6.4")
    reply = external(IP(src="157.1.0.9", dst="10.1.6.21") / UDP(sport=8, dport=7))
    assert gateway.send("p0", request).action == "forwarded"
    before, numbers = memory(gateway), gateway.programs.programmer.numbers()
    programmer = restart(gateway, world)
    assert gateway.send("x0", reply).action == "forwarded"
    after_reply = memory(gateway)["connections"]
    assert programmer.apply(policy) == {}
    assert programmer.numbers() == numbers
    after = memory(gateway)
    assert {name for name in before if after[name] != before[name]} == {"connections"}
    assert after["connections"] == after_reply
    assert gateway.send("x0", reply).action == "forwarded"
    assert gateway.send("x0", external(IP(src="157.1.0.9", dst="10.1.6.21") / UDP(sport=9, dport=7))).reason


def test_a_restart_programs_only_what_has_changed(gateway: Gateway) -> None:
    world = gateway.hold()
    words = gateway.programs.datapath.maps["tables"].records(gateway.programs.layout.struct("table_word"))
    numbers = gateway.programs.programmer.numbers()
    before = {rdid: int(words["line"][number]) for rdid, number in numbers.items()}
    programmer = restart(gateway, world)
    assert programmer.apply(replace(POLICY, routing_domains=(BLUE_DOMAIN, CHANGED_RED))) == {}
    after = {rdid: int(words["line"][number]) for rdid, number in numbers.items()}
    assert {rdid for rdid in before if before[rdid] != after[rdid]} == {RED}
    assert gateway.forwards(*TO_RED)[VXLAN].payload.dst == "20:20:20:20:99:99"


def test_a_domain_removed_while_no_daemon_ran_is_removed_by_the_next_one(gateway: Gateway) -> None:
    world = gateway.hold()
    assert restart(gateway, world).apply(replace(POLICY, routing_domains=(RED_DOMAIN,))) == {}
    assert gateway.send(*TO_BLUE).action == "passed"
    frame = tunnelled(IP(src="10.1.1.11", dst="10.1.6.21") / UDP(sport=7, dport=8), 6001)
    assert gateway.drops("p0", frame) == "unknown_vsid"


def test_restart_after_restart_uses_no_more_memory(gateway: Gateway) -> None:
    world = gateway.hold()
    used = gateway.programs.programmer.used_lines()
    for _ in range(5):
        programmer = restart(gateway, world)
        assert programmer.apply(POLICY) == {}
        assert programmer.used_lines() == used


def test_a_thousand_commits_use_no_more_memory_than_one(gateway: Gateway) -> None:
    gateway.hold()
    programmer = gateway.programs.programmer
    policies = (replace(POLICY, routing_domains=(BLUE_DOMAIN, CHANGED_RED)), POLICY)
    used = programmer.used_lines()
    for number in range(1000):
        assert programmer.apply_domain(policies[number % 2], RED) == {}
    assert programmer.used_lines() == used
