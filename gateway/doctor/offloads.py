"""Checks of what the NIC does to frames before XDP sees them."""

from collections.abc import Iterator

from gateway.doctor.facts import Interface
from gateway.doctor.finding import Finding


def examine_offloads(interface: Interface, vlans: bool) -> Iterator[Finding]:
    """Judge receive offloads; `vlans` tells whether a port or a connection on the interface uses a VLAN."""
    if not interface.features:
        mend = f"apt-get install ethtool, then: ethtool -k {interface.name}"
        yield Finding(interface.name, "offloads", "unknown", "ethtool shows none", mend)
        return
    yield _merging(interface)
    if interface.kind != "veth":  # a veth's tags are hidden by its peer
        yield _vlan(interface, vlans)


def _merging(interface: Interface) -> Finding:
    name = interface.name
    for feature in ("large-receive-offload", "rx-gro-hw"):
        state = interface.features.get(feature)
        if state is not None and state.active:
            return _merged(interface, feature, state.fixed)
    return Finding(name, "lro", "ok", "the NIC does not merge packets")


def _merged(interface: Interface, feature: str, fixed: bool) -> Finding:
    name = interface.name
    if not fixed:
        detail = f"{feature} merges packets, and native XDP is refused or loses their sizes"
        return Finding(name, "lro", "failed", detail, f"ethtool -K {name} {feature} off")
    mend = "use another NIC"
    if interface.driver == "virtio_net":
        mend = "have the hypervisor offer ctrl_guest_offloads, or start the VM with guest_tso4=off,guest_tso6=off"
    return Finding(name, "lro", "failed", f"{feature} is on and cannot be switched off: native XDP is refused", mend)


def _vlan(interface: Interface, vlans: bool) -> Finding:
    name = interface.name
    state = interface.features.get("rx-vlan-offload")
    if state is None or not state.active:
        return Finding(name, "vlan offload", "ok", "tags reach the program")
    detail = "the NIC takes tags off before the program sees them, so that a tagged frame passes as untagged"
    mend = "use another NIC" if state.fixed else f"ethtool -K {name} rxvlan off"
    if vlans:
        return Finding(name, "vlan offload", "failed", f"{detail}; VLANs are configured here", mend)
    return Finding(name, "vlan offload", "warning", detail, mend)
