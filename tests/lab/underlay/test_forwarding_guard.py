"""The guard against Linux forwarding past the datapath."""

import re
import subprocess

from underlay_rig import GATEWAY, HOST, gateway, host, in_gateway, run, wire

from gateway.underlay import forwarding_guard


def test_the_guard_drops_what_is_forwarded_over_our_ports_and_nothing_else(namespaces: None) -> None:
    in_gateway(lambda: forwarding_guard.install(["eth0", "eth1*"]))
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
    gateway("neigh replace 192.168.8.9 lladdr 02:00:00:00:00:09 dev eth4")
    assert forwarded("192.168.6.4") == 0
    in_gateway(lambda: forwarding_guard.install(["eth1"]))
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
