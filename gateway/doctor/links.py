"""Checks of an interface as a link: that it is up, and that all its traffic passes here."""

from collections.abc import Iterator

from gateway.doctor.facts import Interface
from gateway.doctor.finding import Finding


def examine_link(interface: Interface) -> Iterator[Finding]:
    """Judge the state of the link, and virtual functions beside it."""
    yield _state(interface)
    yield _bypass(interface)


def _state(interface: Interface) -> Finding:
    name = interface.name
    if not interface.up:
        return Finding(name, "link", "failed", "is down", f"ip link set dev {name} up")
    if not interface.carrier:
        mend = "connect the cable, or bring up the other end"
        return Finding(name, "link", "warning", "is up, but has no carrier", mend)
    return Finding(name, "link", "ok", "is up")


def _bypass(interface: Interface) -> Finding:
    number = interface.virtual_functions
    if not number:
        return Finding(interface.name, "sr-iov", "ok", "no virtual functions take traffic past the datapath")
    bus, _, device = interface.device.partition("/")
    return Finding(
        interface.name,
        "sr-iov",
        "warning",
        f"{number} virtual functions are enabled: the NIC switches their traffic past the datapath",
        f"echo 0 > /sys/bus/{bus}/devices/{device}/sriov_numvfs",
    )
