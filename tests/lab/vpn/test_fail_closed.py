"""Nothing of the tenant leaves in clear, whatever happens to its tunnel."""

import os
import signal
from dataclasses import replace
from pathlib import Path

from vpn_capture import capture_in_clear
from vpn_rig import PATIENCE, SERVER, Domain, Rig, connection, swanctl, until

from gateway.compartments.entering import run_in

PEER = "203.0.113.20"


def test_nothing_leaves_in_clear_at_start_stop_crash_and_change(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEER)
    wanted = connection(domain, PEER)
    site.start(swanctl(wanted))
    senders = [domain.vm.start(f"ping -n -i 0.005 {server}") for server in SERVER]
    with capture_in_clear(rig, domain) as captured:
        domain.connections = (wanted,)
        rig.reconcile()
        rig.connected(domain)
        before = rig.service.status()["red"].pid
        assert before
        os.kill(before, signal.SIGKILL)
        until(lambda: rig.service.status()["red"].pid not in (before, None), "no new daemon")
        rig.connected(domain)
        rig.service.down("red", "site")
        rig.service.up("red", "site", PATIENCE)
        changed = replace(wanted, ike=replace(wanted.ike, dh_group="modp2048"))
        site.load(swanctl(changed, proposals="aes256-sha256-modp2048"))
        domain.connections = (changed,)
        rig.reconcile()
        until(lambda: "MODP_2048" in (rig.status(domain).ike_suite or ""), "the change had no effect")
        assert domain.vm.replies(SERVER[0]) == 3
        domain.connections = (replace(changed, enabled=False),)
        rig.reconcile()
        rig.service.reconcile({})
    for sender in senders:
        sender.kill()
        sender.communicate()
    assert captured.packets == []


def test_the_capture_would_have_seen_it(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEER)
    wanted = connection(domain, PEER)
    site.start(swanctl(wanted))
    domain.connections = (wanted,)
    rig.reconcile()
    rig.connected(domain)
    with capture_in_clear(rig, domain) as captured:
        domain.run("nft delete table inet tenant_gateway")
        domain.run("ip rule del pref 1001")
        domain.run("ip rule del pref 1002")
        domain.vm.replies(SERVER[0])
    assert any(f"> {SERVER[0]}: ICMP echo request" in packet for packet in captured.packets)


def test_what_comes_in_clear_from_the_outside_is_dropped(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEER)
    wanted = connection(domain, PEER)
    site.start(swanctl(wanted))
    domain.connections = (wanted,)
    rig.reconcile()
    rig.connected(domain)
    assert domain.compartment.outside
    rig.internet.ip(f"route add 10.1.1.11 via 198.51.100.10 dev {domain.compartment.outside.interface}")
    rig.internet.ip("addr add 192.0.2.1/32 dev lo")
    received = _echo_requests(domain)
    rig.internet.run("ping -n -c 3 -i 0.05 -W 0.2 -I 192.0.2.1 10.1.1.11", check=False)
    assert _echo_requests(domain) == received
    assert site.namespace.replies("10.1.1.11", source=SERVER[0]) == 3
    assert _echo_requests(domain) == received + 3


def _echo_requests(domain: Domain) -> int:
    """Return how many the VM has received."""
    snmp = run_in(domain.vm.path, Path("/proc/thread-self/net/snmp").read_text)
    names, values = (line.split() for line in snmp.splitlines() if line.startswith("Icmp:"))
    return int(values[names.index("InEchos")])
