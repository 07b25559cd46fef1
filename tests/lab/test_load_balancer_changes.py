"""Connections stay where they are while members come, drain and go, and while the daemon is killed: counted."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.lab import gateway, iperf3, main, members, probes
from deploy.lab.clients import Clients, Report, connected
from deploy.lab.processes import end, wait_until
from deploy.lab.running import RunningLab
from gateway.datapath import build
from gateway.services.services import DRAINS
from lb.drains import DRAIN_SECONDS_MAX

CLIENTS = (
    Clients("blue", "internet", "198.51.100.80", held=60, sources=("203.0.113.10", "203.0.113.11", "198.51.100.254")),
    Clients("red", "internet", "198.51.100.81", held=40, sources=("203.0.113.10", "203.0.113.11")),
    Clients("blue", "BlueVM11", "10.1.5.100", held=20),
    Clients("red", "RedVM11", "10.1.5.100", held=20),
    Clients("blue", "BlueVM1", "10.1.5.100", port=8080, held=20),
)
LEAVING, LEAVING_NAME = "10.1.6.23", "blue BlueVM4"
STAYING = {"blue BlueVM1", "blue BlueVM2", "blue BlueVM3"}


def become(lab: RunningLab, state: members.State) -> None:
    members.set_state(lab, "blue", "tier1", LEAVING, state)


def member(lab: RunningLab) -> tuple[str, str | None] | None:
    return probes.members(lab, "blue", "tier1").get(LEAVING)


def flaws(reports: list[Report]) -> list[Report]:
    """Return what is not as it should be; an empty list of reports would prove nothing."""
    assert len(reports) == len(CLIENTS)
    assert all(sum(report.held.values()) > report.clients.held and report.new for report in reports), reports
    return [report for report in reports if not report.flawless]


@pytest.fixture(autouse=True)
def whole_policy(load_balancer: RunningLab) -> Iterator[None]:
    gateway.apply(load_balancer, load_balancer.topology.policy_path.read_text())
    wait_until(lambda: member(load_balancer) == ("active", "healthy"), "all members take connections")
    yield


def test_connections_stay_while_a_member_is_added(load_balancer: RunningLab) -> None:
    become(load_balancer, "removed")
    with connected(load_balancer, CLIENTS) as reports:
        become(load_balancer, "active")
        wait_until(lambda: member(load_balancer) == ("active", "healthy"), "the new member takes connections")
        wait_for_answers(load_balancer, {LEAVING_NAME})
    assert flaws(reports) == []


def test_a_draining_member_keeps_its_connections_and_takes_no_new_ones(load_balancer: RunningLab) -> None:
    with connected(load_balancer, CLIENTS) as reports:
        become(load_balancer, "draining")
        assert seen_to_answer(load_balancer) == STAYING
    assert flaws(reports) == []
    assert reports[0].held[LEAVING_NAME] > 0


def test_a_removed_member_takes_only_its_own_connections_along(load_balancer: RunningLab) -> None:
    with connected(load_balancer, CLIENTS) as reports:
        become(load_balancer, "removed")
    broken = [server for report in reports for server, _ in report.broken]
    assert broken, "the removed member had connections"
    assert set(broken) == {LEAVING_NAME}
    assert not any(report.changed or report.foreign for report in reports), reports
    assert seen_to_answer(load_balancer) == STAYING


@pytest.mark.parametrize("how", [gateway.stop, gateway.kill])
def test_connections_stay_while_the_daemon_is_away(
    load_balancer: RunningLab, how: Callable[[RunningLab], None]
) -> None:
    with connected(load_balancer, CLIENTS) as reports:
        how(load_balancer)
        assert None not in {probes.page(load_balancer, "internet", "198.51.100.80") for _ in range(8)}
        gateway.start(load_balancer)
    assert flaws(reports) == []


def test_connections_stay_while_policies_change_again_and_again(load_balancer: RunningLab) -> None:
    with connected(load_balancer, CLIENTS) as reports:
        programmed = gateway.commit(load_balancer, "blue", 50)
    assert programmed == 50
    assert flaws(reports) == []


def test_iperf3_runs_on_while_the_daemon_is_killed_and_another_member_leaves(load_balancer: RunningLab) -> None:
    """At a moderate rate: faster streams fill the hosts' switch in user space, and with it the way of the probes."""
    ways = (("internet", "198.51.100.81"), ("BlueVM11", "10.1.5.100"), ("RedVM11", "10.1.5.100"))
    clients = [iperf3.start(load_balancer, node, address, "-t", "4", "-b", "10M") for node, address in ways]
    gateway.kill(load_balancer)
    gateway.start(load_balancer)
    become(load_balancer, "removed")
    for client in clients:
        intervals = iperf3.report(load_balancer, client)["intervals"]
        rates = [interval["sum"]["bits_per_second"] for interval in intervals]
        assert len(rates) == 4
        assert min(rates) > 0


