"""Check of an interface's queues against the CPUs."""

from collections.abc import Iterator, Mapping

from gateway.doctor.facts import Channels, Interface
from gateway.doctor.finding import Finding


def examine_queues(interface: Interface, interfaces: Mapping[str, Interface], cpus: int) -> Iterator[Finding]:
    """Judge whether all CPUs can work, and whether the driver has queues left for XDP's own sending."""
    channels = interface.channels
    if channels is None:
        detail = "the driver does not tell them: one CPU may do all the work"
        yield Finding(interface.name, "queues", "unknown", detail, f"look at: ethtool -l {interface.name}")
    elif interface.kind == "veth":
        yield _veth(interface, channels, interfaces.get(interface.peer or ""))
    elif interface.driver == "virtio_net" and channels.most < channels.receive + cpus:
        yield _virtio(interface, channels, cpus)
    else:
        yield _nic(interface, channels, cpus)


def _veth(interface: Interface, channels: Channels, peer: Interface | None) -> Finding:
    sending = peer.channels.transmit if peer and peer.channels else 0
    if sending > channels.receive:
        detail = f"{channels.receive} receive queues, fewer than the {sending} that the peer sends on: XDP is refused"
        return Finding(interface.name, "queues", "failed", detail, f"ethtool -L {interface.name} rx {sending}")
    return Finding(interface.name, "queues", "ok", f"{channels.receive} receive queues")


def _virtio(interface: Interface, channels: Channels, cpus: int) -> Finding:
    detail = (
        f"{channels.most} queue pairs, {channels.receive} in use: none is left for each of {cpus} CPUs to send on, so "
        "XDP shares them under a lock (kernels before 5.13 refuse)"
    )
    mend = f"start the VM with queues={2 * cpus} (libvirt: <driver queues='{2 * cpus}'/>), use {cpus} of them"
    return Finding(interface.name, "queues", "warning", detail, mend)


def _nic(interface: Interface, channels: Channels, cpus: int) -> Finding:
    useful = min(channels.most, cpus)
    if channels.receive < useful:
        detail = f"{channels.receive} receive queues for {cpus} CPUs"
        mend = f"ethtool -L {interface.name} combined {useful} (or rx {useful}, where the driver has no combined ones)"
        return Finding(interface.name, "queues", "warning", detail, mend)
    return Finding(interface.name, "queues", "ok", f"{channels.receive} receive queues for {cpus} CPUs")
