"""Load balancers, public addresses and compartments over commits, health changes and restarts: what the maps hold."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from socket import if_nametoindex
from typing import Any

import numpy
import pytest

from gateway.compartments.specification import Compartment, CompartmentSpecification, Leg
from gateway.configuration import Port
from gateway.policy.balancing import (
    BackendPool,
    BalancingRule,
    Frontend,
    LoadBalancer,
    PoolMember,
    PublicAddress,
)
from gateway.policy.connections import ConnectionRoute, IpsecConnection, PskAuthentication
from gateway.policy.internet import INTERNET
from gateway.policy.model import NetworkConnection, Policy, RoutingDomain, VirtualSubnet
from gateway.policy.secret import Secret
from gateway.programming.choices_block import read_choice
from gateway.programming.encoding import address_of, mac_bytes, words_of
from gateway.programming.hash_table import Region
from gateway.programming.programmer import Programmer
from gateway.underlay.network import Link
from lb.pools import Choice, MemberState, PoolState, pool_states
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import ip, needs_root
from tests.unit.model.support import BLUE, BLUE_DOMAIN, PORTS, RED, RED_DOMAIN, ROUTER, make_world
from tests.unit.programming.arena import find_cell

pytestmark = needs_root

ALL_PORTS = (
    *PORTS,
    Port(
        name="internet",
        role="external",
        interface="x1",
        vlan=40,
        addresses=("198.51.100.1/24",),
        gateways=("198.51.100.254",),
    ),
)
BLUE_MEMBERS = ("10.1.6.21", "10.1.1.11", "10.1.1.12")
VIP = "198.51.100.80"
CHOICE = Choice("web", "web", None)
TARGET_FRONTEND = 0x40000000
TRANSLATED = 16 << 8


def balanced(domain: RoutingDomain, members: tuple[str, ...], vip: str = VIP, **fields: Any) -> RoutingDomain:
    """The domain with a public frontend of one rule to a pool of these members."""
    balancer = LoadBalancer(
        "web",
        frontends=(Frontend("public", vip, True),),
        backend_pools=(BackendPool("web", tuple(map(PoolMember, members))),),
        rules=(BalancingRule("www", "public", "web", "tcp", 80),),
    )
    return replace(domain, load_balancers=(balancer,), **fields)


def policy(blue: RoutingDomain = BLUE_DOMAIN, red: RoutingDomain = RED_DOMAIN) -> Policy:
    return Policy(routing_domains=(blue, red))


BLUES = policy(balanced(BLUE_DOMAIN, BLUE_MEMBERS))
REDS = policy(red=balanced(RED_DOMAIN, ("10.1.1.11",)))


@dataclass
class Held:
    """What the datapath holds, as a packet would find it."""

    gateway: Gateway

    @property
    def programmer(self) -> Programmer:
        return self.gateway.programs.programmer

    def rows(self, name: str, kind: str) -> Any:
        return self.gateway.programs.datapath.maps[name].records(self.gateway.programs.layout.struct(kind))

    def block(self, map_name: str, number: int) -> Any:
        word = self.rows(map_name, "table_word")[number]
        arena = self.gateway.programs.datapath.maps["arena"].mmap()
        return arena[int(word["line"]) * 64 : (int(word["line"]) + int(word["lines"])) * 64].copy()

    def table(self, rdid: str) -> Any:
        return self.block("tables", self.programmer.numbers()[rdid])

    def row(self, block: Any, line: int, kind: str) -> Any:
        return block[line * 64 : line * 64 + 64].view(self.gateway.programs.layout.struct(kind))[0]

    def exact(self, rdid: str, address: str) -> tuple[int, int] | None:
        """Target and index of the exact entry of an IPv4 address."""
        block = self.table(rdid)
        region = Region(*(int(word) for word in self.row(block, 0, "table")["exact4"].tolist()))
        cell = find_cell(block, region, words_of(address)[3])
        return None if cell is None else (int(cell["target"]), int(cell["index"]))

    def owner(self, address: str) -> str | None:
        """The domain that a public address leads to, if its frontend is there."""
        found = self.exact(INTERNET, address)
        if found is None:
            return None
        assert found[0] & TARGET_FRONTEND
        rdid = next(rdid for rdid, number in self.programmer.numbers().items() if number == found[0] & 0xFFF)
        block = self.table(rdid)
        frontend = self.row(block, int(self.row(block, 2, "table_services")["frontends"]) + found[1], "frontend")
        assert address_of(frontend["address"]) == address
        return rdid

    def rule(self, rdid: str, number: int = 1) -> Any:
        block = self.table(rdid)
        return self.row(block, int(self.row(block, 2, "table_services")["numbered"]) + number, "rule")

    def members(self, rdid: str) -> tuple[dict[str, int], frozenset[str]]:
        """Numbers of the members of the domain's first rule, and who is down."""
        choice = self.block("choices", int(self.rule(rdid)["choice"]))
        return read_choice(choice, self.gateway.programs.layout)

    def choices(self) -> int:
        return int((self.rows("choices", "table_word")["line"] != 0).sum())

    def connections(self, rdid: str) -> Any:
        """The region of a domain's IPv4 connections."""
        row = self.rows("domains", "domain")[self.programmer.numbers()[rdid]]
        first, lines = int(row["connections4"]), int(row["connections4_lines"])
        kind = self.gateway.programs.layout.struct("connection")
        return self.gateway.programs.datapath.maps["connections"].mmap()[first * 64 : (first + lines) * 64].view(kind)

    def remember(self, rdid: str, rule: int, member: int, client: int) -> int:
        """Write a translated connection, as the programs do; return its place."""
        entries = self.connections(rdid)
        place = int(numpy.flatnonzero(entries["meta"] == 0)[0])
        entries[place] = (client, 1234 | rule << 16, member, 0, 6 | TRANSLATED | 22 << 24)
        return place

    def apply(self, wanted: Policy) -> None:
        assert self.gateway.programs.apply(wanted) == {}
        assert self.programmer.verify() == {}

    def restart(self) -> Programmer:
        world = make_world()
        programmer = self.gateway.programs.restarted(ALL_PORTS, world.router_mac, world.dscp)
        programmer.links_changed(links())
        self.gateway.programs.programmer = programmer
        return programmer


