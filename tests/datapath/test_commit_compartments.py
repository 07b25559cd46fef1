"""Compartments that come and go: what the maps hold."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from socket import if_nametoindex
from typing import Any

import numpy
import pytest

from gateway.compartments.specification import Compartment, CompartmentSpecification, Leg
from gateway.policy.connections import ConnectionRoute, IpsecConnection, PskAuthentication
from gateway.policy.internet import INTERNET
from gateway.policy.secret import Secret
from gateway.programming.encoding import mac_bytes, words_of
from gateway.programming.hash_table import Region
from tests.datapath.held import TARGET_FRONTEND, Held, policy
from tests.datapath.loader_support import ip, needs_root
from tests.unit.model.support import BLUE, BLUE_DOMAIN, ROUTER
from tests.unit.programming.arena import find_cell

pytestmark = needs_root


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


def test_a_compartment_for_fragments_is_told_of_with_its_domain(held: Held, compartment: Compartment) -> None:
    specification = CompartmentSpecification(BLUE, (), for_fragments=True)
    ordering = replace(compartment, specification=specification, outside=None)
    held.apply(policy())
    assert held.programmer.compartments_changed({specification.key: ordering}) == {}
    assert held.programmer.verify() == {}
    row = held.row(held.table(BLUE), 3, "table_compartment")
    assert (row["port"], row["fragments"]) == (0, port_row(held, "gi")[0])
    assert row["fragments_mac"].tobytes() == mac_bytes(ordering.inside.mac)
    assert held.programmer.compartments_changed({}) == {}
    assert held.row(held.table(BLUE), 3, "table_compartment")["fragments"] == 0
    assert port_row(held, "gi") == (0, None)
