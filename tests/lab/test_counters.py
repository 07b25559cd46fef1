"""What status and metrics of a running gateway say about traffic that has been through it."""

from typing import Any

from deploy.lab import gateway, probes
from deploy.lab.running import RunningLab

CORPNET = "157.1.0.10"
PINGS = 3
PING_BYTES = 84  # ping's 56 bytes behind the headers of IPv4 and ICMP


def domain(lab: RunningLab, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in probes.status(lab)["routing_domains"] if each["name"] == name)
    return found


def counted(before: dict[str, Any], after: dict[str, Any], direction: str) -> tuple[int, int]:
    """Packets and bytes that came to a direction's counters."""
    none = {"packets": 0, "bytes": 0}
    old, new = before["traffic"].get(direction, none), after["traffic"].get(direction, none)
    return new["packets"] - old["packets"], new["bytes"] - old["bytes"]


def metrics(lab: RunningLab) -> list[str]:
    state = lab.directory / "state"
    token = (state / "admin.token").read_text().strip()
    url = f"https://127.0.0.1:{gateway.API_PORT}/metrics"
    trust = ("--cacert", str(state / "tls" / "ca.pem"), "-H", f"Authorization: Bearer {token}")
    return lab.run("gateway", "curl", "-sSf", *trust, url).splitlines()


def test_each_tenants_traffic_is_counted_by_direction_and_nobody_elses_with_it(blue_red: RunningLab) -> None:
    assert probes.pings(blue_red, "BlueVM1", CORPNET)  # now every neighbour is known
    blue, red = domain(blue_red, "blue"), domain(blue_red, "red")
    assert probes.pings(blue_red, "BlueVM1", CORPNET, count=PINGS)
    after = domain(blue_red, "blue")
    for direction in ("overlay_to_external", "external_to_overlay"):
        assert counted(blue, after, direction) == (PINGS, PINGS * PING_BYTES)
    assert counted(blue, after, "overlay_to_overlay") == (0, 0)
    assert domain(blue_red, "red")["traffic"] == red["traffic"]


def test_traffic_between_virtual_subnets_and_answers_have_counters_of_their_own(blue_red: RunningLab) -> None:
    blue = domain(blue_red, "blue")
    assert probes.pings(blue_red, "BlueVM1", "10.1.6.21", count=PINGS)
    assert probes.pings(blue_red, "BlueVM1", "10.1.1.1", count=PINGS)
    after = domain(blue_red, "blue")
    assert counted(blue, after, "overlay_to_overlay") == (2 * PINGS, 2 * PINGS * PING_BYTES)
    packets, _ = counted(blue, after, "answered_here")
    assert packets >= PINGS  # and what it answered of ARP


def test_metrics_tell_traffic_drops_memory_and_revisions(blue_red: RunningLab) -> None:
    assert probes.pings(blue_red, "BlueVM1", CORPNET)
    assert probes.ping_error(blue_red, "RedVM1", "10.1.6.22")
    probes.inject(blue_red, "host1", "--vsid", "7777")
    blue, red, lines = domain(blue_red, "blue"), domain(blue_red, "red"), metrics(blue_red)
    of_blue = f'{{direction="overlay_to_external",domain="blue",domain_id="{blue["id"]}"}}'
    assert f"tenant_gateway_packets_total{of_blue} {_number(blue, 'packets')}" in lines
    assert f"tenant_gateway_bytes_total{of_blue} {_number(blue, 'bytes')}" in lines
    dropped = f'{{domain="red",domain_id="{red["id"]}",reason="no_record"}}'
    assert f"tenant_gateway_drops_total{dropped} {float(red['drops']['no_record'])}" in lines
    outside = 'tenant_gateway_drops_total{domain="",domain_id="",reason="unknown_vsid"} '
    assert any(line.startswith(outside) for line in lines)
    assert "tenant_gateway_programmed_revision 1.0" in lines
    fill = probes.status(blue_red)["memory"]["tables"]
    assert 0 < fill["used"] < fill["capacity"]
    assert f'tenant_gateway_map_used{{map="tables",unit="bytes"}} {float(fill["used"])}' in lines


def test_counters_outlive_a_restart_of_the_daemon(blue_red: RunningLab) -> None:
    assert probes.pings(blue_red, "BlueVM1", CORPNET)
    before = domain(blue_red, "blue")["traffic"]["overlay_to_external"]
    gateway.stop(blue_red)
    gateway.start(blue_red)
    assert domain(blue_red, "blue")["traffic"]["overlay_to_external"]["packets"] >= before["packets"]


def _number(of: dict[str, Any], unit: str) -> float:
    return float(of["traffic"]["overlay_to_external"][unit])