def links() -> dict[str, Link]:
    return {
        each.name: Link(each.name, if_nametoindex(each.name), mac_bytes(each.mac), each.mtu, True)
        for each in make_world().interfaces.values()
    }


@pytest.fixture
def held(gateway: Gateway) -> Held:
    world = make_world(policy())
    world.ports = ALL_PORTS
    assert gateway.programs.place(world) == {}
    return Held(gateway)


def down(*addresses: str, domain: RoutingDomain = BLUES.routing_domains[0]) -> Mapping[Choice, PoolState]:
    """The states of the pool when these members are down."""
    state = pool_states(domain, {})[CHOICE]
    members = (MemberState(one.customer_address, one.weight, "down" if one.customer_address in addresses else one.state)
               for one in state.members)  # fmt: skip
    return {CHOICE: replace(state, members=tuple(members))}


def test_the_internet_is_a_domain_of_its_own_where_an_external_port_has_addresses(held: Held) -> None:
    number = held.programmer.numbers()[INTERNET]
    root = held.rows("root", "root")
    arena = held.gateway.programs.datapath.maps["arena"].mmap()
    directory = held.row(arena, int(root["directory"][0]), "directory")
    assert directory["internet"] == number
    assert held.exact(INTERNET, "198.51.100.1") is not None
    assert held.programmer.apply(policy()) == {}


