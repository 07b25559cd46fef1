"""The underlay follows the routes, links and addresses of a real kernel."""

import subprocess
import time
from typing import Any

import pytest
from underlay_rig import GATEWAY, gateway, host, mac, wire


def test_want_answers_hops_before_it_returns(watch: Any) -> None:
    watched = watch("192.168.6.2")
    watched.underlay.want(["192.168.6.4", "203.0.113.1"])
    hops = watched.underlay.hops()
    assert hops["203.0.113.1"] is None
    assert hops["192.168.6.4"].interface == "eth1"


def test_a_thousand_addresses_are_answered_within_300_ms(watch: Any) -> None:
    gateway("route add 10.0.0.0/8 via 192.168.6.4 mtu 1400")
    watched = watch("192.168.6.2", "fd06::2")
    wanted = [f"10.{number // 250}.0.{number % 250}" for number in range(500)] + [
        f"fd06::{n:x}" for n in range(16, 516)
    ]
    started = time.thread_time()  # it computes, and waits for nothing
    watched.underlay.want(wanted)
    elapsed = time.thread_time() - started
    hops = watched.underlay.hops()
    assert len(hops) == 1000 and all(hops.values())
    assert elapsed < 0.300
    assert hops["10.1.0.1"].mtu == 1400


def test_a_route_that_moves_to_another_port_moves_the_hop(watch: Any) -> None:
    wire("eth2", "eth3")
    gateway("addr add 192.168.7.2/24 dev eth2")
    host("addr add 192.168.7.4/24 dev eth3")
    gateway("route add 10.60.0.0/16 via 192.168.6.4")
    watched = watch("192.168.6.2", "192.168.7.2")
    watched.underlay.want(["10.60.0.1"])
    watched.until_hop("10.60.0.1", lambda hop: hop.interface == "eth1" and hop.destination_mac == mac(host, "eth0"))
    gateway("route replace 10.60.0.0/16 via 192.168.7.4")
    hop = watched.until_hop("10.60.0.1", lambda hop: hop.destination_mac == mac(host, "eth3"))
    assert (hop.interface, hop.source) == ("eth2", "192.168.7.2")
    gateway("route replace blackhole 10.60.0.0/16")
    watched.until(lambda: watched.hops["10.60.0.1"] is None)


def test_routes_that_go_down_with_their_link_are_noticed(watch: Any) -> None:
    wire("eth2", "eth3")
    gateway("route add 10.60.0.0/16 dev eth2 metric 10")
    gateway("route add 10.60.0.0/16 via 192.168.6.4 metric 20")
    watched = watch("192.168.6.2")
    watched.underlay.want(["10.60.0.1"])
    watched.until_hop("10.60.0.1", lambda hop: hop.interface == "eth2")
    gateway("link set eth2 down")
    watched.until_hop("10.60.0.1", lambda hop: hop.interface == "eth1")


def test_a_way_without_addresses_that_comes_back_with_its_link_is_used_again(watch: Any) -> None:
    wire("eth2", "eth3")
    gateway("link set eth2 addrgenmode none")
    gateway("addr flush dev eth2")
    gateway("route add 10.60.0.0/16 nexthop via 192.168.6.4 dev eth1 nexthop dev eth2")
    watched = watch("192.168.6.2")
    addresses = [f"10.60.0.{number}" for number in range(32)]
    watched.underlay.want(addresses)

    def interfaces() -> set[str | None]:
        hops = [watched.hops.get(address) for address in addresses]
        return {hop.interface if hop else None for hop in hops}

    watched.until(lambda: interfaces() == {"eth1", "eth2"})
    gateway("link set eth2 down")
    watched.until(lambda: interfaces() == {"eth1"})
    gateway("link set eth2 up")
    watched.until(lambda: interfaces() == {"eth1", "eth2"})


def test_a_provider_address_on_loopback_is_the_source_on_every_port(watch: Any) -> None:
    gateway("addr add 10.60.255.1/32 dev lo")
    gateway("route add 10.60.0.0/16 via 192.168.6.4")
    watched = watch("10.60.255.1")
    watched.underlay.want(["10.60.0.1", "10.60.255.1"])
    hop = watched.until_hop("10.60.0.1", lambda hop: hop.destination_mac is not None)
    assert hop.source == "10.60.255.1"
    assert watched.underlay.hops()["10.60.255.1"] is None, "our own address is no hop"


