"""What the real datapath holds after commits, found as packets find it; and policies with services in few words."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from socket import if_nametoindex
from typing import Any

import numpy

from gateway.configuration import Port
from gateway.policy.balancing import (
    BackendPool,
    BalancingRule,
    Frontend,
    LoadBalancer,
    PoolMember,
)
from gateway.policy.internet import INTERNET
from gateway.policy.model import CustomerRoute, Policy, RoutingDomain
from gateway.programming.choices_block import read_choice
from gateway.programming.encoding import address_of, mac_bytes, words_of
from gateway.programming.hash_table import Region
from gateway.programming.programmer import Programmer
from gateway.underlay.network import Link
from lb.pools import Choice, PoolState, pool_states
from tests.datapath.cases import Gateway
from tests.unit.model.support import BLUE_DOMAIN, PORTS, RED_DOMAIN, make_world
from tests.unit.programming.arena import find_cell

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


def down(*addresses: str, domain: RoutingDomain = BLUES.routing_domains[0]) -> Mapping[Choice, PoolState]:
    """The states of the pool when these members are down."""
    state = pool_states(domain, {})[CHOICE]
    members = (replace(one, state="down") if one.customer_address in addresses else one for one in state.members)
    return {CHOICE: replace(state, members=tuple(members))}


def unprogrammable(domain: RoutingDomain) -> RoutingDomain:
    """The domain without connections, and with more equal next hops than fit."""
    record = domain.lookup_records[0]
    hops = tuple(replace(record, customer_address=f"10.1.1.{number}") for number in range(100, 165))
    routes = tuple(CustomerRoute("172.30.0.0/16", each.customer_address) for each in hops)
    return replace(domain, lookup_records=hops, customer_routes=routes, network_connections=())
