"""The largest packet that passes a tunnel, and that everybody is told so."""

import pytest
from vpn_rig import SERVER, Domain, Rig, Site, connection, swanctl, until

PEER = "203.0.113.20"
IP_AND_ICMP_BYTES = 28


def tunnel(rig: Rig, path_mtu: int) -> tuple[Domain, Site]:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEER)
    domain.path_mtu = path_mtu
    wanted = connection(domain, PEER)
    domain.connections = (wanted,)
    site.start(swanctl(wanted))
    rig.reconcile()
    rig.connected(domain)
    return domain, site


def test_the_status_tells_the_largest_packet_that_passes(rig: Rig) -> None:
    domain, _ = tunnel(rig, 1400)
    mtu = rig.status(domain).mtu
    assert 1300 < mtu < 1400
    assert "bytes from" in domain.vm.run(f"ping -n -c 1 -W 1 -M do -s {mtu - IP_AND_ICMP_BYTES} {SERVER[0]}")
    told = domain.vm.run(f"ping -n -c 1 -W 1 -M do -s {mtu + 1 - IP_AND_ICMP_BYTES} {SERVER[0]}", check=False)
    assert f"mtu = {mtu}" in told


def test_that_packet_leaves_whole(rig: Rig) -> None:
    domain, _ = tunnel(rig, 1400)
    assert domain.compartment.outside
    capture = rig.internet.start(
        f"tcpdump -l -n -c 1 --immediate-mode -i {domain.compartment.outside.interface} greater 1300"
    )
    assert capture.stdout
    while "listening" not in capture.stdout.readline():
        assert capture.poll() is None
    size = rig.status(domain).mtu - IP_AND_ICMP_BYTES
    domain.vm.run(f"ping -n -c 1 -W 1 -M do -s {size} {SERVER[0]}")
    line = capture.communicate()[0]
    assert "UDP-encap: ESP" in line or "ESP(" in line
    assert "frag" not in line


def test_a_path_that_narrows_is_learned(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpn.endpoint.PATHS_EVERY_S", 0.1)
    domain, site = tunnel(rig, 1500)
    before = rig.status(domain).mtu
    rig.internet.ip("link set site-red mtu 900")
    site.namespace.ip("link set eth0 mtu 900")
    domain.vm.run(f"ping -n -c 2 -i 0.1 -W 1 -s 1200 {SERVER[0]}", check=False)
    until(lambda: rig.status(domain).mtu < before, "nothing was learned")
    mtu = rig.status(domain).mtu
    assert 800 < mtu < 900
    domain.vm.run("ip route flush cache")
    told = domain.vm.run(f"ping -n -c 1 -W 1 -M do -s {mtu + 1 - IP_AND_ICMP_BYTES} {SERVER[0]}", check=False)
    assert f"mtu = {mtu}" in told
    assert "bytes from" in domain.vm.run(f"ping -n -c 1 -W 1 -M do -s {mtu - IP_AND_ICMP_BYTES} {SERVER[0]}")


def test_tcp_runs_at_once_also_where_nobody_is_told(rig: Rig) -> None:
    domain, site = tunnel(rig, 1400)
    for namespace in (domain.vm, site.namespace):
        namespace.run("nft add table inet deaf")
        namespace.run("nft add chain inet deaf input { type filter hook input priority 0 ; }")
        namespace.run("nft add rule inet deaf input icmp type destination-unreachable drop")
    server = site.namespace.start(f"iperf3 -s -1 --forceflush -B {SERVER[0]}")
    assert server.stdout
    while "listening" not in server.stdout.readline():
        assert server.poll() is None
    domain.vm.run(f"iperf3 -c {SERVER[0]} -n 2M")
    server.communicate()
