"""`tgw capture` beside a running gateway: what it writes is read back with scapy and tcpdump."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import GRE, Dot1Q
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet
from scapy.utils import PcapNgReader

from deploy.lab import gateway, probes
from deploy.lab.processes import Process, end
from deploy.lab.running import RunningLab
from gateway.datapath.maps import Map

ONLY_IN_BLUE = "10.1.6.22"
IN_NEITHER = "10.1.6.99"
CORPNET = "157.1.0.10"


def switched_on(lab: RunningLab) -> bool:
    root = Map.from_pin(gateway.pins_of(lab.topology) / "current" / "maps" / "root")
    return bool(root.records(root.layout().struct("root"))["capture"][0])


def start(lab: RunningLab, file: Path, *options: str) -> Process:
    """Start a capture and return once the datapath's switch is on."""
    configured = {"TGW_CONFIG": str(gateway.configuration_path(lab))}
    name, namespace = f"capture-{file.name}", lab.namespace("gateway")
    process = lab.processes.start(
        name, namespace, gateway.COMMAND, "capture", "-w", str(file), *options, environment=configured
    )
    lab.processes.wait(process, lambda: "capturing" in lab.processes.log(name).read_text(), "captures")
    return process


@contextmanager
def capturing(lab: RunningLab, file: Path, *options: str) -> Iterator[None]:
    process = start(lab, file, *options)
    assert switched_on(lab)
    try:
        yield
    finally:
        end(process, signal.SIGTERM)
    assert not switched_on(lab)


def read(file: Path) -> list[Packet]:
    with PcapNgReader(str(file)) as reader:
        return list(reader)


def comment(frame: Packet) -> str:
    return bytes(frame.comments[0]).decode()


def shown_by_tcpdump(file: Path) -> str:
    return subprocess.run(["tcpdump", "-n", "-r", str(file)], capture_output=True, text=True, check=True).stdout


def test_the_drops_of_red_trying_to_reach_blue_are_captured_and_nothing_else(
    blue_red: RunningLab, tmp_path: Path
) -> None:
    assert probes.pings(blue_red, "RedVM1", CORPNET)  # now every neighbour is known
    file = tmp_path / "drops.pcapng"
    with capturing(blue_red, file, "--domain", "red", "--drops", "no_record"):
        assert probes.pings(blue_red, "RedVM1", CORPNET)
        assert probes.pings(blue_red, "BlueVM1", ONLY_IN_BLUE)
        assert probes.ping_error(blue_red, "BlueVM1", IN_NEITHER)
        assert probes.ping_error(blue_red, "RedVM1", ONLY_IN_BLUE) == "Destination Host Unreachable"
    frames = read(file)
    assert [comment(frame) for frame in frames] == [
        f"dropped no_record; domain red; {side}" for side in ("before", "after")
    ]
    request, error = frames
    assert request[VXLAN].vni == 5001
    assert request[VXLAN][IP].dst == ONLY_IN_BLUE
    assert (error[VXLAN][ICMP].type, error[VXLAN][ICMP].code) == (3, 1)
    assert f"ICMP host {ONLY_IN_BLUE} unreachable" in shown_by_tcpdump(file)


def test_a_forwarded_packet_is_captured_as_it_came_and_as_it_left(blue_red: RunningLab, tmp_path: Path) -> None:
    assert probes.pings(blue_red, "BlueVM1", CORPNET)  # now every neighbour is known
    file = tmp_path / "forwarded.pcapng"
    began = time.time()
    with capturing(blue_red, file, "--port", "blue-corpnet"):
        assert probes.pings(blue_red, "BlueVM1", CORPNET, count=1)
    came, left = [frame for frame in read(file) if ICMP in frame and frame[ICMP].type == 8]
    assert GRE in came
    assert GRE not in left
    corpnet = blue_red.topology.external_ports()["blue-corpnet"]
    assert (came.sniffed_on, left.sniffed_on) == ("eth1", corpnet)
    assert [comment(came), comment(left)] == [f"forwarded; domain blue; {side}" for side in ("before", "after")]
    assert began < came.time < time.time()


