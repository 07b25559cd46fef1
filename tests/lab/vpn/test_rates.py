"""Rates of a connection, and the largest packet that passes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import vpn_rig
from vpn_rig import SERVER, VM, Domain, Namespace, Rig, connection, swanctl

PEER = "203.0.113.20"
KBPS = 20_000
SECONDS = 2


@pytest.fixture(scope="module")
def limited() -> Iterator[tuple[Rig, Domain]]:
    with vpn_rig.rig() as rig:
        domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEER)
        wanted = connection(domain, PEER, outbound_kbps=KBPS, inbound_kbps=KBPS)
        domain.connections = (wanted,)
        site.start(swanctl(wanted))
        rig.reconcile()
        rig.connected(domain)
        yield rig, domain


@contextmanager
def server(namespace: Namespace, address: str) -> Iterator[None]:
    process = namespace.start(f"iperf3 -s -1 --forceflush -B {address}")
    assert process.stdout
    while "listening" not in process.stdout.readline():
        assert process.poll() is None
    yield
    process.communicate()


def received_kbps(domain: Domain, server_at: Namespace, options: str) -> float:
    """What arrives in kbit/s: of UDP with its headers, as policy's rates count."""
    with server(server_at, SERVER[0]):
        text = domain.vm.run(f"iperf3 -J -c {SERVER[0]} -B {VM[0]} -t {SECONDS} {options}")
    summary = json.loads(text)["end"].get("sum_received") or json.loads(text)["end"]["sum"]
    return float(summary["bits_per_second"]) / 1000


@pytest.mark.parametrize("direction", ["outbound", "inbound"])
def test_udp_keeps_to_the_rate(limited: tuple[Rig, Domain], direction: str) -> None:
    rig, domain = limited
    payload, headers = 1200, 28
    options = f"-u -b {2 * KBPS}k -l {payload} {'-R' if direction == 'inbound' else ''}"
    site = rig.sites[0].namespace
    with server(site, SERVER[0]):
        report = json.loads(domain.vm.run(f"iperf3 -J -c {SERVER[0]} -B {VM[0]} -t {SECONDS} {options}"))["end"]["sum"]
    arrived = report["packets"] - report["lost_packets"]
    kbps = arrived * (payload + headers) * 8 / report["seconds"] / 1000
    assert kbps == pytest.approx(KBPS, rel=0.05)


@pytest.mark.parametrize("direction", ["outbound", "inbound"])
def test_one_tcp_flow_reaches_most_of_the_rate(limited: tuple[Rig, Domain], direction: str) -> None:
    rig, domain = limited
    kbps = received_kbps(domain, rig.sites[0].namespace, "-R" if direction == "inbound" else "")
    assert 0.8 * KBPS <= kbps <= 1.05 * KBPS


def test_a_rate_is_changed_and_lifted_without_touching_the_tunnel(limited: tuple[Rig, Domain]) -> None:
    rig, domain = limited
    since = rig.status(domain).since
    unlimited = replace(domain.connections[0], outbound_kbps=None)
    for wanted, holds in (
        (replace(unlimited, outbound_kbps=5_000), lambda kbps: kbps <= 5_500),
        (unlimited, lambda kbps: kbps >= 1.5 * KBPS),
    ):
        domain.connections = (wanted,)
        rig.reconcile()
        assert holds(received_kbps(domain, rig.sites[0].namespace, ""))
    assert rig.status(domain).since == since
