"""Nothing is lost and nothing misrouted while the gateway changes under counted packet streams."""

from collections.abc import Sequence

import pytest

from deploy.lab import gateway, iperf3, probes
from deploy.lab.running import RunningLab
from deploy.lab.streams import Report, Stream, streaming

COMMITS = 1000

# every way through a gateway, with equal addresses and ports in both tenants: VSID to VSID, to CorpNet and from it
STREAMS = tuple(
    stream
    for owner, name in (("blue", "Blue"), ("red", "Red"))
    for stream in (
        Stream(owner, f"{name}VM1", f"{name}VM3", "10.1.6.21"),
        Stream(owner, f"{name}VM3", f"{owner}-corpnet", "157.1.0.10"),
        Stream(owner, f"{owner}-corpnet", f"{name}VM2", "10.1.1.12"),
    )
)


def assert_all_arrived(reports: Sequence[Report]) -> None:
    assert len(reports) == len(STREAMS)
    assert all(report.sent > 0 for report in reports), reports
    assert [report for report in reports if report.lost or report.foreign or report.duplicates] == []


def test_a_thousand_commits_lose_no_packet(blue_red: RunningLab) -> None:
    with streaming(blue_red, STREAMS) as reports:
        programmed = gateway.commit(blue_red, "blue", COMMITS)
    assert programmed == COMMITS
    assert_all_arrived(reports)


def test_commits_of_one_tenant_lose_no_packet_of_the_other_tenants_list(blue_red: RunningLab) -> None:
    """Red has an access list, so its packets also meet the connection table."""
    with streaming(blue_red, STREAMS) as reports:
        programmed = gateway.commit(blue_red, "red", 100)
    assert programmed == 100
    assert_all_arrived(reports)


def test_traffic_flows_while_the_daemon_is_killed_and_starts_again(blue_red: RunningLab) -> None:
    with streaming(blue_red, STREAMS) as reports:
        gateway.kill(blue_red)
        gateway.start(blue_red)
    assert_all_arrived(reports)
    assert probes.status(blue_red)["policy"]["programmed"]


def test_a_dead_daemon_does_not_stop_new_neighbours(blue_red: RunningLab) -> None:
    """The programs themselves answer ARP of machines and of CorpNet."""
    gateway.kill(blue_red)
    try:
        for node in ("BlueVM1", "RedVM1", "blue-corpnet"):
            blue_red.run(node, "ip", "neigh", "flush", "dev", "eth0")
        assert probes.page(blue_red, "BlueVM1", "157.1.0.10") == "blue blue-corpnet"
        assert probes.page(blue_red, "RedVM1", "10.1.6.21") == "red RedVM3"
    finally:
        gateway.start(blue_red)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_an_iperf3_connection_outlives_the_daemon(blue_red: RunningLab, how: str) -> None:
    client = iperf3.start(blue_red, "BlueVM1", "157.1.0.10", "-t", "4")
    (gateway.stop if how == "stop" else gateway.kill)(blue_red)
    gateway.start(blue_red)
    seconds = [interval["sum"]["bits_per_second"] for interval in iperf3.report(blue_red, client)["intervals"]]
    assert len(seconds) == 4
    assert min(seconds) > 0
