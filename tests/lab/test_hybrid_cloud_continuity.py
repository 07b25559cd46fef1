"""Tunnels outlive the daemon, rekey without loss, and come back at once when their own daemon dies: counted."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from deploy.lab import gateway, namespaces, probes
from deploy.lab.offices import Router
from deploy.lab.processes import wait_until
from deploy.lab.running import RunningLab
from deploy.lab.streams import Report, Stream, streaming
from gateway.compartments.names import names_of

RATE = 500
STREAMS = tuple(
    stream
    for owner, name in (("red", "Red"), ("blue", "Blue"))
    for stream in (
        Stream(owner, f"{name}Web", f"{owner}-hq-server", "10.1.1.12", rate=RATE),
        Stream(owner, f"{owner}-hq-server", f"{name}App", "10.1.6.21", rate=RATE),
    )
)
LONGEST_GAP_SECONDS = 0.9  # as in tests/lab/vpn/test_continuity.py


@pytest.fixture(autouse=True)
def tunnels_are_up(hybrid_cloud: RunningLab) -> None:
    probes.await_tunnels(hybrid_cloud)


def router(lab: RunningLab, name: str) -> Router:
    return Router(lab, next(office for office in lab.topology.offices if office.name == name))


def flaws(reports: list[Report]) -> list[Report]:
    assert len(reports) == len(STREAMS)
    assert all(report.received for report in reports), reports
    return [report for report in reports if report.lost or report.foreign or report.duplicates]


def charon_of(lab: RunningLab, domain: str) -> int:
    """Return the process of the gateway's own strongSwan for a routing domain."""
    identifier = next(one["id"] for one in lab.topology.document["routing_domains"] if one["name"] == domain)
    compartment = names_of(lab.topology.name, identifier).namespace
    inside = map(int, namespaces.execute(["ip", "netns", "pids", compartment]).split())
    (pid,) = (pid for pid in inside if command_of(pid) == "charon-systemd")
    return pid


def command_of(pid: int) -> str:
    """Return the name of a process's program, "" where it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize("how", [gateway.stop, gateway.kill])
def test_tunnels_carry_on_while_the_daemon_is_away_and_are_adopted(hybrid_cloud: RunningLab, how: object) -> None:
    before = [charon_of(hybrid_cloud, domain) for domain in ("red", "blue")]
    with streaming(hybrid_cloud, STREAMS) as reports:
        how(hybrid_cloud)  # type: ignore[operator]
        gateway.start(hybrid_cloud)
    assert flaws(reports) == []
    assert [charon_of(hybrid_cloud, domain) for domain in ("red", "blue")] == before


def test_commits_lose_no_packet_in_a_tunnel(hybrid_cloud: RunningLab) -> None:
    with streaming(hybrid_cloud, STREAMS) as reports:
        programmed = gateway.commit(hybrid_cloud, "blue", 50)
    assert programmed == 50
    assert flaws(reports) == []


def test_rekeying_loses_no_packet(hybrid_cloud: RunningLab) -> None:
    def rekeys(kind: str) -> int:
        return int(probes.tunnel(hybrid_cloud, "red", "headquarters")[f"{kind}_rekeys"])

    before = {kind: rekeys(kind) for kind in ("esp", "ike")}
    office = router(hybrid_cloud, "red-hq")
    with streaming(hybrid_cloud, STREAMS) as reports:
        office.control("--rekey", "--child", "cloud")
        wait_until(lambda: rekeys("esp") > before["esp"], "the CHILD_SA is rekeyed")
        office.control("--rekey", "--ike", "cloud")
        wait_until(lambda: rekeys("ike") > before["ike"], "the IKE_SA is rekeyed")
    assert flaws(reports) == []


def test_a_killed_charon_is_missed_for_a_moment_by_its_own_tenant_only(hybrid_cloud: RunningLab) -> None:
    killed = charon_of(hybrid_cloud, "red")
    with streaming(hybrid_cloud, STREAMS) as reports:
        os.kill(killed, signal.SIGKILL)
        wait_until(partial(is_replaced, hybrid_cloud, killed), "another one runs")
        probes.await_tunnels(hybrid_cloud)
    gaps = {f"{report.stream.sender} -> {report.stream.receiver}": report.lost / RATE for report in reports}
    print("gap in seconds after kill -9 of red's charon:", gaps)
    assert max(gaps.values()) <= LONGEST_GAP_SECONDS
    assert [report for report in reports if report.stream.owner == "blue" and report.lost] == []
    assert not any(report.foreign for report in reports)


def is_replaced(lab: RunningLab, killed: int) -> bool:
    try:
        return charon_of(lab, "red") != killed
    except ValueError:  # none at the moment
        return False
