"""Rates of tunnels, by HTB: a token bucket for each connection on the device that its packets leave by.

The firewall writes a packet's class into its priority, which HTB looks at first; what has none passes unlimited.
"""

from collections.abc import Mapping

from pyroute2 import IPRoute  # type: ignore[import-untyped]

_KIND = "htb"
_ROOT = 0x10000  # 1:0; classes are 1:1 and on, their queues 101:0 and on
_FIRST_QUEUE = 0x1000000
_BURST_SECONDS = 0.005
_LEAST_BURST_BYTES = 1 << 16  # the largest packet that GSO makes
_QUEUE_SECONDS = 0.05  # room for a TCP flow's bursts without much delay
_LEAST_QUEUE, _PACKET_BYTES = 64, 1400


def set_rates(index: int, queue: str, by_class: Mapping[int, int]) -> None:
    """Limit a device's classes to so many kbit/s; `queue` is the kind that it has. Raises NetlinkError."""
    limited = queue == _KIND
    if not limited and not by_class:
        return
    with IPRoute() as netlink:
        if not by_class:
            netlink.tc("del", index=index, root=True)
            return
        if not limited:
            netlink.tc("add", _KIND, index, _ROOT, default=0)
        for number, kbps in by_class.items():
            _set_class(netlink, index, number, kbps * 125)
        held = {entry["handle"] - _ROOT for entry in netlink.get_classes(index=index)}
        for number in held - by_class.keys():
            netlink.tc("del-class", index=index, handle=_ROOT + number)


def _set_class(netlink: IPRoute, index: int, number: int, rate: int) -> None:
    """`rate` in bytes per second."""
    burst = max(_LEAST_BURST_BYTES, int(rate * _BURST_SECONDS))
    handle = _ROOT + number
    bucket = {"rate": rate, "ceil": rate, "burst": burst, "cburst": burst, "quantum": _LEAST_BURST_BYTES}
    netlink.tc("replace-class", _KIND, index, handle, parent=_ROOT, **bucket)
    packets = max(_LEAST_QUEUE, int(rate * _QUEUE_SECONDS / _PACKET_BYTES))
    netlink.tc("replace", "pfifo", index, _FIRST_QUEUE + (number << 16), parent=handle, limit=packets)
