"""Addresses that strongSwan's user-space ESP needs to install a tunnel, kept out of everybody's way.

Before 5.9.12 it refuses traffic selectors in which the machine has no address of its own, and a compartment need not
have one there. So the selector's first address goes to the loopback interface; and since it may be a VM's, what comes
out of the tunnel, and what the compartment itself sends there (probes, ICMP errors), goes by the inside before Linux
looks for addresses of its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path

from pyroute2.netlink import rtnl  # type: ignore[import-untyped]

from gateway.compartments.changes import AssignedAddress, address, make, no_address
from gateway.compartments.rules import LOCAL, Rule, held_rules, new_rule, no_rule
from gateway.underlay.messages import address_of
from gateway.underlay.netlink import Requests

_OWN, _OUT_OF_TUNNEL, _LATER = 1, 2, 3  # preferences of rules; that of the kernel's own for the local table is 0
_VERSIONS = (4, 6)


def set_anchors(
    requests: Requests, indexes: Mapping[str, int], inside: str, tunnel: tuple[str, int], selectors: Iterable[str]
) -> None:
    """Give the calling thread's namespace the addresses and rules for these local selectors.

    `tunnel` is the device and the table for what comes out of it. Raises OSError.
    """
    loopback = indexes["lo"]
    addresses = [address_of(message.decode()) for message in requests.dump(rtnl.RTM_NEWADDR)]
    own = {text for index, text in addresses if index != loopback}
    held = {text for index, text in addresses if index == loopback and not ip_address(text).is_loopback}
    wanted = set(_missing(own, selectors))
    make(requests, [address(_on(loopback, anchor)) for anchor in wanted - held])
    make(requests, [no_address(_on(loopback, anchor)) for anchor in held - wanted])
    if wanted or held:
        Path(f"/proc/sys/net/ipv4/conf/{inside}/accept_local").write_text("1")  # as a source it may be a VM's
        _set_rules(requests, set(_rules(tunnel, own, wanted)))


def _on(interface: int, text: str) -> AssignedAddress:
    return AssignedAddress(interface, text, ip_address(text).max_prefixlen)


def _missing(own: Iterable[str], selectors: Iterable[str]) -> Iterator[str]:
    addresses = [ip_address(address) for address in own]
    for selector in map(ip_network, selectors):
        if selector.prefixlen and not any(address in selector for address in addresses):
            yield str(selector.network_address)


def _rules(tunnel: tuple[str, int], own: Iterable[str], anchors: Iterable[str]) -> Iterator[Rule]:
    device, by_inside = tunnel
    for addresses, interface, table in ((own, device, LOCAL), (anchors, "lo", by_inside)):
        for one in map(ip_address, addresses):
            yield Rule(one.version, _OWN, table, interface, destination=f"{one}/{one.max_prefixlen}")
    for version in _VERSIONS:
        yield Rule(version, _OUT_OF_TUNNEL, by_inside, device)
        yield Rule(version, _LATER, LOCAL)


def _set_rules(requests: Requests, wanted: set[Rule]) -> None:
    held = held_rules(requests)
    stale = {rule for rule in held - wanted if rule.priority == _OWN} | {
        rule for rule in held if rule.priority == 0 and rule.table == LOCAL
    }
    make(requests, [*map(new_rule, wanted - held), *map(no_rule, stale)])
