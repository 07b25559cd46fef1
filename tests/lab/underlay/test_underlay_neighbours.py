"""The underlay follows the neighbours of a real kernel, and has it keep them resolved."""

import subprocess
import threading
import time
from typing import Any

import pytest
from underlay_rig import GATEWAY, HOST, gateway, host, mac, run

from deploy.lab.processes import wait_until
from gateway.underlay.hop import Hop


@pytest.mark.parametrize(("source", "destination"), [("192.168.6.2", "192.168.6.4"), ("fd06::2", "fd06::4")])
def test_a_neighbour_nobody_talked_to_is_resolved(watch: Any, source: str, destination: str) -> None:
    watched = watch("192.168.6.2", "fd06::2")
    watched.underlay.want([destination])
    hop = watched.until_hop(destination, lambda hop: hop.destination_mac is not None)
    links = watched.underlay.links()
    assert hop == Hop(
        "eth1", links["eth1"].index, 0, source, mac(gateway, "eth1"), mac(host, "eth0"), links["eth1"].mtu
    )


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
    wait_until(lambda: managed_neighbours() >= set(wanted), "Linux resolves them all")
    delays = []
    with subprocess.Popen(["ip", "-n", GATEWAY, "-batch", "-"], stdin=subprocess.PIPE, text=True) as orders:
        for number in range(50):
            address = bytes([2, 0, 0, 0, 0, number])
            started = time.monotonic()
            order = f"neigh replace fd06::1:7 lladdr {address.hex(':')} dev eth1 nud reachable"
            print(order, file=orders.stdin, flush=True)
            watched.until_hop("fd06::1:7", lambda hop, address=address: hop.destination_mac == address)
            delays.append(time.monotonic() - started)
    assert min(delays) < 0.020, delays  # the others had to wait for a CPU


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
