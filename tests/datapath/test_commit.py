"""A packet meets its domain's old policy or the new one: frames are under way at every step of a commit."""

from collections.abc import Mapping
from dataclasses import replace
from socket import if_nametoindex

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether

from gateway.datapath import statistics, test_run
from gateway.policy.model import (
    ConnectionRoute,
    LookupRecord,
    NetworkConnection,
    Policy,
    RoutingDomain,
    VirtualSubnet,
)
from tests.datapath.cases import Gateway
from tests.datapath.frames_meanwhile import Result, frames_meanwhile
from tests.datapath.loader_support import needs_root
from tests.unit.model.support import (
    BLUE,
    BLUE_DOMAIN,
    OWN_REWRITTEN,
    POLICY,
    PROVIDER,
    RECORDS,
    RED,
    RED_DOMAIN,
    changed,
    external,
    tunnelled,
    underlay,
)

pytestmark = needs_root

COMMITS = 150
XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4
Frames = dict[str, tuple[str, bytes]]

MOVED = tuple(
    replace(record, mac="10-10-10-10-99-99", provider_address="192.168.2.20", encapsulation="nvgre")
    if record.customer_address == "10.1.6.21"
    else record
    for record in RECORDS
    if record.vsid != 6003 and record.provider_address != OWN_REWRITTEN
)
CORPNET = BLUE_DOMAIN.network_connections[0]
OTHER = changed(
    lookup_records=MOVED,
    virtual_subnets=(*BLUE_DOMAIN.virtual_subnets[:2], VirtualSubnet(6009, ("10.1.9.0/24",))),
    network_connections=(
        replace(CORPNET, routes=(ConnectionRoute("203.0.113.0/24", "157.1.0.1"),)),
        NetworkConnection("second", "corpnet", ("157.2.0.254/16",), vlan=20),
    ),
)


def to_the_moved_machine(vsid: int, source: str) -> bytes:
    return tunnelled(IP(src=source, dst="10.1.6.21") / UDP(sport=7, dport=8), vsid)


FRAMES: Frames = {
    "from outside": ("x0", external(IP(src="157.1.0.9", dst="10.1.6.21") / UDP(sport=7, dport=8))),
    "from another subnet": ("p0", to_the_moved_machine(6001, "10.1.1.11")),
    "from a subnet that comes": ("p0", to_the_moved_machine(6009, "10.1.9.5")),
    "from a subnet that goes": ("p0", to_the_moved_machine(6003, "10.1.7.5")),
    "from a connection that comes": (
        "x0",
        external(IP(src="157.2.0.9", dst="10.1.6.21") / UDP(sport=7, dport=8), vlan=20),
    ),
    "from a rewritten address that goes": (
        "p0",
        bytes(Ether(dst=PROVIDER) / IP(src="192.168.50.1", dst=OWN_REWRITTEN) / UDP(sport=7, dport=8)),
    ),
    "red's": ("x0", external(IP(src="157.1.0.9", dst="10.1.1.12") / UDP(sport=7, dport=8), vlan=10)),
}
KNOWN_TO_BOTH = ("from outside", "from another subnet", "red's")


def results(gateway: Gateway, frames: Frames) -> dict[str, Result]:
    """What becomes of each frame as things are."""
    program = gateway.programs.datapath.programs["gateway"]
    return {
        name: test_run.run(program, frame, if_nametoindex(interface)) for name, (interface, frame) in frames.items()
    }


def with_domains(*domains: RoutingDomain) -> Policy:
    return replace(POLICY, routing_domains=domains)


def outcomes_while_policies_alternate(gateway: Gateway, frames: Frames) -> None:
    gateway.hold()
    programmer = gateway.programs.programmer
    old = results(gateway, frames)
    assert programmer.apply_domain(OTHER, BLUE) == {}
    new = results(gateway, frames)
    assert {name for name in frames if old[name] == new[name]} == {"red's"}
    with frames_meanwhile(gateway.programs, frames) as seen:
        for number in range(COMMITS):
            assert programmer.apply_domain(OTHER if number % 2 else POLICY, BLUE) == {}
    for name, found in seen.results.items():
        assert set(found) == {old[name], new[name]}, name
        assert sum(found.values()) > COMMITS


def test_a_packet_meets_the_old_policy_or_the_new_and_never_a_mix(gateway: Gateway) -> None:
    outcomes_while_policies_alternate(gateway, {name: FRAMES[name] for name in KNOWN_TO_BOTH})


def test_a_packet_from_what_only_one_policy_knows_never_meets_the_other(gateway: Gateway) -> None:
    outcomes_while_policies_alternate(gateway, FRAMES)


