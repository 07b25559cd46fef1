"""Addresses that strongSwan's user-space ESP needs to install a tunnel, kept out of everybody's way.

Before 5.9.12 it refuses traffic selectors in which the machine has no address of its own, and a compartment need not
have one there. So the selector's first address goes to the loopback interface; and since it may be a VM's, what comes
out of the tunnel, and what the compartment itself sends there (probes, ICMP errors), goes by the inside before Linux
looks for addresses of its own.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute  # type: ignore[import-untyped]

_LOCAL = 255
_OWN, _OUT_OF_TUNNEL, _LATER = 1, 2, 3  # preferences of rules; that of the kernel's own for the local table is 0
_FAMILIES = {4: AF_INET, 6: AF_INET6}


def set_anchors(
    netlink: IPRoute, indexes: Mapping[str, int], inside: str, tunnel: tuple[str, int], selectors: Iterable[str]
) -> None:
    """Give the calling thread's namespace the addresses and rules for these local selectors.

    `tunnel` is the device and the table for what comes out of it. Raises NetlinkError, OSError.
    """
    held: dict[str, int] = {}
    own: set[str] = set()
    for address in netlink.get_addr():
        text = address.get("address")
        if address["index"] != indexes["lo"]:
            own.add(text)
        elif not ip_address(text).is_loopback:
            held[text] = address["prefixlen"]
    wanted = set(_missing(own, selectors))
    for anchor in wanted - held.keys():
        length = ip_address(anchor).max_prefixlen
        netlink.addr("add", index=indexes["lo"], address=anchor, prefixlen=length)
    for anchor in held.keys() - wanted:
        netlink.addr("del", index=indexes["lo"], address=anchor, prefixlen=held[anchor])
    if wanted or held:
        Path(f"/proc/sys/net/ipv4/conf/{inside}/accept_local").write_text("1")  # as a source it may be a VM's
        for version, family in _FAMILIES.items():
            of_family = ({one for one in ones if ip_address(one).version == version} for ones in (own, wanted))
            _set_rules(netlink, family, tunnel, *of_family)


def _missing(own: Iterable[str], selectors: Iterable[str]) -> Iterable[str]:
    addresses = [ip_address(address) for address in own]
    for selector in map(ip_network, selectors):
        if selector.prefixlen and not any(address in selector for address in addresses):
            yield str(selector.network_address)


def _set_rules(
    netlink: IPRoute, family: int, tunnel: tuple[str, int], own: Iterable[str], anchors: Iterable[str]
) -> None:
    device, by_inside = tunnel
    length = 32 if family == AF_INET else 128
    wanted: dict[tuple[int, str | None], dict[str, Any]] = {
        (_OWN, address): {"iifname": device, "dst": address, "dst_len": length, "table": _LOCAL} for address in own
    }
    wanted |= {
        (_OWN, anchor): {"iifname": "lo", "dst": anchor, "dst_len": length, "table": by_inside} for anchor in anchors
    }
    wanted[_OUT_OF_TUNNEL, None] = {"iifname": device, "table": by_inside}
    wanted[_LATER, None] = {"table": _LOCAL}
    held = {(rule.get("priority", 0), rule.get("dst")) for rule in netlink.get_rules(family=family)}
    for (priority, destination), rule in wanted.items():
        if (priority, destination) not in held:
            netlink.rule("add", family=family, priority=priority, **rule)
    for priority, destination in held - wanted.keys():
        if priority == _OWN and destination:
            netlink.rule("del", family=family, priority=priority, dst=destination, dst_len=length)
    if (0, None) in held:
        netlink.rule("del", family=family, priority=0, table=_LOCAL)