def test_a_member_whose_server_dies_takes_no_more_and_comes_back(load_balancer: RunningLab) -> None:
    server = load_balancer.processes.find("BlueVM4-http")
    end(server, signal.SIGKILL)
    wait_until(lambda: member(load_balancer) == ("down", "unhealthy"), "the probe finds it dead")
    assert seen_to_answer(load_balancer) == STAYING
    main.start_web_server(load_balancer, "BlueVM4")
    wait_until(lambda: member(load_balancer) == ("active", "healthy"), "the probe finds it alive")
    wait_for_answers(load_balancer, {LEAVING_NAME})


def test_a_dead_member_is_left_out_while_the_daemon_is_away_and_as_soon_as_it_is_back(
    load_balancer: RunningLab,
) -> None:
    end(load_balancer.processes.find("BlueVM4-http"), signal.SIGKILL)
    wait_until(lambda: member(load_balancer) == ("down", "unhealthy"), "the probe finds it dead")
    gateway.kill(load_balancer)
    assert seen_to_answer(load_balancer) == STAYING
    gateway.start(load_balancer)
    assert member(load_balancer) == ("down", "unhealthy")
    assert seen_to_answer(load_balancer) == STAYING
    main.start_web_server(load_balancer, "BlueVM4")
    wait_until(lambda: member(load_balancer) == ("active", "healthy"), "the probe finds it alive")


def test_a_drain_ends_at_its_time_though_the_daemon_was_killed_meanwhile(load_balancer: RunningLab) -> None:
    become(load_balancer, "draining")
    wait_until(lambda: member(load_balancer) == ("draining", "healthy"), "it drains")
    drains = load_balancer.directory / "state" / DRAINS
    wait_until(drains.exists, "since when is written down")
    ((*who, began),) = json.loads(drains.read_text())
    gateway.kill(load_balancer)
    drains.write_text(json.dumps([[*who, began - DRAIN_SECONDS_MAX]]))  # as after an hour
    gateway.start(load_balancer)
    wait_until(lambda: member(load_balancer) == ("down", "healthy"), "its hour is over")


def seen_to_answer(lab: RunningLab) -> set[str | None]:
    return probes.servers(lab, "internet", "198.51.100.80", STAYING)


def wait_for_answers(lab: RunningLab, servers: set[str]) -> None:
    """Wait until new connections are answered by all of these."""
    seen: set[str | None] = set()

    def all_answered() -> bool:
        seen.add(probes.page(lab, "internet", "198.51.100.80"))
        return servers <= seen

    wait_until(all_answered, f"new connections go to {', '.join(servers)}")


def other_layout(directory: Path) -> Path:
    """Compile the programs with another kind of line in their table of connections; return the object's directory."""
    sources = directory / "bpf"
    shutil.copytree(build.SOURCE.parent, sources)
    maps = sources / "maps.h"
    before = "\tstruct neighbour6 neighbours6"
    assert before in maps.read_text()
    maps.write_text(maps.read_text().replace(before, f"\t__u64 fresh[8];\n{before}"))
    return build.build(sources / build.SOURCE.name, directory / build.object_path().name).parent


def test_connections_stay_while_a_version_with_another_connection_table_takes_over(
    load_balancer: RunningLab, tmp_path: Path
) -> None:
    objects = other_layout(tmp_path)
    clients = (*CLIENTS, Clients("blue", "internet", "2001:db8:100::80", held=20))
    try:
        with connected(load_balancer, clients) as reports:
            gateway.stop(load_balancer)
            gateway.start(load_balancer, TGW_BUILD_DIR=str(objects))
        assert probes.status(load_balancer)["faults"] == []
    finally:
        gateway.stop(load_balancer)
        gateway.start(load_balancer)
    assert len(reports) == len(clients)
    assert [report for report in reports if not report.flawless] == []