def test_the_preferred_source_of_a_route_wins(watch: Any) -> None:
    gateway("addr add 192.168.6.3/24 dev eth1")
    gateway("route add 10.60.0.0/16 via 192.168.6.4 src 192.168.6.3")
    watched = watch("192.168.6.2", "192.168.6.3")
    watched.underlay.want(["10.60.0.1", "192.168.6.4"])
    assert watched.underlay.hops()["10.60.0.1"].source == "192.168.6.3"
    assert watched.underlay.hops()["192.168.6.4"].source == "192.168.6.2"


def test_an_ipv4_route_through_an_ipv6_neighbour_is_followed(watch: Any) -> None:
    gateway("route add 10.60.0.0/16 via inet6 fd06::4 dev eth1")
    watched = watch("192.168.6.2")
    watched.underlay.want(["10.60.0.1"])
    watched.until_hop("10.60.0.1", lambda hop: hop.destination_mac == mac(host, "eth0"))


@pytest.mark.parametrize(
    ("prefix", "ways", "addresses"),
    [
        ("10.60.0.0/16", ("192.168.6.4", "192.168.6.5"), [f"10.60.1.{number}" for number in range(1, 65)]),
        ("fd60::/16", ("fd06::4", "fd06::5"), [f"fd60::{number}" for number in range(1, 65)]),
    ],
)
def test_equal_routes_share_the_addresses_and_keep_them(
    watch: Any, prefix: str, ways: tuple[str, str], addresses: list[str]
) -> None:
    for number, way in enumerate(ways):
        gateway(f"neigh replace {way} dev eth1 lladdr 02:00:00:00:00:0{number} nud permanent")
    gateway(f"route add {prefix} nexthop via {ways[0]} dev eth1 nexthop via {ways[1]} dev eth1")
    macs = (bytes.fromhex("020000000000"), bytes.fromhex("020000000001"))
    first, second = watch("192.168.6.2", "fd06::2"), watch("192.168.6.2", "fd06::2")
    for watched in (first, second):
        watched.underlay.want(addresses)
    chosen = {address: hop.destination_mac for address, hop in first.underlay.hops().items()}
    assert 16 < list(chosen.values()).count(macs[0]) < 48
    assert chosen == {address: hop.destination_mac for address, hop in second.underlay.hops().items()}


def test_a_link_deleted_and_made_anew_is_told_and_used_again(watch: Any) -> None:
    watched = watch("192.168.6.2")
    watched.underlay.want(["192.168.6.4"])
    before = watched.until_hop("192.168.6.4", lambda hop: hop.destination_mac is not None)
    gateway("link del eth1")
    watched.until(lambda: watched.hops["192.168.6.4"] is None)
    watched.until(lambda: {"eth1": None} in watched.link_changes)
    wire("eth1", "eth0")
    host("addr add 192.168.6.4/24 dev eth0")
    gateway("addr add 192.168.6.2/24 dev eth1")
    after = watched.until_hop("192.168.6.4", lambda hop: hop.destination_mac == mac(host, "eth0"))
    assert after.interface_index != before.interface_index
    assert watched.underlay.links()["eth1"].index == after.interface_index


def test_an_8021q_device_is_its_parent_and_a_vlan(watch: Any) -> None:
    added = subprocess.run(
        ["ip", "-n", GATEWAY, "link", "add", "link", "eth1", "name", "eth1.10", "type", "vlan", "id", "10"],
        capture_output=True,
        text=True,
        check=False,
    )
    if added.returncode:
        pytest.skip("this kernel has no 802.1Q devices")
    gateway("link set eth1.10 up mtu 1496")
    gateway("addr add 192.168.10.2/24 dev eth1.10")
    watched = watch("192.168.6.2", "192.168.10.2")
    watched.underlay.want(["192.168.10.4"])
    hop = watched.underlay.hops()["192.168.10.4"]
    assert (hop.interface, hop.vlan, hop.source, hop.mtu) == ("eth1", 10, "192.168.10.2", 1496)
