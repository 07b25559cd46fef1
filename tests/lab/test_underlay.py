"""The underlay follows a real kernel: links, routes and neighbours of namespaces made here."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from pyroute2 import netns

from gateway.underlay import forwarding_guard
from gateway.underlay.hop import Hop
from gateway.underlay.network import Link
from gateway.underlay.underlay import Underlay

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

GATEWAY, HOST = f"tgwu-gw{os.getpid()}", f"tgwu-host{os.getpid()}"
PATIENCE = 20.0  # seconds until a test gives up; nothing waits this long when all is well


def run(command: str) -> str:
    result = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}: {result.stderr}"
    return result.stdout


def gateway(command: str) -> str:
    return run(f"ip -n {GATEWAY} {command}")


def host(command: str) -> str:
    return run(f"ip -n {HOST} {command}")


def in_gateway(function: Callable[[], Any]) -> Any:
    """Call `function` in a thread that has entered the gateway's namespace."""
    results: list[Any] = []

    def enter_and_call() -> None:
        netns.setns(GATEWAY)
        results.append(function())

    thread = threading.Thread(target=enter_and_call)
    thread.start()
    thread.join()
    return results[0]


@dataclass
class Watched:
    """An underlay and all that it told, to be awaited."""

    underlay: Underlay = field(init=False)
    hops: dict[str, Hop | None] = field(default_factory=dict)
    link_changes: list[Mapping[str, Link | None]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def on_change(self, hops: Mapping[str, Hop | None]) -> None:
        with self.changed:
            self.hops.update(hops)
            self.changed.notify_all()

    def on_link_change(self, links: Mapping[str, Link | None]) -> None:
        with self.changed:
            self.link_changes.append(links)
            self.changed.notify_all()

    def until(self, holds: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, PATIENCE), f"never told so; told last: {self.hops}"

    def until_hop(self, address: str, holds: Callable[[Hop], bool]) -> Hop:
        def found() -> bool:
            hop = self.hops.get(address)
            return hop is not None and holds(hop)

        self.until(found)
        hop = self.hops[address]
        assert hop is not None
        return hop


@pytest.fixture
def namespaces() -> Iterator[None]:
    """Make a gateway and a host, 192.168.6.2 and .4, fd06::2 and ::4, on one wire."""
    for namespace in (GATEWAY, HOST):
        run(f"ip netns add {namespace}")
        run(f"ip -n {namespace} link set lo up")
    wire("eth1", "eth0")
    gateway("addr add 192.168.6.2/24 dev eth1")
    gateway("addr add fd06::2/64 dev eth1 nodad")
    host("addr add 192.168.6.4/24 dev eth0")
    host("addr add fd06::4/64 dev eth0 nodad")
    yield
    for namespace in (GATEWAY, HOST):
        run(f"ip netns del {namespace}")


def wire(gateway_end: str, host_end: str) -> None:
    gateway(f"link add name {gateway_end} type veth peer name {host_end} netns {HOST}")
    gateway(f"link set {gateway_end} up")
    host(f"link set {host_end} up")


@pytest.fixture
def watch(namespaces: None) -> Iterator[Callable[..., Watched]]:
    underlays: list[Underlay] = []

    def start(*provider_addresses: str) -> Watched:
        watched = Watched()
        watched.underlay = in_gateway(lambda: Underlay(provider_addresses, watched.on_change, watched.on_link_change))
        underlays.append(watched.underlay)
        return watched

    yield start
    for underlay in underlays:
        underlay.close()


def mac(namespace: Callable[[str], str], interface: str) -> bytes:
    words = namespace(f"-o link show dev {interface}").split()
    return bytes.fromhex(words[words.index("link/ether") + 1].replace(":", ""))


@pytest.mark.parametrize(("source", "destination"), [("192.168.6.2", "192.168.6.4"), ("fd06::2", "fd06::4")])
def test_a_neighbour_nobody_talked_to_is_resolved(watch: Any, source: str, destination: str) -> None:
    watched = watch("192.168.6.2", "fd06::2")
    watched.underlay.want([destination])
    hop = watched.until_hop(destination, lambda hop: hop.destination_mac is not None)
    links = watched.underlay.links()
    assert hop == Hop(
        "eth1", links["eth1"].index, 0, source, mac(gateway, "eth1"), mac(host, "eth0"), links["eth1"].mtu
    )


def test_want_answers_hops_before_it_returns(watch: Any) -> None:
    watched = watch("192.168.6.2")
    watched.underlay.want(["192.168.6.4", "203.0.113.1"])
    hops = watched.underlay.hops()
    assert hops["203.0.113.1"] is None
    assert hops["192.168.6.4"].interface == "eth1"


def test_a_new_mac_of_a_neighbour_is_told(watch: Any) -> None:
    watched = watch("192.168.6.2")
    watched.underlay.want(["192.168.6.4"])
    watched.until_hop("192.168.6.4", lambda hop: hop.destination_mac is not None)
    host("link set eth0 address 02:00:00:00:00:44")
    run(f"ip netns exec {HOST} ping -c 1 -W 5 192.168.6.2")
    watched.until_hop("192.168.6.4", lambda hop: hop.destination_mac == bytes.fromhex("020000000044"))


def test_a_change_of_one_among_a_thousand_neighbours_is_told_within_20_ms(watch: Any) -> None:
    watched = watch("192.168.6.2", "fd06::2")
    wanted = [f"fd06::1:{number:x}" for number in range(1000)]
    watched.underlay.want(wanted)
    watched.until(lambda: len(watched.hops) == 1000)
    delays = []
    for number in range(5):
        address = bytes([2, 0, 0, 0, 0, number])
        started = time.monotonic()
        gateway(f"neigh replace fd06::1:7 lladdr {address.hex(':')} dev eth1 nud reachable")
        watched.until_hop("fd06::1:7", lambda hop, address=address: hop.destination_mac == address)
        delays.append(time.monotonic() - started)
    assert min(delays) < 0.020, f"the change and the `ip` command that made it took {delays} s"


def test_a_thousand_addresses_are_answered_within_300_ms(watch: Any) -> None:
    gateway("route add 10.0.0.0/8 via 192.168.6.4 mtu 1400")
    watched = watch("192.168.6.2", "fd06::2")
    wanted = [f"10.{number // 250}.0.{number % 250}" for number in range(500)] + [
        f"fd06::{n:x}" for n in range(16, 516)
    ]
    started = time.monotonic()
    watched.underlay.want(wanted)
    elapsed = time.monotonic() - started
    hops = watched.underlay.hops()
    assert len(hops) == 1000 and all(hops.values())
    assert elapsed < 0.300
    assert hops["10.1.0.1"].mtu == 1400


def test_a_thousand_hosts_behind_one_router_need_one_managed_neighbour(watch: Any) -> None:
    gateway("route add 10.0.0.0/8 via 192.168.6.4")
    watched = watch("192.168.6.2")
    watched.underlay.want([f"10.{number // 250}.0.{number % 250}" for number in range(1000)])
    watched.until(
        lambda: sum(hop is not None and hop.destination_mac is not None for hop in watched.hops.values()) == 1000
    )
    assert managed_neighbours() == {"192.168.6.4"}


def managed_neighbours() -> set[str]:
    return {line.split()[0] for line in gateway("-d neigh").splitlines() if " managed" in line}


def test_a_managed_neighbour_stays_resolved_when_the_daemon_is_gone(watch: Any) -> None:
    gateway("ntable change name arp_cache dev eth1 base_reachable 300")
    gateway("ntable change name arp_cache dev eth1 delay_probe 100")
    watched = watch("192.168.6.2")
    watched.underlay.want(["192.168.6.4"])
    watched.until_hop("192.168.6.4", lambda hop: hop.destination_mac is not None)
    watched.underlay.close()
    host("link set eth0 address 02:00:00:00:00:45")  # only a probe by the kernel can find this out
    with subprocess.Popen(
        ["ip", "-n", GATEWAY, "-o", "monitor", "neigh"], stdout=subprocess.PIPE, text=True
    ) as monitor:
        assert monitor.stdout is not None
        watchdog = threading.Timer(60, monitor.kill)
        watchdog.start()
        learned = any("02:00:00:00:00:45" in line and "REACHABLE" in line for line in monitor.stdout)
        watchdog.cancel()
        monitor.kill()
    assert learned
    assert "managed" in gateway("-d neigh show 192.168.6.4")


def test_neighbours_no_longer_wanted_are_removed_and_foreign_ones_are_left(watch: Any) -> None:
    gateway("neigh replace 192.168.6.9 dev eth1 managed")
    gateway("neigh replace 192.168.6.8 dev eth1 lladdr 02:00:00:00:00:08 nud permanent")
    watched = watch("192.168.6.2")
    watched.underlay.want(["192.168.6.4", "192.168.6.5", "192.168.6.8"])
    watched.until_hop("192.168.6.8", lambda hop: hop.destination_mac == bytes.fromhex("020000000008"))
    watched.underlay.want(["192.168.6.5"])
    watched.underlay.close()
    assert managed_neighbours() == {"192.168.6.5", "192.168.6.9"}
    assert "PERMANENT" in gateway("neigh show 192.168.6.8")


def test_a_restarted_daemon_removes_what_an_earlier_one_left(watch: Any) -> None:
    first = watch("192.168.6.2")
    first.underlay.want(["192.168.6.4", "192.168.6.5"])
    first.underlay.close()
    assert managed_neighbours() == {"192.168.6.4", "192.168.6.5"}
    second = watch("192.168.6.2")
    second.underlay.want(["192.168.6.4"])
    second.underlay.close()
    assert managed_neighbours() == {"192.168.6.4"}


def test_a_flushed_managed_neighbour_comes_back(watch: Any) -> None:
    watched = watch("192.168.6.2")
    watched.underlay.want(["192.168.6.4"])
    watched.until_hop("192.168.6.4", lambda hop: hop.destination_mac is not None)
    host("link set eth0 address 02:00:00:00:00:46")
    gateway("neigh del 192.168.6.4 dev eth1")
    watched.until_hop("192.168.6.4", lambda hop: hop.destination_mac == bytes.fromhex("020000000046"))


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


def test_lost_events_are_made_good_by_reading_anew(watch: Any) -> None:
    watched = watch("192.168.6.2")
    watched.underlay.want(["192.168.6.77"])
    set_mac_of_77("02:00:00:00:00:01")
    watched.until_hop("192.168.6.77", lambda hop: hop.destination_mac == bytes.fromhex("020000000001"))
    with watched.changed:  # the underlay's thread stands in on_change while this is held
        set_mac_of_77("02:00:00:00:00:02")
        entry = "fd06::99 lladdr 02:00:00:00:00:01 dev eth1"
        subprocess.run(
            ["ip", "-n", GATEWAY, "-batch", "-"],
            input=f"neigh add {entry}\nneigh del {entry}\n" * 20_000,
            text=True,
            check=True,
        )
        set_mac_of_77("02:00:00:00:00:03")
        assert lost_events() > 0
    watched.until_hop("192.168.6.77", lambda hop: hop.destination_mac == bytes.fromhex("020000000003"))


def set_mac_of_77(address: str) -> None:
    gateway(f"neigh replace 192.168.6.77 lladdr {address} nud permanent dev eth1")


def lost_events() -> int:
    """Return the column Drops of the gateway's netlink sockets."""
    table = run(f"ip netns exec {GATEWAY} cat /proc/net/netlink").splitlines()
    column = table[0].split().index("Drops")
    return sum(int(line.split()[column]) for line in table[1:])


def test_the_guard_drops_what_is_forwarded_over_our_ports_and_nothing_else(namespaces: None) -> None:
    assert in_gateway(lambda: forwarding_guard.install(["eth1"])) is False
    run(f"ip netns exec {GATEWAY} sysctl -q -w net.ipv4.ip_forward=1")
    wire("eth2", "eth3")
    wire("eth4", "eth5")
    for port, peer, net in (("eth2", "eth3", 7), ("eth4", "eth5", 8)):
        gateway(f"addr add 192.168.{net}.2/24 dev {port}")
        host(f"addr add 192.168.{net}.4/24 dev {peer}")
    host("rule add pref 1 from 192.168.6.4 to 192.168.8.9 lookup 101")
    host("rule add pref 1 from 192.168.7.4 to 192.168.8.9 lookup 102")
    host("route add 192.168.8.9 via 192.168.6.2 table 101")
    host("route add 192.168.8.9 via 192.168.7.2 table 102")
    count = "table inet tgwu { chain c { type filter hook postrouting priority 0; ip daddr 192.168.8.9 counter; }; }"
    subprocess.run(["ip", "netns", "exec", GATEWAY, "nft", count], check=True)
    for _ in range(2):
        assert in_gateway(lambda: forwarding_guard.install(["eth1"])) is True
    gateway("neigh replace 192.168.8.9 lladdr 02:00:00:00:00:09 dev eth4")
    assert forwarded("192.168.6.4") == 0
    assert forwarded("192.168.7.4") == 1
    in_gateway(forwarding_guard.remove)
    in_gateway(forwarding_guard.remove)
    assert forwarded("192.168.6.4") == 1


def forwarded(source: str) -> int:
    """Send one packet from `source` to 192.168.8.9 through the gateway; return how many it forwarded."""
    before = forwarded_packets()
    subprocess.run(
        ["ip", "netns", "exec", HOST, "ping", "-c", "1", "-W", "1", "-I", source, "192.168.8.9"],
        capture_output=True,
        check=False,
    )
    return forwarded_packets() - before


def forwarded_packets() -> int:
    (packets,) = re.findall(r"packets (\d+)", run(f"ip netns exec {GATEWAY} nft list table inet tgwu"))
    return int(packets)