def test_a_vsid_that_moves_between_domains_is_unknown_in_between_and_never_the_wrong_ones(gateway: Gateway) -> None:
    subnet = VirtualSubnet(7001, ("10.9.0.0/24",))
    blues = (LookupRecord(7001, "10.9.0.5", "10-10-10-10-90-05", "192.168.1.10", "nvgre"),)
    reds = (LookupRecord(7001, "10.9.0.5", "20-20-20-20-90-05", "192.168.1.10", "vxlan"),)
    at_blue = with_domains(having(BLUE_DOMAIN, subnet, blues), RED_DOMAIN)
    at_red = with_domains(BLUE_DOMAIN, having(RED_DOMAIN, subnet, reds))
    frames = {
        "to its machine": ("p0", tunnelled(IP(src="10.9.0.6", dst="10.9.0.5") / UDP(sport=7, dport=8), 7001)),
        "to a machine of both": ("p0", tunnelled(IP(src="10.9.0.6", dst="10.1.1.12") / UDP(sport=7, dport=8), 7001)),
    }
    gateway.hold(at_blue)
    programmer = gateway.programs.programmer
    old = results(gateway, frames)
    assert programmer.apply(at_red) == {}
    new = results(gateway, frames)
    before = unknown_vsids(gateway)
    with frames_meanwhile(gateway.programs, frames) as seen:
        for number in range(COMMITS):
            assert programmer.apply(at_red if number % 2 else at_blue) == {}
    unknown = 0
    for name, (_, frame) in frames.items():
        assert set(seen.results[name]) <= {old[name], new[name], (XDP_DROP, frame)}
        unknown += seen.results[name].get((XDP_DROP, frame), 0)
    assert unknown > 0
    assert unknown_vsids(gateway) - before == unknown


def unknown_vsids(gateway: Gateway) -> int:
    counted = statistics.read(gateway.programs.datapath, gateway.programs.layout)
    return counted[0].drops.get("unknown_vsid", 0) if 0 in counted else 0


def having(domain: RoutingDomain, subnet: VirtualSubnet, records: tuple[LookupRecord, ...]) -> RoutingDomain:
    return replace(
        domain,
        virtual_subnets=(*domain.virtual_subnets, subnet),
        lookup_records=(*domain.lookup_records, *records),
    )


def test_a_domain_that_comes_and_goes_is_either_there_or_not(gateway: Gateway) -> None:
    gateway.hold()
    programmer = gateway.programs.programmer
    frames = {name: FRAMES[name] for name in ("from another subnet", "from outside", "red's")}
    there = results(gateway, frames)
    without = with_domains(RED_DOMAIN)
    assert programmer.apply_domain(without, BLUE) == {}
    gone = results(gateway, frames)
    assert (gone["from another subnet"][0], gone["from outside"][0]) == (XDP_DROP, XDP_PASS)
    with frames_meanwhile(gateway.programs, frames) as seen:
        for number in range(COMMITS):
            assert programmer.apply_domain(without if number % 2 else POLICY, BLUE) == {}
    for name, found in seen.results.items():
        assert set(found) == {there[name], gone[name]}, name


def test_a_removed_domains_packets_are_unknown_at_once(gateway: Gateway) -> None:
    gateway.hold()
    assert gateway.programs.apply(with_domains(RED_DOMAIN)) == {}
    outcome = gateway.send(*FRAMES["from another subnet"])
    assert (outcome.reason, outcome.domain) == ("unknown_vsid", None)
    assert gateway.send(*FRAMES["from outside"]).action == "passed"
    assert gateway.send(*FRAMES["red's"]).domain == RED


def test_a_removed_hosts_number_admits_nobody_else_while_others_take_numbers(gateway: Gateway) -> None:
    """Host numbers are common to all domains; one that is given away while the old host still has it would admit it."""
    leaving = LookupRecord(6001, "10.1.1.40", "10-10-10-10-11-40", "192.168.1.40")
    coming = LookupRecord(6001, "10.1.1.50", "10-10-10-10-11-50", "192.168.1.50")
    policies = [
        changed(lookup_records=(*RECORDS, leaving)),
        POLICY,
        changed(lookup_records=(*RECORDS, coming)),
        POLICY,
    ]
    hop = underlay()["192.168.1.10"]
    ways = {**underlay(), "192.168.1.40": hop, "192.168.1.50": hop}
    packet = IP(src="10.1.1.11", dst="157.1.0.9") / UDP(sport=7, dport=8)
    frames = {
        "leaving": ("p0", tunnelled(packet, source="192.168.1.40")),
        "coming": ("p0", tunnelled(packet, source="192.168.1.50")),
        "staying": ("p0", tunnelled(packet, source="192.168.1.10")),
    }
    gateway.hold(underlay=ways)
    admitted = []
    for number in range(COMMITS):
        assert gateway.programs.apply(policies[number % 4]) == {}
        admitted.append({name for name, result in results(gateway, frames).items() if result[0] == XDP_REDIRECT})
    expected = [{"leaving", "staying"}, {"staying"}, {"coming", "staying"}, {"staying"}]
    assert admitted == [expected[number % 4] for number in range(COMMITS)]


