"""Checks of an interface's driver: native XDP, large frames, a program that is there already."""

from collections.abc import Iterator
from pathlib import Path

from gateway.doctor.facts import XDP_BASIC, XDP_FRAGMENTS, XDP_REDIRECT, Interface
from gateway.doctor.finding import Finding

# fmt: off
NATIVE_DRIVERS = frozenset({
        "atlantic", "bnxt_en", "bond", "cpsw", "ena", "fsl_dpaa2_eth", "fsl_enetc", "gve", "hv_netvsc", "i40e", "ice",
    "igb", "igc", "ionic", "ixgbe", "ixgbevf", "mana", "mlx4_core", "mlx5_core", "mvneta", "mvpp2", "netsec", "nfp",
    "nicvf", "qede", "sfc", "st_gmac", "tsnep", "tun", "veth", "virtio_net", "vmxnet3", "xen_netfront",
})
# fmt: on
ONE_BUFFER_MTU = 3498  # a 4 KB page less headroom (256), skb_shared_info (320), Ethernet header and two VLAN tags


def examine_driver(interface: Interface, pin_directory: Path) -> Iterator[Finding]:
    """Judge whether our program can run in the driver; a link pinned below `pin_directory` is ours."""
    yield _native(interface)
    yield _large_frames(interface)
    yield _other_program(interface, (pin_directory / "links" / str(interface.index)).exists())


def _native(interface: Interface) -> Finding:
    name, driver = interface.name, interface.driver or "of unknown name"
    mend = f"use a NIC whose driver has native XDP: {', '.join(sorted(NATIVE_DRIVERS))}"
    if interface.kind == "vlan":
        mend = "configure the port on the parent interface, with `vlan = …`"
    if interface.xdp_features is None:
        if interface.driver in NATIVE_DRIVERS:
            return Finding(name, "native xdp", "ok", f"driver {driver} is known to have it")
        return Finding(name, "native xdp", "warning", f"driver {driver} is not known to have it", mend)
    if interface.xdp_features & (XDP_BASIC | XDP_REDIRECT) != XDP_BASIC | XDP_REDIRECT:
        return Finding(name, "native xdp", "failed", f"driver {driver} cannot run or redirect from XDP natively", mend)
    return Finding(name, "native xdp", "ok", f"driver {driver} has it")


def _large_frames(interface: Interface) -> Finding:
    name, mtu = interface.name, interface.mtu
    if mtu <= ONE_BUFFER_MTU:
        return Finding(name, "frame size", "ok", f"MTU {mtu} fits one buffer")
    mend = f"ip link set dev {name} mtu {ONE_BUFFER_MTU}, or a kernel whose driver has it (virtio_net: 6.3)"
    if interface.xdp_features is None:
        detail = f"MTU {mtu} needs XDP over several buffers; this kernel does not tell whether the driver has it"
        return Finding(name, "frame size", "unknown", detail, mend)
    if not interface.xdp_features & XDP_FRAGMENTS:
        return Finding(name, "frame size", "failed", f"MTU {mtu} needs XDP over several buffers", mend)
    return Finding(name, "frame size", "ok", f"the driver has XDP over several buffers, as MTU {mtu} needs")


def _other_program(interface: Interface, ours: bool) -> Finding:
    name, program = interface.name, interface.xdp_program
    if program is None:
        return Finding(name, "xdp program", "ok", "none is attached")
    if ours:
        return Finding(name, "xdp program", "ok", f"program {program} is the gateway's own")
    mend = f"stop whoever attached it (`bpftool link show` names it), or: ip link set dev {name} xdp off"
    return Finding(name, "xdp program", "failed", f"program {program} of somebody else is attached", mend)
