"""Each fault of a machine or an interface is found, and its mend named; a fit one has no fault."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.configuration import GatewayConfiguration
from gateway.doctor.examination import judge
from gateway.doctor.facts import (
    XDP_BASIC,
    XDP_FRAGMENTS,
    XDP_REDIRECT,
    XDP_TRANSMIT,
    Channels,
    Feature,
    Interface,
    Machine,
)
from gateway.doctor.finding import Finding
from gateway.doctor.interface_facts import read_channels, read_features
from gateway.doctor.machine_facts import file_system_of, missing_capabilities

NATIVE = XDP_BASIC | XDP_REDIRECT
OFF = Feature(active=False)
ON = Feature(active=True)
FIXED_ON = Feature(active=True, fixed=True)

MACHINE = Machine(
    kernel=(6, 12),
    cpus=4,
    jit=True,
    btf=True,
    pin_file_system="bpf",
    missing_bpf=(),
    membarrier=True,
    missing_capabilities=(),
    forwarding=(),
    forwarding_guard=False,
    policy_rules=0,
)
NIC = Interface(
    name="eth1",
    index=2,
    up=True,
    carrier=True,
    mtu=1600,
    driver="ice",
    device="pci/0000:01:00.0",
    xdp_features=NATIVE | XDP_FRAGMENTS,
    channels=Channels(receive=4, transmit=4, most=64),
    features={"large-receive-offload": OFF, "rx-gro-hw": OFF, "rx-vlan-offload": OFF},
)
VETH = Interface(
    name="eth1",
    index=2,
    up=True,
    carrier=True,
    mtu=1600,
    kind="veth",
    driver="veth",
    peer="peer1",
    xdp_features=NATIVE | XDP_TRANSMIT | XDP_FRAGMENTS,
    channels=Channels(receive=1, transmit=1, most=2),
    features={"large-receive-offload": OFF, "rx-vlan-offload": ON},
)
PEER = Interface(
    name="peer1",
    index=3,
    up=True,
    carrier=True,
    mtu=1600,
    kind="veth",
    driver="veth",
    peer="eth1",
    channels=Channels(receive=1, transmit=1, most=2),
    features={"tx-checksumming": OFF, "tx-vlan-offload": OFF, "generic-receive-offload": ON},
)


def faults(
    *interfaces: Interface,
    machine: Machine = MACHINE,
    vlan: int = 0,
    connection_vlans: Iterable[int] = (),
    address: str = "192.168.6.2/24",
    pin_directory: Path = Path("/nowhere"),
) -> dict[str, Finding]:
    """Return what is not ok, by check, with provider port `p` (on VLAN `vlan`) and external port `x`, both on eth1."""
    configuration = GatewayConfiguration.model_validate(
        {
            "ports": [
                {"name": "p", "role": "provider", "interface": "eth1", "vlan": vlan, "addresses": [address]},
                {"name": "x", "role": "external", "interface": "eth1"},
            ],
            "datapath": {"pin_dir": pin_directory},
        }
    )
    by_name = {interface.name: interface for interface in interfaces}
    findings = judge(configuration, {"x": tuple(connection_vlans)}, machine, by_name)
    return {finding.check: finding for finding in findings if finding.state != "ok"}


def found(fault: Finding) -> tuple[str, str]:
    return fault.state, fault.mend


def test_a_fit_nic_and_a_fit_veth_have_no_fault() -> None:
    assert faults(NIC) == {}
    assert faults(VETH, PEER) == {}


def test_an_interface_that_is_missing_is_named_with_its_ports() -> None:
    (fault,) = faults().values()
    assert (fault.subject, fault.check, fault.state) == ("eth1", "link", "failed")
    assert "p, x" in fault.detail


@pytest.mark.parametrize(
    ("changes", "check", "state", "mend"),
    [
        ({"up": False, "carrier": False}, "link", "failed", "ip link set dev eth1 up"),
        ({"carrier": False}, "link", "warning", "connect the cable"),
        ({"virtual_functions": 8}, "sr-iov", "warning", "echo 0 > /sys/bus/pci/devices/0000:01:00.0/sriov_numvfs"),
        ({"xdp_features": XDP_BASIC}, "native xdp", "failed", "use a NIC"),
        ({"xdp_features": None, "driver": "r8169"}, "native xdp", "warning", "use a NIC"),
        ({"kind": "vlan", "driver": "vlan", "xdp_features": 0}, "native xdp", "failed", "the port on the parent"),
        ({"mtu": 9000, "xdp_features": NATIVE}, "frame size", "failed", "ip link set dev eth1 mtu 3498"),
        ({"mtu": 9000, "xdp_features": None}, "frame size", "unknown", "ip link set dev eth1 mtu 3498"),
        ({"xdp_program": 7}, "xdp program", "failed", "ip link set dev eth1 xdp off"),
        ({"features": {"large-receive-offload": ON}}, "lro", "failed", "ethtool -K eth1 large-receive-offload off"),
        ({"features": {"rx-gro-hw": FIXED_ON}}, "lro", "failed", "use another NIC"),
        ({"features": {"rx-gro-hw": FIXED_ON}, "driver": "virtio_net"}, "lro", "failed", "guest_tso4=off"),
        ({"features": {"rx-vlan-offload": ON}}, "vlan offload", "warning", "ethtool -K eth1 rxvlan off"),
        ({"features": {"rx-vlan-offload": FIXED_ON}}, "vlan offload", "warning", "use another NIC"),
        ({"features": {}}, "offloads", "unknown", "apt-get install ethtool"),
        ({"channels": Channels(2, 2, 64)}, "queues", "warning", "ethtool -L eth1 combined 4"),
        ({"channels": None}, "queues", "unknown", "ethtool -l eth1"),
        ({"mtu": 1500}, "mtu", "warning", "ip link set dev eth1 mtu 1550"),
        ({"mtu": 1300}, "mtu", "failed", "ip link set dev eth1 mtu 1550"),
    ],
)
def test_each_fault_of_a_nic_is_found_with_its_mend(changes: dict[str, Any], check: str, state: str, mend: str) -> None:
    changed = faults(replace(NIC, **changes))
    assert list(changed) == [check]
    assert changed[check].state == state
    assert mend in changed[check].mend


@pytest.mark.parametrize(("vlan", "connection_vlans"), [(10, ()), (0, (20,))])
def test_vlan_offload_fails_where_a_port_or_a_connection_uses_a_vlan(vlan: int, connection_vlans: tuple[int]) -> None:
    nic = replace(NIC, features={"rx-vlan-offload": ON})
    fault = faults(nic, vlan=vlan, connection_vlans=connection_vlans)["vlan offload"]
    assert found(fault) == ("failed", "ethtool -K eth1 rxvlan off")


def test_the_mtu_counts_the_outer_family_and_names_what_vms_get() -> None:
    over_ipv4 = faults(replace(NIC, mtu=1500))["mtu"]
    assert "1450 bytes over VXLAN and 1458 over NVGRE" in over_ipv4.detail
    over_ipv6 = faults(replace(NIC, mtu=1500), address="fd06::2/64")["mtu"]
    assert "1430 bytes over VXLAN and 1438 over NVGRE" in over_ipv6.detail
    assert "mtu 1570" in over_ipv6.mend
    assert "mtu" not in faults(replace(NIC, mtu=1550))
    assert "mtu" in faults(replace(NIC, mtu=1549))


def test_a_known_driver_is_believed_where_the_kernel_does_not_tell() -> None:
    assert faults(replace(NIC, xdp_features=None)) == {}


def test_our_own_program_is_no_fault(tmp_path: Path) -> None:
    nic = replace(NIC, xdp_program=7)
    assert "xdp program" in faults(nic, pin_directory=tmp_path)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "2").touch()
    assert faults(nic, pin_directory=tmp_path) == {}


def test_virtio_needs_a_queue_pair_more_for_each_cpu() -> None:
    virtio = replace(NIC, driver="virtio_net", channels=Channels(4, 4, 4))
    fault = faults(virtio)["queues"]
    assert fault.state == "warning" and "queues=8" in fault.mend
    assert faults(replace(virtio, channels=Channels(4, 4, 8))) == {}


@pytest.mark.parametrize(
    ("changes", "check", "mend"),
    [
        ({"features": {**PEER.features, "tx-checksumming": ON}}, "peer checksums", "ethtool -K peer1 tx off"),
        ({"features": {**PEER.features, "tx-vlan-offload": ON}}, "peer vlan tags", "ethtool -K peer1 txvlan off"),
        ({"channels": Channels(4, 4, 4)}, "queues", "ethtool -L eth1 rx 4"),
    ],
)
def test_faults_of_a_veth_peer_are_found(changes: dict[str, Any], check: str, mend: str) -> None:
    changed = faults(VETH, replace(PEER, **changes), vlan=10)
    assert {name: found(fault) for name, fault in changed.items()} == {check: ("failed", mend)}


def test_a_veth_peer_without_napi_is_found_by_xdp_features_or_by_its_offloads() -> None:
    mend = "ethtool -K peer1 gro on"
    assert found(faults(replace(VETH, xdp_features=NATIVE), PEER)["peer napi"]) == ("failed", mend)
    old_kernel = replace(VETH, xdp_features=None)
    assert "peer napi" not in faults(old_kernel, PEER)
    without_gro = replace(PEER, features={**PEER.features, "generic-receive-offload": OFF})
    assert found(faults(old_kernel, without_gro)["peer napi"]) == ("failed", mend)
    assert "peer napi" not in faults(old_kernel, replace(without_gro, xdp_program=9))


def test_a_veth_peer_in_another_namespace_is_unknown_with_how_to_look() -> None:
    changed = faults(replace(VETH, xdp_features=None, peer=None), vlan=10)
    assert {name: fault.state for name, fault in changed.items()} == {
        "peer napi": "unknown",
        "peer checksums": "unknown",
        "peer vlan tags": "unknown",
    }
    assert all("in the peer's network namespace" in fault.mend for fault in changed.values())


@pytest.mark.parametrize(
    ("changes", "check", "state", "mend"),
    [
        ({"kernel": (5, 15)}, "version", "failed", "Debian 12"),
        ({"kernel": (5, 19)}, "version", "warning", "Debian 12"),
        ({"missing_bpf": None}, "bpf", "failed", "apt-get install libbpf1"),
        ({"missing_bpf": ("map type RINGBUF",)}, "bpf", "failed", "Debian 12"),
        ({"jit": False}, "bpf jit", "failed", "sysctl -w net.core.bpf_jit_enable=1"),
        ({"jit": None}, "bpf jit", "unknown", "cat /proc/sys/net/core/bpf_jit_enable"),
        ({"btf": False}, "btf", "failed", "CONFIG_DEBUG_INFO_BTF"),
        ({"pin_file_system": "tmpfs"}, "bpffs", "warning", "mount -t bpf bpf /sys/fs/bpf"),
        ({"membarrier": False}, "membarrier", "warning", "nohz_full"),
        ({"missing_capabilities": ("CAP_NET_ADMIN",)}, "privileges", "failed", "sudo"),
        ({"forwarding": ("IPv4",)}, "forwarding", "warning", "net.ipv4.ip_forward=0"),
        ({"forwarding": ("IPv4",), "forwarding_guard": None}, "forwarding", "failed", "apt-get install nftables"),
        ({"policy_rules": 2}, "policy rules", "warning", "main table"),
    ],
)
def test_each_fault_of_the_machine_is_found_with_its_mend(
    changes: dict[str, Any], check: str, state: str, mend: str
) -> None:
    changed = faults(NIC, machine=replace(MACHINE, **changes))
    assert list(changed) == [check]
    assert changed[check].state == state
    assert mend in changed[check].mend


def test_forwarding_under_the_guard_is_no_fault() -> None:
    assert faults(NIC, machine=replace(MACHINE, forwarding=("IPv4", "IPv6"), forwarding_guard=True)) == {}


def test_without_cap_bpf_what_the_kernel_has_is_unknown_not_missing() -> None:
    machine = replace(MACHINE, missing_capabilities=("CAP_BPF",), missing_bpf=("map type ARRAY",))
    assert faults(NIC, machine=machine)["bpf"].state == "unknown"


def test_channels_are_read_whether_counted_in_pairs_or_by_side() -> None:
    heading, present = "Channel parameters for eth0:\nPre-set maximums:\n", "Current hardware settings:\n"
    pairs = (
        f"{heading}RX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t8\n{present}RX:\t\tn/a\nOther:\t\t1\nCombined:\t4\n"
    )
    sides = f"{heading}RX:\t\t2\nTX:\t\t2\nCombined:\tn/a\n{present}RX:\t\t1\nTX:\t\t2\nCombined:\tn/a\n"
    assert read_channels(pairs) == Channels(receive=4, transmit=4, most=8)
    assert read_channels(sides) == Channels(receive=1, transmit=2, most=2)
    assert read_channels("") is None


def test_features_are_read_with_what_cannot_be_switched() -> None:
    document = [
        {
            "ifname": "eth0",
            "tx-checksumming": {"active": True, "fixed": None, "requested": None},
            "rx-gro-hw": {"active": True, "fixed": True, "requested": False},
        }
    ]
    assert read_features(document) == {"tx-checksumming": ON, "rx-gro-hw": FIXED_ON}


def test_the_pin_file_system_is_that_of_the_last_and_deepest_mount() -> None:
    mounts = (
        "sysfs /sys sysfs rw 0 0\nsysfs /sys/fs/bpf sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n/dev/a / ext4 rw 0 0\n"
    )
    assert file_system_of(Path("/sys/fs/bpf/tenant-gateway"), mounts) == "bpf"
    assert file_system_of(Path("/sys/fs/other"), mounts) == "sysfs"
    assert file_system_of(Path("/srv"), mounts) == "ext4"


def test_missing_capabilities_are_named() -> None:
    assert missing_capabilities("CapEff:\t000001ffffffffff\n") == ()
    assert missing_capabilities("CapEff:\t0000000000001000\n") == ("CAP_SYS_ADMIN", "CAP_BPF")
