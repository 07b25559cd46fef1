"""Load balancing and NAT as a packet finds them in a routing domain's block."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.policy.balancing import BackendPool, BalancingRule, PoolMember
from gateway.policy.model import LookupRecord, RoutingDomain, VirtualSubnet
from gateway.programming.block import Bytes
from gateway.programming.encoding import address_of, mac_bytes, packed, port_word, words_of
from gateway.programming.hash_table import Region
from gateway.programming.planned_services import Plan, PlannedFrontend
from gateway.programming.routes import Inside
from gateway.programming.services_block import FALLBACKS, TARGET_FRONTEND, idle_byte
from tests.unit.programming.arena import LINE_MASK, find_cell, search_address
from tests.unit.programming.service_samples import (
    BALANCER,
    BLUE,
    NUMBER,
    ROUTER_MAC,
    WEB,
    Numbered,
    compiled,
    enum,
    header,
    row,
    tunnel,
)

TCP, UDP = 6, 17
LEAF_EXACT = 0x40000000


def cell_of(block: Bytes, line: str, region: str, address: str) -> Any:
    """The cell of an address in the table of its family."""
    six = ":" in address
    words = words_of(address)
    found = header(block, line)[f"{region}{6 if six else 4}"]
    return find_cell(block, Region(*(int(word) for word in found.tolist())), words if six else words[3])


def leaf_of(block: Bytes, address: str) -> int:
    return search_address(block, int(header(block, "table")[f"prefixes{6 if ':' in address else 4}"]), packed(address))


def hop_of(block: Bytes, address: str) -> Any:
    return row(block, leaf_of(block, address) & LINE_MASK, "next_hop")


def frontend_of(block: Bytes, number: int) -> Any:
    return row(block, int(header(block, "table_services")["frontends"]) + number, "frontend")


def rule_of(block: Bytes, frontend: int, protocol: int, port: int) -> Any:
    """The rule that a packet to a port of a frontend finds, None if there is none."""
    services = header(block, "table_services")
    region = Region(*(int(word) for word in services["rules"].tolist()))
    cell = find_cell(block, region, (frontend + 1) << 17 | (protocol == UDP) << 16 | port)
    if cell is None:
        return None
    assert 0 < cell["target"] < services["rule_count"]
    return row(block, int(services["numbered"]) + int(cell["target"]), "rule")


def translated_of(block: Bytes, address: str) -> Any:
    cell = cell_of(block, "table_services", "translated", address)
    return None if cell is None else row(block, int(cell["target"]), "translated")


def fallbacks_of(block: Bytes, address: str) -> set[tuple[int, str]]:
    """(port of the machine, protocol and port of the rule) of what stands for it outside."""
    entry = translated_of(block, address)
    found = set()
    for fallback in entry["fallbacks"][: entry["count"]]:
        rule = row(block, int(header(block, "table_services")["numbered"]) + int(fallback["rule"]), "rule")
        found.add((port_word(int(fallback["port"])), f"{rule['protocol']}/{port_word(int(rule['port']))}"))
    return found


@pytest.fixture(scope="module")
def block() -> Bytes:
    return compiled(BLUE)


def test_a_domain_without_services_says_so() -> None:
    bare = replace(BLUE, load_balancers=(), public_addresses=())
    assert not header(compiled(bare), "table")["flags"] & 2
    assert header(compiled(BLUE), "table")["flags"] & 2


def test_an_internal_frontend_is_an_exact_entry_of_its_own_domain_with_the_routers_mac(block: Bytes) -> None:
    cell = cell_of(block, "table", "exact", "10.1.1.200")
    assert cell["target"] == TARGET_FRONTEND | NUMBER
    assert cell["mac"].tobytes() == mac_bytes(ROUTER_MAC)
    frontend = frontend_of(block, int(cell["index"]))
    assert (address_of(frontend["address"]), frontend["vsid"]) == ("10.1.1.200", 6001)
    assert leaf_of(block, "10.1.1.200") & LEAF_EXACT


def test_a_public_frontend_is_no_entry_of_its_domains_table(block: Bytes) -> None:
    assert cell_of(block, "table", "exact", "198.51.100.80") is None
    assert cell_of(block, "table", "exact", "198.51.100.81") is None
    assert cell_of(block, "table", "exact", "2001:db8::80") is None


def test_a_frontend_beats_the_record_that_tells_hosts_of_it() -> None:
    record = LookupRecord(6001, "10.1.1.200", "10-10-10-10-66-66", "192.168.6.2")
    told = compiled(replace(BLUE, lookup_records=(*BLUE.lookup_records, record)))
    cell = cell_of(told, "table", "exact", "10.1.1.200")
    assert (cell["target"], cell["mac"].tobytes()) == (TARGET_FRONTEND | NUMBER, mac_bytes(ROUTER_MAC))


def test_every_rule_is_found_by_frontend_protocol_and_port_and_no_other_is(block: Bytes) -> None:
    www = rule_of(block, 0, TCP, 80)
    assert (www["protocol"], www["distribution"], www["is_public"], www["floating"]) == (TCP, 2, 1, 0)
    assert (port_word(int(www["port"])), port_word(int(www["backend_port"]))) == (80, 8080)
    assert (address_of(www["address"]), www["frontend"]) == ("198.51.100.80", 0)
    assert www["choice"] == 100
    dns = rule_of(block, 0, UDP, 53)
    assert (dns["floating"], dns["idle"], dns["distribution"], dns["choice"]) == (1, 0, 5, 100)
    api = rule_of(block, 2, TCP, 8080)
    assert (api["is_public"], address_of(api["address"])) == (0, "10.1.1.200")
    assert address_of(rule_of(block, 1, TCP, 80)["address"]) == "2001:db8::80"
    assert rule_of(block, 0, TCP, 2222)["choice"] == 102
    for nobody in ((0, UDP, 80), (0, TCP, 53), (2, TCP, 80), (3, TCP, 80), (0, TCP, 81)):
        assert rule_of(block, *nobody) is None


def test_a_public_address_of_one_machine_names_it_both_ways(block: Bytes) -> None:
    entry = translated_of(block, "10.1.1.99")
    frontend = frontend_of(block, int(entry["frontend_after"]) - 1)
    assert frontend["kind"] == enum("frontend_kind")["FRONTEND_ONE_TO_ONE"]
    assert (address_of(frontend["address"]), address_of(frontend["machine"])) == ("198.51.100.81", "10.1.1.99")
    assert entry["count"] == 0


def test_members_in_any_state_are_translated_and_others_are_not(block: Bytes) -> None:
    draining = (PoolMember(WEB[0]), PoolMember(WEB[1], state="draining"), PoolMember(WEB[2]))
    balancer = replace(BALANCER, backend_pools=(BackendPool("web", draining), BALANCER.backend_pools[1]))
    after = compiled(replace(BLUE, load_balancers=(balancer,)))
    for address in (*WEB, "fd00:1::11"):
        assert translated_of(block, address)["frontend_after"] == 0
        assert translated_of(after, address) is not None
    assert translated_of(block, "10.1.1.200") is None
    assert translated_of(block, "10.1.1.98") is None


def test_a_port_of_a_machine_falls_back_to_the_only_public_rule_that_leads_there(block: Bytes) -> None:
    assert fallbacks_of(block, WEB[1]) == {(8080, "6/80"), (53, "17/53")}
    assert fallbacks_of(block, WEB[0]) == {(8080, "6/80"), (53, "17/53"), (22, "6/2222")}
    assert fallbacks_of(block, "fd00:1::11") == {(80, "6/80")}


def test_two_public_rules_to_one_port_leave_no_fallback_for_it() -> None:
    second = BalancingRule("also", "public", "web", "tcp", 81, backend_port=8080)
    balancer = replace(BALANCER, rules=(*BALANCER.rules, second))
    assert fallbacks_of(compiled(replace(BLUE, load_balancers=(balancer,))), WEB[1]) == {(53, "17/53")}


def test_more_ports_than_there_is_room_for_leave_some_without_fallback() -> None:
    rules = tuple(BalancingRule(f"r{port}", "public", "web", "tcp", port) for port in range(1000, 1020))
    block = compiled(replace(BLUE, load_balancers=(replace(BALANCER, rules=rules, inbound_nat_rules=()),)))
    assert fallbacks_of(block, WEB[1]) == {(port, f"6/{port}") for port in range(1000, 1000 + FALLBACKS)}


def test_a_virtual_subnet_knows_its_way_to_the_outside_for_each_family(block: Bytes) -> None:
    first = int(header(block, "table")["subnets"])
    subnets = [row(block, first + index, "subnet") for index in (0, 1)]
    numbered = int(header(block, "table_services")["numbered"])
    rules = [row(block, numbered + int(subnets[0][f"outbound{version}"]), "rule") for version in (4, 6)]
    assert [rule["kind"] for rule in rules] == [enum("rule_kind")["RULE_OUTBOUND"]] * 2
    assert [address_of(rule["address"]) for rule in rules] == ["198.51.100.80", "2001:db8::80"]
    assert (subnets[1]["outbound4"], subnets[1]["outbound6"]) == (0, 0)


@pytest.mark.parametrize("seconds", [1, 4, 8, 9, 60, 240, 241, 1800, 7200, 15_000])
def test_an_idle_limit_is_never_shorter_than_asked_and_at_most_an_eighth_longer(seconds: int) -> None:
    value = idle_byte(seconds)
    limit_s = (1 + (value & 7)) * (1 << (value >> 3)) * 2**33 / 1e9
    assert seconds <= limit_s <= max(seconds * 1.25, seconds + 8.6)


def test_an_idle_limit_stays_within_what_connections_can_tell_apart() -> None:
    assert idle_byte(86_400) == idle_byte(40_000)
    value = idle_byte(86_400)
    assert (1 + (value & 7)) << (value >> 3) < 2047


def test_frontends_of_others_lie_in_the_internets_table_where_the_trie_leads_to_them() -> None:
    elsewhere = {"198.51.100.80": (7, 0), "2001:db8::80": (7, 1), "198.51.100.81": (8, 3)}
    internet = RoutingDomain(id=BLUE.id, name="internet", network_connections=BLUE.network_connections)
    block = compiled(internet, elsewhere=elsewhere)
    for address, (domain, frontend) in elsewhere.items():
        cell = cell_of(block, "table", "exact", address)
        assert (cell["target"], cell["index"]) == (TARGET_FRONTEND | domain, frontend)
        assert leaf_of(block, address) & LEAF_EXACT
    assert not leaf_of(block, "198.51.100.82") & LEAF_EXACT
    assert not header(block, "table")["flags"] & 2


def test_the_end_of_tunnels_leads_each_peer_to_its_compartment() -> None:
    peers = {"203.0.113.20": (41, "02:00:00:00:00:41"), "203.0.113.21": (42, "02:00:00:00:00:42")}
    plan = Plan((PlannedFrontend(0, "157.1.0.254", peers=peers, own=True), PlannedFrontend(1, "157.1.0.10", peers={})))
    block = compiled(replace(BLUE, load_balancers=(), public_addresses=()), plan)
    cell = cell_of(block, "table", "exact", "157.1.0.254")
    assert cell["target"] == TARGET_FRONTEND | NUMBER
    frontend = frontend_of(block, int(cell["index"]))
    assert (frontend["kind"], frontend["own"]) == (enum("frontend_kind")["FRONTEND_STEERED"], 1)
    region = Region(*(int(word) for word in frontend["peers"].tolist()))
    for peer, (port, mac) in peers.items():
        found = find_cell(block, region, words_of(peer)[3])
        assert (found["target"], found["mac"].tobytes()) == (port, mac_bytes(mac))
    assert find_cell(block, region, words_of("203.0.113.22")[3]) is None
    assert frontend_of(block, 1)["own"] == 0
    assert leaf_of(block, "157.1.0.10") & LEAF_EXACT


INSIDE = Inside(("leg tgi1", 0), "02:00:00:00:00:31", ("10.1.1.254", "fd00:1::ffff"))


def test_a_compartment_is_told_and_its_addresses_lead_into_it() -> None:
    places = Numbered()
    block = compiled(BLUE, inside=INSIDE, legs=(INSIDE.port,), places=places)
    compartment = header(block, "table_compartment")
    assert compartment["port"] == places.ports[INSIDE.port]
    assert compartment["service4"] == words_of("10.1.1.254")[3]
    assert tuple(compartment["service6"].tolist()) == words_of("fd00:1::ffff")
    for address in INSIDE.addresses:
        hop = hop_of(block, address)
        assert (hop["kind"], hop["target"]) == (enum("next_hop_kind")["NEXT_HOP_EXTERNAL"], compartment["port"])
        assert hop["mac"].tobytes() == mac_bytes(INSIDE.mac)
        assert hop["inside"] == 6001
    region = Region(*(int(word) for word in header(block, "table_more")["links"].tolist()))
    side = find_cell(block, region, int(compartment["port"]))
    router = row(block, int(header(block, "table")["subnets"]) + int(side["index"]), "subnet")
    assert (router["vsid"], router["router4"]) == (0, words_of("10.1.1.1")[3])


def test_what_is_behind_a_tunnel_goes_to_the_compartment_or_nowhere() -> None:
    tunnels = (tunnel("on", "10.2.0.0/16", "fd00:2::/48"), tunnel("off", "10.3.0.0/16", enabled=False))
    corpnet = replace(BLUE.network_connections[0], routes=(replace(tunnels[0].routes[0], prefix="0.0.0.0/0"),))
    domain = replace(BLUE, network_connections=(corpnet, *tunnels))
    kinds, verdicts = enum("next_hop_kind"), enum("verdict")
    joined, alone = compiled(domain, inside=INSIDE, legs=(INSIDE.port,)), compiled(domain)
    assert hop_of(joined, "10.2.3.4")["mac"].tobytes() == mac_bytes(INSIDE.mac)
    assert hop_of(joined, "fd00:2::1")["target"] == header(joined, "table_compartment")["port"]
    for block, address in ((joined, "10.3.0.1"), (alone, "10.2.3.4"), (alone, "fd00:2::1"), (alone, "10.3.0.1")):
        hop = hop_of(block, address)
        assert (hop["kind"], hop["reason"]) == (kinds["NEXT_HOP_UNREACHABLE"], verdicts["DROP_NO_RECORD"])
    assert hop_of(alone, "10.4.0.1")["kind"] == kinds["NEXT_HOP_EXTERNAL"]


def test_an_equal_way_that_is_open_is_taken_instead_of_a_closed_tunnels() -> None:
    tunnels = (tunnel("on", "10.2.0.0/16"), tunnel("off", "10.2.0.0/16", enabled=False))
    block = compiled(replace(BLUE, network_connections=tunnels), inside=INSIDE, legs=(INSIDE.port,))
    assert leaf_of(block, "10.2.0.1") >> 24 & 0x3F == 0
    assert hop_of(block, "10.2.0.1")["mac"].tobytes() == mac_bytes(INSIDE.mac)


def test_distributed_routing_is_told(block: Bytes) -> None:
    assert header(block, "table_services")["distributed"] == 0
    assert header(compiled(replace(BLUE, routing="distributed")), "table_services")["distributed"] == 1


def test_many_frontends_and_rules_are_all_found() -> None:
    frontends = tuple(
        replace(BALANCER.frontends[2], name=f"f{number}", address=f"10.9.{number >> 8}.{number & 255}")
        for number in range(1, 2001)
    )
    rules = tuple(BalancingRule(f"r{each.name}", each.name, "web", "tcp", 80) for each in frontends)
    subnets = (*BLUE.virtual_subnets[1:], VirtualSubnet(6001, ("10.9.0.0/16", "10.1.1.0/24")))
    balancer = replace(BALANCER, frontends=frontends, rules=rules, inbound_nat_rules=(), outbound_nat=())
    block = compiled(replace(BLUE, virtual_subnets=subnets, load_balancers=(balancer,)))
    for frontend in frontends:
        number = int(cell_of(block, "table", "exact", frontend.address)["index"])
        assert address_of(frontend_of(block, number)["address"]) == frontend.address
        assert address_of(rule_of(block, number, TCP, 80)["address"]) == frontend.address