def test_a_port_that_a_tenants_connection_uses_is_not_the_internets(held: Held) -> None:
    connection = NetworkConnection("mine", "internet", ("198.51.100.2/24",))
    using = replace(BLUE_DOMAIN, network_connections=(*BLUE_DOMAIN.network_connections, connection))
    held.apply(policy(using))
    assert INTERNET not in held.programmer.numbers()
    arena = held.gateway.programs.datapath.maps["arena"].mmap()
    assert held.row(arena, int(held.rows("root", "root")["directory"][0]), "directory")["internet"] == 0
    held.apply(policy())
    assert held.exact(INTERNET, "198.51.100.1") is not None


def test_a_public_address_leads_to_its_domain_comes_goes_and_moves(held: Held) -> None:
    assert held.owner(VIP) is None
    held.apply(BLUES)
    assert held.owner(VIP) == BLUE
    held.apply(REDS)
    assert held.owner(VIP) == RED
    held.apply(policy(red=replace(RED_DOMAIN, public_addresses=(PublicAddress(VIP, "10.1.1.11"),))))
    assert held.owner(VIP) == RED
    held.apply(policy())
    assert held.owner(VIP) is None


def switches(held: Held, wanted: Policy, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Apply; of each table that is switched, whose it is and who owns the VIP in the Internet's table then."""
    memory = held.programmer._memory
    seen: list[tuple[str, str | None]] = []
    switch = memory.switch

    def watched(number: int, rdid: str, placed: Any) -> None:
        switch(number, rdid, placed)
        found = held.exact(INTERNET, VIP)
        numbers = {number: rdid for rdid, number in held.programmer.numbers().items()}
        seen.append((rdid, numbers[found[0] & 0xFFF] if found else None))

    monkeypatch.setattr(memory, "switch", watched)
    assert held.gateway.programs.apply(wanted) == {}
    monkeypatch.undo()
    return seen


def test_a_public_address_is_found_only_while_its_domains_table_knows_it(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert switches(held, BLUES, monkeypatch)[-1] == (INTERNET, BLUE)
    assert switches(held, BLUES, monkeypatch)[-1] == (RED, BLUE)  # nothing of the Internet's changed
    moving = switches(held, REDS, monkeypatch)
    assert moving == [(INTERNET, None), (BLUE, None), (RED, None), (INTERNET, RED)]
    assert switches(held, policy(), monkeypatch)[0] == (INTERNET, None)


def test_a_policy_that_leaves_public_addresses_alone_leaves_the_internets_table_alone(held: Held) -> None:
    held.apply(BLUES)
    before = held.rows("tables", "table_word")[held.programmer.numbers()[INTERNET]].copy()
    more = replace(BLUES.routing_domains[0], virtual_subnets=(*BLUE_DOMAIN.virtual_subnets, VirtualSubnet(6009, ())))
    held.apply(policy(more))
    assert held.rows("tables", "table_word")[held.programmer.numbers()[INTERNET]] == before


def test_a_public_address_that_a_failed_domain_holds_is_given_to_no_other(held: Held) -> None:
    held.apply(BLUES)
    loops = tuple(replace(each, metric=0) for each in BLUE_DOMAIN.customer_routes[:1])
    hops = tuple(replace(BLUE_DOMAIN.lookup_records[3], customer_address=f"10.1.6.{n}") for n in range(100, 165))
    too_many = replace(
        BLUE_DOMAIN,
        lookup_records=hops,
        customer_routes=tuple(replace(loops[0], next_hop=each.customer_address) for each in hops),
    )
    errors = held.gateway.programs.apply(policy(too_many, REDS.routing_domains[1]))
    assert errors.keys() == {BLUE, RED}
    assert f"{VIP} is still held by" in errors[RED]
    assert held.owner(VIP) == BLUE


def test_health_changes_one_choice_and_no_table(held: Held) -> None:
    held.apply(BLUES)
    before = held.rows("tables", "table_word").copy()
    choice = int(held.rule(BLUE)["choice"])
    assert held.programmer.health_changed(BLUE, down("10.1.1.11")) == {}
    numbers, unhealthy = held.members(BLUE)
    assert (set(numbers), unhealthy) == (set(BLUE_MEMBERS), {"10.1.1.11"})
    assert (held.rows("tables", "table_word") == before).all()
    assert int(held.rule(BLUE)["choice"]) == choice
    assert held.programmer.members_down()[BLUE] == {CHOICE: {"10.1.1.11"}}
    assert held.programmer.verify() == {}


def test_a_commit_keeps_the_health_that_was_told_last(held: Held) -> None:
    held.apply(BLUES)
    assert held.programmer.health_changed(BLUE, down("10.1.1.11")) == {}
    held.apply(policy(balanced(BLUE_DOMAIN, (*BLUE_MEMBERS, "10.1.6.22"))))
    numbers, unhealthy = held.members(BLUE)
    assert (set(numbers), unhealthy) == ({*BLUE_MEMBERS, "10.1.6.22"}, {"10.1.1.11"})


def test_health_that_is_told_before_its_domain_counts_when_it_comes(held: Held) -> None:
    assert held.programmer.health_changed(BLUE, down("10.1.1.11")) == {}
    held.apply(BLUES)
    assert held.members(BLUE)[1] == {"10.1.1.11"}


def test_a_restart_takes_nobody_who_is_down_and_rewrites_nothing(held: Held) -> None:
    held.apply(BLUES)
    assert held.programmer.health_changed(BLUE, down("10.1.1.11")) == {}
    names = ("arena", "root", "tables", "choices", "domains")
    before = {name: held.gateway.programs.datapath.maps[name].mmap().tobytes() for name in names}
    programmer = held.restart()
    assert programmer.compartments_changed({}) == {}
    assert programmer.apply(BLUES) == {}
    assert {name: held.gateway.programs.datapath.maps[name].mmap().tobytes() for name in names} == before
    assert programmer.members_down()[BLUE] == {CHOICE: {"10.1.1.11"}}
    assert programmer.health_changed(BLUE, down()) == {}
    assert held.members(BLUE)[1] == frozenset()


def test_numbers_last_over_a_restart_that_finds_another_policy(held: Held) -> None:
    held.apply(BLUES)
    rule, (numbers, _) = held.rule(BLUE).tobytes(), held.members(BLUE)
    kept = held.remember(BLUE, 1, numbers[BLUE_MEMBERS[0]], 1)
    programmer = held.restart()
    assert programmer.apply(policy(balanced(BLUE_DOMAIN, (*BLUE_MEMBERS[:2], "10.1.6.22")))) == {}
    after, _ = held.members(BLUE)
    assert {address: after[address] for address in BLUE_MEMBERS[:2]} == {
        address: numbers[address] for address in BLUE_MEMBERS[:2]
    }
    assert after["10.1.6.22"] not in numbers.values()
    assert held.rule(BLUE)["port"].tobytes() in rule
    assert held.connections(BLUE)[kept]["meta"] != 0


def test_a_members_number_is_given_again_only_when_no_connection_carries_it(held: Held) -> None:
    held.apply(BLUES)
    numbers, _ = held.members(BLUE)
    stale = held.remember(BLUE, 1, numbers["10.1.1.12"], 1)
    kept = held.remember(BLUE, 1, numbers["10.1.1.11"], 2)
    held.apply(policy(balanced(BLUE_DOMAIN, BLUE_MEMBERS[:2])))
    assert held.connections(BLUE)[stale]["meta"] != 0
    held.apply(policy(balanced(BLUE_DOMAIN, (*BLUE_MEMBERS[:2], "10.1.6.22"))))
    assert held.members(BLUE)[0]["10.1.6.22"] == numbers["10.1.1.12"]
    assert held.connections(BLUE)[stale]["meta"] == 0
    assert held.connections(BLUE)[kept]["meta"] != 0


def test_what_access_lists_forget_leaves_translated_connections_alone(held: Held) -> None:
    held.apply(BLUES)
    place = held.remember(BLUE, 1, 1, 1)
    entries = held.connections(BLUE)
    other = place + 1
    entries[other] = (1, 2, 3, 4, 6 | 22 << 24)
    held.programmer._memory.forget_connections_of(held.programmer.numbers()[BLUE], 22)
    assert entries[place]["meta"] != 0
    assert entries[other]["meta"] == 0


def test_choices_that_go_and_come_use_no_more_memory(held: Held) -> None:
    held.apply(BLUES)
    used, choices = held.programmer.used_lines(), held.choices()
    for number in range(20):
        held.apply(policy(balanced(BLUE_DOMAIN, BLUE_MEMBERS[: 1 + number % 3])))
        held.programmer.health_changed(BLUE, down(*BLUE_MEMBERS[: number % 3]))
    held.programmer.health_changed(BLUE, down())
    held.apply(BLUES)
    assert (held.programmer.used_lines(), held.choices()) == (used, choices)
    held.apply(policy())
    assert held.choices() == 0


def test_a_choice_that_no_rule_names_is_freed_by_a_restart(held: Held) -> None:
    """Of a daemon that was killed between a choice's word and its domain's."""
    held.apply(BLUES)
    used = held.programmer.used_lines()
    lost = held.programmer._memory.place(numpy.zeros(640, numpy.uint8))
    held.programmer._memory.switch_choice(77, lost)
    assert held.programmer.used_lines() != used
    assert held.restart().apply(BLUES) == {}
    assert (held.programmer.used_lines(), held.choices()) == (used, 1)


def test_a_choice_that_is_not_what_was_written_is_noticed(held: Held) -> None:
    held.apply(BLUES)
    words = held.rows("choices", "table_word")
    number = int(held.rule(BLUE)["choice"])
    at = int(words[number]["line"]) * 64 + 70
    arena = held.gateway.programs.datapath.maps["arena"].mmap()
    arena[at] ^= 1
    assert "a choice of members in the datapath is not what was written" in held.programmer.verify()[BLUE]
    arena[at] ^= 1
    words["line"][number] += 1
    assert "uses another choice of members" in held.programmer.verify()[BLUE]
    words["line"][number] -= 1
    assert held.programmer.verify() == {}


def test_a_new_domain_that_is_refused_leaves_nothing_behind(held: Held) -> None:
    red_only = Policy(routing_domains=(RED_DOMAIN,))
    held.apply(red_only)
    used, numbers = held.programmer.used_lines(), held.programmer.numbers()
    hops = tuple(replace(RED_DOMAIN.lookup_records[0], customer_address=f"10.1.1.{n}") for n in range(100, 165))
    routes = tuple(replace(BLUE_DOMAIN.customer_routes[0], next_hop=each.customer_address) for each in hops)
    failing = replace(RED_DOMAIN, lookup_records=hops, customer_routes=routes, virtual_subnets=())
    blue = replace(balanced(BLUE_DOMAIN, BLUE_MEMBERS), virtual_subnets=(VirtualSubnet(5001, ("10.1.0.0/16",)),),
                   lookup_records=(), load_balancers=())  # fmt: skip
    errors = held.gateway.programs.apply(policy(blue, failing))
    assert errors.keys() == {BLUE, RED}
    assert "VSID 5001 is still held" in errors[BLUE]
    assert (held.programmer.used_lines(), held.programmer.numbers()) == (used, numbers)
    before = held.rows("root", "root")["directory"][0]
    held.programmer.links_changed({"x0": None})
    assert held.rows("root", "root")["directory"][0] != before  # links still change the directory
    held.programmer.links_changed({"x0": links()["x0"]})
    held.apply(red_only)


PEER = "203.0.113.20"
TUNNEL = IpsecConnection(
    "site", PEER, PskAuthentication(Secret("not a good one")), routes=(ConnectionRoute("10.2.0.0/16"),)
)
TUNNELLED = replace(BLUE_DOMAIN, network_connections=(*BLUE_DOMAIN.network_connections, TUNNEL))


@pytest.fixture
def compartment(held: Held) -> Iterator[Compartment]:
    names = ("gi", "go")
    for name in names:
        ip(f"link add {name} type veth peer name {name}-in")
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
        ip(f"link set {name} up")
    legs = [
        Leg(name, if_nametoindex(name), f"{name}-in", f"02:00:00:00:00:0{number}") for number, name in enumerate(names)
    ]
    specification = CompartmentSpecification(BLUE, ("10.1.1.254",), ("198.51.100.1",))
    try:
        yield Compartment(specification, "/run/netns/none", *legs)
    finally:
        for name in names:
            ip(f"link del {name}")


def port_row(held: Held, interface: str) -> Any:
    rows = held.rows("ports", "port")
    found = numpy.flatnonzero(rows["interface"] == if_nametoindex(interface)).tolist()
    return (found[0], rows[found[0]]) if found else (0, None)


def test_a_compartment_gets_what_is_behind_its_tunnels_and_its_peers_packets(
    held: Held, compartment: Compartment
) -> None:
    held.apply(policy(TUNNELLED))
    assert held.exact(INTERNET, "198.51.100.1") == (0xFFFFFFFF, 0)
    assert held.programmer.compartments_changed({BLUE: compartment}) == {}
    assert held.programmer.verify() == {}
    number, row = port_row(held, "gi")
    assert row["mac"].tobytes() == mac_bytes(ROUTER)
    assert held.row(held.table(BLUE), 3, "table_compartment")["port"] == number
    target, index = held.exact(INTERNET, "198.51.100.1") or (0, 0)
    assert target == TARGET_FRONTEND | held.programmer.numbers()[INTERNET]
    block = held.table(INTERNET)
    frontend = held.row(block, int(held.row(block, 2, "table_services")["frontends"]) + index, "frontend")
    peers = Region(*(int(word) for word in frontend["peers"].tolist()))
    cell = find_cell(block, peers, words_of(PEER)[3])
    assert (frontend["own"], cell["target"]) == (1, port_row(held, "go")[0])
    attached = held.gateway.programs.datapath.attached()
    assert {if_nametoindex("gi"), if_nametoindex("go")} <= attached.keys()


def test_a_compartment_that_goes_leaves_no_port_and_its_tunnels_closed(held: Held, compartment: Compartment) -> None:
    held.apply(policy(TUNNELLED))
    assert held.programmer.compartments_changed({BLUE: compartment}) == {}
    assert held.programmer.compartments_changed({}) == {}
    assert held.programmer.verify() == {}
    assert held.row(held.table(BLUE), 3, "table_compartment")["port"] == 0
    assert held.exact(INTERNET, "198.51.100.1") == (0xFFFFFFFF, 0)
    assert port_row(held, "gi") == (0, None)
    assert held.programmer.compartments_changed({BLUE: compartment}) == {}
    assert held.row(held.table(BLUE), 3, "table_compartment")["port"] == port_row(held, "gi")[0] != 0


def test_compartments_that_a_restart_finds_change_nothing(held: Held, compartment: Compartment) -> None:
    held.apply(policy(TUNNELLED))
    assert held.programmer.compartments_changed({BLUE: compartment}) == {}
    names = ("arena", "root", "tables", "choices", "domains", "ports")
    before = {name: held.gateway.programs.datapath.maps[name].mmap().tobytes() for name in names}
    programmer = held.restart()
    assert programmer.compartments_changed({BLUE: compartment}) == {}
    assert programmer.apply(policy(TUNNELLED)) == {}
    assert {name: held.gateway.programs.datapath.maps[name].mmap().tobytes() for name in names} == before