def test_a_moved_machines_old_host_is_admitted_until_moves_are_forgotten(gateway: Gateway) -> None:
    moved = tuple(
        replace(record, provider_address="192.168.1.60") if record.provider_address == "192.168.6.4" else record
        for record in RECORDS
        if record.vsid != 6003
    )
    after = changed(lookup_records=moved, virtual_subnets=BLUE_DOMAIN.virtual_subnets[:2])
    frame = tunnelled(IP(src="10.1.6.21", dst="157.1.0.9") / ICMP(), 6002, "192.168.6.4")
    gateway.hold()
    assert gateway.programs.apply(after) == {}
    assert gateway.send("p0", frame).action == "forwarded"
    assert gateway.programs.apply(after) == {}
    assert gateway.send("p0", frame).action == "forwarded"
    gateway.programs.programmer.forget_moves()
    assert gateway.drops("p0", frame) == "source_not_admitted"
    assert gateway.programs.programmer.verify() == {}


def many_domains(count: int) -> Policy:
    return Policy(routing_domains=tuple(small_domain(number) for number in range(count)))


def small_domain(number: int, host: str = "192.168.1.10") -> RoutingDomain:
    """A domain with the addresses that all have, and a MAC that tells whose it is."""
    return RoutingDomain(
        id=f"11111111-2222-3333-4444-{number:012d}",
        name=f"domain{number}",
        virtual_subnets=(VirtualSubnet(10_000 + number, ("10.0.0.0/24",)),),
        lookup_records=(
            LookupRecord(10_000 + number, "10.0.0.5", f"02-00-00-05-{number >> 8:02X}-{number & 255:02X}", host),
            LookupRecord(10_000 + number, "10.0.0.6", f"02-00-00-06-{number >> 8:02X}-{number & 255:02X}", host),
        ),
    )


def test_300_domains_with_equal_addresses_keep_apart_and_a_change_of_one_touches_no_other(gateway: Gateway) -> None:
    policy = many_domains(300)
    gateway.hold(policy, neighbours_known=False)
    gateway.programs.numbers = {number: rdid for rdid, number in gateway.programs.programmer.numbers().items()}
    for number in range(300):
        frame = tunnelled(IP(src="10.0.0.6", dst="10.0.0.5") / UDP(sport=7, dport=8), 10_000 + number)
        outcome = gateway.send("p0", frame)
        assert (outcome.action, outcome.domain) == ("forwarded", policy.routing_domains[number].id)
        assert outcome.frame is not None
        assert bytes((2, 0, 0, 5, number >> 8, number & 255)) in outcome.frame
    before = blocks(gateway)
    domains = list(policy.routing_domains)
    domains[150] = small_domain(150, "192.168.2.20")
    assert gateway.programs.programmer.apply_domain(Policy((), tuple(domains)), domains[150].id) == {}
    after = blocks(gateway)
    assert {rdid for rdid in before if before[rdid] != after[rdid]} == {domains[150].id}


def blocks(gateway: Gateway) -> Mapping[str, tuple[int, bytes]]:
    """Where each domain's block lies, and what it holds."""
    maps = gateway.programs.datapath.maps
    arena, tables = maps["arena"].mmap(), maps["tables"].records(gateway.programs.layout.struct("table_word"))
    found = {}
    for rdid, number in gateway.programs.programmer.numbers().items():
        line, lines = int(tables[number]["line"]), int(tables[number]["lines"])
        found[rdid] = (line, arena[line * 64 : (line + lines) * 64].tobytes())
    return found


@pytest.mark.parametrize("changed_only", [False, True], ids=["apply", "apply_domain"])
def test_an_apply_of_what_is_there_changes_not_a_byte(gateway: Gateway, changed_only: bool) -> None:
    gateway.hold()
    names = ("arena", "root", "tables", "domains", "endpoints", "ports", "connections")
    before = {name: gateway.programs.datapath.maps[name].mmap().tobytes() for name in names}
    programmer = gateway.programs.programmer
    assert (programmer.apply_domain(POLICY, BLUE) if changed_only else programmer.apply(POLICY)) == {}
    assert {name: gateway.programs.datapath.maps[name].mmap().tobytes() for name in names} == before
