"""A compartment's ways: what comes from the inside goes into a tunnel or nowhere, what comes out of one goes inside.

The datapath has decided already what belongs to which side, so the compartment asks only where a packet comes from:

    1000  from our outside address         the main table, by the outside: IKE and ESP
    1001  from the inside                  table 1000: routes into tunnels, else a black hole; also for prefixes whose
                                           tunnel is not connected, where another one's selectors might hold them
    1002  anything else                    table 1001: by the inside
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute  # type: ignore[import-untyped]

from gateway.compartments.changes import NEXT_HOPS

_FROM_OUTSIDE_ADDRESS, _FROM_INSIDE, _ANYTHING_ELSE = 1000, 1001, 1002  # preferences of the rules
_INTO_TUNNELS, BY_INSIDE, _MAIN = 1000, 1001, 254  # tables
_METRIC, _LAST_METRIC = 1, 2**32 - 1
_RTAX_MTU = 2
_FAMILIES = {4: AF_INET, 6: AF_INET6}


@dataclass(frozen=True, slots=True)
class Way:
    """Where a prefix goes: into this device, in packets of at most `mtu` bytes."""

    device: str
    mtu: int


def path_mtus(netlink: IPRoute, pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return what Linux has learned of the paths between addresses, ours and a peer's, by the peer's, in bytes."""
    learned = {}
    for ours, peer in pairs:
        for route in netlink.route("get", dst=peer, src=ours):
            metrics = route.get("metrics")
            mtu = metrics.get("mtu") if metrics else None
            if mtu:
                learned[peer] = mtu
    return learned


def set_ways(
    netlink: IPRoute,
    indexes: Mapping[str, int],
    inside: str,
    outside_addresses: frozenset[str],
    ways: Mapping[str, Way | None],
) -> None:
    """Make a namespace's rules and routes what they should be; a prefix whose way is None is closed.

    Raises NetlinkError.
    """
    for version, family in _FAMILIES.items():
        of_family = {prefix: way for prefix, way in ways.items() if ip_network(prefix).version == version}
        _set_routes(netlink, version, indexes, inside, of_family)
        addresses = {address for address in outside_addresses if (":" in address) == (version == 6)}
        _set_rules(netlink, family, _wanted_rules(inside, addresses, 32 if version == 4 else 128))


def _wanted_rules(inside: str, addresses: set[str], length: int) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the rules by what tells them apart in a dump."""
    rules = [{"priority": _FROM_INSIDE, "iifname": inside, "table": _INTO_TUNNELS}]
    rules.append({"priority": _ANYTHING_ELSE, "table": BY_INSIDE})
    for address in addresses:
        rule = {"priority": _FROM_OUTSIDE_ADDRESS, "src": address, "src_len": length, "table": _MAIN}
        rules.append(rule)
    return {(rule["priority"], rule.get("src"), rule.get("iifname"), rule["table"]): rule for rule in rules}


def _set_rules(netlink: IPRoute, family: int, wanted: Mapping[tuple[Any, ...], dict[str, Any]]) -> None:
    held = {}
    for rule in netlink.get_rules(family=family):
        priority = rule.get("priority")
        if priority in (_FROM_OUTSIDE_ADDRESS, _FROM_INSIDE, _ANYTHING_ELSE):
            held[priority, rule.get("src"), rule.get("iifname"), rule.get("table")] = rule["src_len"]
    for identity, arguments in wanted.items():
        if identity not in held:
            netlink.rule("add", family=family, **arguments)
    for identity in held.keys() - wanted.keys():
        priority, source, interface, table = identity
        optional = {"src": source, "src_len": held[identity]} if source else {}
        optional |= {"iifname": interface} if interface else {}
        netlink.rule("del", family=family, priority=priority, table=table, **optional)


def _set_routes(
    netlink: IPRoute, version: int, indexes: Mapping[str, int], inside: str, ways: Mapping[str, Way | None]
) -> None:
    family = _FAMILIES[version]
    default = {"family": family, "dst": "default"}
    hole = {**default, "table": _INTO_TUNNELS, "priority": _LAST_METRIC, "type": "blackhole"}
    netlink.route("replace", **hole)
    by_inside = {"table": BY_INSIDE, "gateway": NEXT_HOPS[version], "oif": indexes[inside], "flags": ["onlink"]}
    netlink.route("replace", **default, **by_inside)
    held = {prefix: route for prefix, route in _held(netlink, family) if prefix not in ways}
    for prefix, way in ways.items():
        to = _into(indexes[way.device], way.mtu) if way else {"type": "blackhole"}
        netlink.route("replace", family=family, dst=prefix, table=_INTO_TUNNELS, priority=_METRIC, **to)
    for prefix in held:
        netlink.route("del", family=family, dst=prefix, table=_INTO_TUNNELS, priority=_METRIC)


def _into(device: int, mtu: int) -> dict[str, Any]:
    """Return a route's attributes. IPv6 forwards by a route's MTU only where it is locked."""
    return {"oif": device, "metrics": {"mtu": mtu, "lock": 1 << _RTAX_MTU}}


def _held(netlink: IPRoute, family: int) -> Iterator[tuple[str, Any]]:
    """Dump the routes into tunnels."""
    default = "0.0.0.0" if family == AF_INET else "::"
    for route in netlink.get_routes(family=family, table=_INTO_TUNNELS):
        if route.get("table") == _INTO_TUNNELS and route.get("priority") == _METRIC:
            yield f"{route.get('dst', default)}/{route['dst_len']}", route