def test_of_two_ports_on_one_card_only_the_vlan_of_the_one_is_captured(
    corpnet_vlans: RunningLab, tmp_path: Path
) -> None:
    for machine in "BlueVM1", "RedVM1":  # now every neighbour is known
        assert probes.pings(corpnet_vlans, machine, CORPNET)
    file = tmp_path / "vlan.pcapng"
    with capturing(corpnet_vlans, file, "--port", "corpnet", "--vlan", "20"):
        assert probes.pings(corpnet_vlans, "RedVM1", CORPNET)
        assert probes.pings(corpnet_vlans, "BlueVM1", CORPNET, count=1)
    echoes = [frame for frame in read(file) if ICMP in frame]
    sides = [f"forwarded; domain blue; {side}" for side in ("before", "after")]
    assert [comment(frame) for frame in echoes] == sides * 2
    assert [frame[Dot1Q].vlan if Dot1Q in frame else None for frame in echoes] == [None, 20, 20, None]


def test_of_several_reasons_only_those_are_captured(blue_red: RunningLab, tmp_path: Path) -> None:
    file = tmp_path / "reasons.pcapng"
    with capturing(blue_red, file, "--drops", "unknown_vsid", "no_record"):
        probes.inject(blue_red, "host1", "--vsid", "6001", "--outer-source", "192.168.2.99")
        probes.inject(blue_red, "host1", "--vsid", "7777")
    assert [comment(frame) for frame in read(file)] == ["dropped unknown_vsid; domain none; before"]


def test_a_capture_ends_after_the_frames_it_was_to_count(blue_red: RunningLab, tmp_path: Path) -> None:
    file = tmp_path / "counted.pcapng"
    process = start(blue_red, file, "--count", "3")
    assert probes.pings(blue_red, "BlueVM1", CORPNET)
    blue_red.processes.wait(process, lambda: not process.runs(), "ended")
    assert len(read(file)) == 3
    assert not switched_on(blue_red)


def test_tcpdump_reads_a_capture_while_it_is_made(blue_red: RunningLab) -> None:
    configured = f"TGW_CONFIG={gateway.configuration_path(blue_red)}"
    command = f"{configured} {gateway.COMMAND} capture --drops unknown_vsid -w - | tcpdump -n -c 1 -r -"
    with subprocess.Popen(
        blue_red.inside("gateway", "sh", "-c", command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as pipeline:
        assert pipeline.stderr is not None
        while "capturing" not in pipeline.stderr.readline():
            assert pipeline.poll() is None
        probes.inject(blue_red, "host1", "--vsid", "7777", "--encapsulation", "vxlan")
        shown, _ = pipeline.communicate(timeout=30)
    assert pipeline.returncode == 0
    assert "vni 7777" in shown
    assert not switched_on(blue_red)


def test_frames_that_nobody_takes_in_time_are_counted(blue_red: RunningLab, tmp_path: Path) -> None:
    process = start(blue_red, tmp_path / "stopped.pcapng")
    os.kill(process.pid, signal.SIGSTOP)
    probes.throughput(blue_red, "BlueVM1", "10.1.6.21")
    os.kill(process.pid, signal.SIGCONT)
    end(process, signal.SIGINT)
    told = blue_red.processes.log(process.name).read_text()
    assert int(re.search(r"([\d,]+) lost", told)[1].replace(",", "")) > 0


def test_a_second_capture_is_refused_and_says_who_captures(blue_red: RunningLab, tmp_path: Path) -> None:
    with capturing(blue_red, tmp_path / "first.pcapng"):
        second = blue_red.inside(
            "gateway",
            "env",
            f"TGW_CONFIG={gateway.configuration_path(blue_red)}",
            *(gateway.COMMAND, "capture", "-w", str(tmp_path / "second.pcapng")),
        )
        done = subprocess.run(second, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "captures already" in done.stderr
        assert not (tmp_path / "second.pcapng").exists()
        assert switched_on(blue_red)


def test_what_a_killed_capture_left_on_is_turned_off_by_the_next_daemon(blue_red: RunningLab, tmp_path: Path) -> None:
    end(start(blue_red, tmp_path / "killed.pcapng"), signal.SIGKILL)
    assert switched_on(blue_red)
    gateway.stop(blue_red)
    assert switched_on(blue_red)
    gateway.start(blue_red)
    assert not switched_on(blue_red)


def test_a_running_capture_outlives_a_restart_of_the_daemon(blue_red: RunningLab, tmp_path: Path) -> None:
    file = tmp_path / "restart.pcapng"
    with capturing(blue_red, file, "--drops", "unknown_vsid"):
        gateway.stop(blue_red)
        gateway.start(blue_red)
        probes.inject(blue_red, "host1", "--vsid", "7777")
    assert len(read(file)) == 1
