"""The doctor reads a real veth pair as the kernel has it."""

import ctypes
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator

import pytest
from pyroute2 import netns

from gateway.configuration import GatewayConfiguration
from gateway.doctor import Finding, examine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

NEAR, FAR = f"tgwu-near{os.getpid()}", f"tgwu-far{os.getpid()}"
CONFIGURATION = GatewayConfiguration.model_validate(
    {
        "ports": [
            {"name": "p", "role": "provider", "interface": "eth1", "vlan": 10, "addresses": ["192.168.6.2/24"]},
            {"name": "x", "role": "external", "interface": "eth2"},
            {"name": "gone", "role": "external", "interface": "eth9"},
        ]
    }
)


def near(command: str, namespace: str = NEAR) -> None:
    subprocess.run(["ip", "netns", "exec", namespace, *command.split()], check=True)


@pytest.fixture
def veths() -> Iterator[None]:
    """Make eth1 and its peer1 in one namespace, and eth2 whose peer2 is in another."""
    for namespace in (NEAR, FAR):
        subprocess.run(["ip", "netns", "add", namespace], check=True)
    near("ip link add name eth1 mtu 1500 type veth peer name peer1")
    near(f"ip link add name eth2 type veth peer name peer2 netns {FAR}")
    for interface in ("eth1", "peer1", "eth2"):
        near(f"ip link set {interface} up")
    near("ip link set peer2 up", FAR)
    yield
    for namespace in (NEAR, FAR):
        subprocess.run(["ip", "netns", "del", namespace], check=True)


def findings() -> dict[tuple[str, str], Finding]:
    results: list[list[Finding]] = []

    def enter_and_examine() -> None:
        netns.setns(NEAR)
        results.append(examine(CONFIGURATION))

    thread = threading.Thread(target=enter_and_examine)
    thread.start()
    thread.join()
    return {(finding.subject, finding.check): finding for finding in results[0]}


def test_following_the_mends_of_a_veth_makes_it_fit(veths: None) -> None:
    before = findings()
    checks = ("peer napi", "peer checksums", "peer vlan tags", "mtu")
    for check in checks:
        finding = before["eth1", check]
        assert finding.state != "ok"
        near(finding.mend.partition(",")[0])
    after = findings()
    assert {check: after["eth1", check].state for check in checks} == dict.fromkeys(checks, "ok")


def test_a_peer_in_another_namespace_is_seen_as_far_as_the_kernel_tells(veths: None) -> None:
    assert findings()["eth2", "peer checksums"].state == "unknown"
    near("ethtool -K peer2 gro on", FAR)
    assert findings()["eth2", "peer napi"].state in ("ok", "unknown"), "told since Linux 6.3"


def test_a_missing_interface_fails(veths: None) -> None:
    assert findings()["eth9", "link"].state == "failed"


def test_a_program_of_somebody_else_fails_until_it_is_taken_off(veths: None) -> None:
    attach_a_passing_program()
    finding = findings()["eth1", "xdp program"]
    assert finding.state == "failed"
    near(finding.mend.partition("or: ")[2])
    assert findings()["eth1", "xdp program"].state == "ok"


def attach_a_passing_program() -> None:
    """Attach `return XDP_PASS` to eth1, as `ip` would, without a link that owns it."""
    libbpf = ctypes.CDLL("libbpf.so.1")
    instructions = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)  # r0 = 2; exit
    program = libbpf.bpf_prog_load(6, b"other", b"GPL", instructions, ctypes.c_size_t(2), None)
    assert program >= 0, os.strerror(-program)

    def enter_and_attach() -> None:
        netns.setns(NEAR)
        assert libbpf.bpf_xdp_attach(socket.if_nametoindex("eth1"), program, 0, None) == 0

    thread = threading.Thread(target=enter_and_attach)
    thread.start()
    thread.join()
    os.close(program)


def test_forwarding_without_the_guard_is_warned_of(veths: None) -> None:
    assert findings()["linux", "forwarding"].state == "ok"
    near("sysctl -q -w net.ipv4.ip_forward=1")
    assert findings()["linux", "forwarding"].state == "warning"
    near("nft add table inet tenant_gateway")
    assert findings()["linux", "forwarding"].state == "ok"


def test_this_machine_is_fit_for_the_datapath(veths: None) -> None:
    machine = {check: finding for (subject, check), finding in findings().items() if subject == "kernel"}
    assert [finding for finding in machine.values() if finding.state == "failed"] == []
    assert machine["bpf"].state == "ok"
