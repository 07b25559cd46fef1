"""Two tenants with equal addresses, NVGRE and VXLAN, each with a CorpNet of equal addresses."""

from collections.abc import Callable
from functools import partial

import pytest

from deploy.lab import gateway, probes
from deploy.lab.running import RunningLab
from gateway.datapath.maps import Map
from gateway.programming.neighbours import QUESTIONS, REACHABLE_S

OTHER_SUBNET = "10.1.6.21"
SAME_SUBNET = "10.1.1.12"
CORPNET = "157.1.0.10"


@pytest.mark.parametrize(
    ("address", "blue", "red"),
    [
        (SAME_SUBNET, "blue BlueVM2", "red RedVM2"),
        (OTHER_SUBNET, "blue BlueVM3", "red RedVM3"),
        ("fd00:6::21", "blue BlueVM3", "red RedVM3"),
        (CORPNET, "blue blue-corpnet", "red red-corpnet"),
        ("fd00:157::10", "blue blue-corpnet", "red red-corpnet"),
    ],
)
def test_each_tenant_reaches_its_own_server_at_an_equal_address_at_the_same_time(
    blue_red: RunningLab, at_once: Callable[..., list[object]], address: str, blue: str, red: str
) -> None:
    pages = at_once(
        *(partial(probes.page, blue_red, node, address) for node in ("BlueVM1", "RedVM1", "BlueVM1", "RedVM1"))
    )
    assert pages == [blue, red, blue, red]


@pytest.mark.parametrize("address", ["10.1.1.11", "fd00:1::11"])
def test_each_corpnet_reaches_its_own_virtual_machine(blue_red: RunningLab, address: str) -> None:
    assert probes.page(blue_red, "blue-corpnet", address) == "blue BlueVM1"
    assert probes.page(blue_red, "red-corpnet", address) == "red RedVM1"


@pytest.mark.parametrize("node", ["BlueVM1", "RedVM1"])
@pytest.mark.parametrize("address", [SAME_SUBNET, OTHER_SUBNET, CORPNET, "fd00:6::21", "fd00:157::10"])
def test_full_packets_pass_where_the_provider_network_has_room(blue_red: RunningLab, node: str, address: str) -> None:
    payload = 1500 - (48 if ":" in address else 28)
    assert probes.pings(blue_red, node, address, payload=payload, fragment=False)


@pytest.mark.parametrize("node", ["BlueVM1", "RedVM1"])
@pytest.mark.parametrize("router", ["10.1.1.1", "fd00:1::1"])
def test_the_router_address_answers_ping(blue_red: RunningLab, node: str, router: str) -> None:
    assert probes.pings(blue_red, node, router)


@pytest.mark.parametrize("node", ["BlueVM1", "RedVM1"])
@pytest.mark.parametrize(("address", "router"), [(OTHER_SUBNET, "10.1.1.1"), ("fd00:6::21", "fd00:1::1")])
def test_traceroute_shows_the_gateway_as_one_hop(blue_red: RunningLab, node: str, address: str, router: str) -> None:
    assert probes.routers(blue_red, node, address) == (router, address)


def test_tracepath_finds_the_full_mtu_and_one_router(blue_red: RunningLab) -> None:
    assert probes.path(blue_red, "BlueVM1", OTHER_SUBNET) == probes.Path(1500, ("10.1.1.1",), arrived=True)


def test_an_address_that_only_blue_has_is_unreachable_for_red(blue_red: RunningLab) -> None:
    assert probes.page(blue_red, "BlueVM1", "10.1.6.22") == "blue BlueVM4"
    before = probes.drops(blue_red, "red", "no_record")
    assert probes.ping_error(blue_red, "RedVM1", "10.1.6.22") == "Destination Host Unreachable"
    assert probes.drops(blue_red, "red", "no_record") > before


def test_a_denied_port_is_silent_and_the_other_ports_of_that_machine_answer(blue_red: RunningLab) -> None:
    before = probes.drops(blue_red, "red", "access_list_inbound")
    assert probes.page(blue_red, "RedVM1", OTHER_SUBNET, port=8081, seconds=1) is None
    assert probes.drops(blue_red, "red", "access_list_inbound") > before
    assert probes.page(blue_red, "RedVM1", OTHER_SUBNET) == "red RedVM3"


def test_a_machine_behind_an_access_list_opens_connections_itself(blue_red: RunningLab) -> None:
    assert probes.page(blue_red, "RedVM3", CORPNET) == "red red-corpnet"


@pytest.mark.parametrize("encapsulation", ["vxlan", "nvgre"])
def test_a_packet_of_an_unknown_vsid_is_dropped_by_name(blue_red: RunningLab, encapsulation: str) -> None:
    before = probes.drops(blue_red, None, "unknown_vsid")
    probes.inject(blue_red, "host1", "--vsid", "7777", "--encapsulation", encapsulation)
    assert probes.drops(blue_red, None, "unknown_vsid") == before + 1


@pytest.mark.parametrize("encapsulation", ["vxlan", "nvgre"])
def test_a_packet_of_a_foreign_outer_source_is_dropped_by_name(blue_red: RunningLab, encapsulation: str) -> None:
    before = probes.drops(blue_red, "blue", "source_not_admitted")
    forged = ("--vsid", "6001", "--outer-source", "192.168.2.99", "--encapsulation", encapsulation)
    probes.inject(blue_red, "host1", *forged)
    assert probes.drops(blue_red, "blue", "source_not_admitted") == before + 1


def test_tcp_of_both_tenants_runs_at_the_same_time(blue_red: RunningLab, at_once: Callable[..., list[object]]) -> None:
    rates = at_once(*(partial(probes.throughput, blue_red, node, OTHER_SUBNET) for node in ("BlueVM1", "RedVM1")))
    assert all(isinstance(rate, float) and rate > 10 for rate in rates), rates


def let_neighbours_grow_silent(lab: RunningLab, seconds: int) -> None:
    """Make the gateway believe that it has not heard of its neighbours on external ports for so long."""
    maps = {
        name: Map.from_pin(gateway.pins_of(lab.topology) / "current" / "maps" / name)
        for name in ("ports", "neighbours")
    }
    layout = maps["ports"].layout()
    lines = maps["neighbours"].records(layout.struct("line"))
    for port in maps["ports"].records(layout.struct("port")):
        for kind, first in (("neighbour", "neighbours4"), ("neighbour6", "neighbours6")):
            entries = lines[port[first] : port[first] + port[f"{first}_lines"]].view(layout.struct(kind))
            entries["seen"][entries["seen"] > 0] -= seconds


@pytest.mark.parametrize("address", [CORPNET, "fd00:157::10"])
def test_a_server_on_corpnet_whose_mac_changes_without_a_word_is_found_again(
    blue_red: RunningLab, address: str
) -> None:
    assert probes.pings(blue_red, "BlueVM1", address)
    mac = f"02:00:00:00:57:{len(address):02x}"
    blue_red.configure("blue-corpnet", f"link set eth0 address {mac}")
    assert not probes.pings(blue_red, "BlueVM1", address, count=1)
    let_neighbours_grow_silent(blue_red, REACHABLE_S + 1)
    assert any(probes.pings(blue_red, "BlueVM1", address, count=1) for _ in range(QUESTIONS))
