"""A compartment's ways: what comes from the inside goes into a tunnel or nowhere, what comes out of one goes inside.

The datapath has decided already what belongs to which side, so the compartment asks only where a packet comes from:

    1000  from our outside address         the main table, by the outside: IKE and ESP
    1001  from the inside                  table 1000: routes into tunnels, else a black hole; also for prefixes whose
                                           tunnel is not connected, where another one's selectors might hold them
    1002  anything else                    table 1001: by the inside

Where tunnels take packets from different sources, each source has a table of its own, 2000 and on, with the routes of
all tunnels that take it. Its rule comes before 1001, by as much as its prefix is long: the longest is asked first.
"""

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import count, starmap
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any

from pyroute2 import IPRoute  # type: ignore[import-untyped]
from pyroute2.netlink import rtnl  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl import rt_proto, rt_scope, rt_type, rtmsg  # type: ignore[import-untyped]

from gateway.compartments.changes import NEXT_HOPS, Change, make, request
from gateway.compartments.rules import Rule, held_rules, new_rule, no_rule
from gateway.underlay.messages import attributes_of, number_of
from gateway.underlay.netlink import RT_TABLE_MAIN, Message, Requests
from vpn.precedence import Flows
from vpn.specification import ANY

_FROM_OUTSIDE_ADDRESS, _FROM_INSIDE, _ANYTHING_ELSE = 1000, 1001, 1002  # preferences of the rules
_FROM_LONGEST_SOURCE = _FROM_INSIDE - 128
_INTO_TUNNELS, BY_INSIDE, _FIRST_OF_SOURCES, _LAST_OF_SOURCES = 1000, 1001, 2000, 1 << 16  # tables
_METRIC, _LAST_METRIC = 1, 2**32 - 1
_RTA_DST, _RTA_PRIORITY, _RTA_TABLE = 1, 6, 15
_RTMSG = struct.Struct("=BB10x")  # family, length of destination
_HEADER_BYTES = 16  # struct nlmsghdr
_LOCKED_MTU = 1 << 2  # of RTAX_MTU: IPv6 forwards by a route's MTU only where it is locked
_DEFAULTS = {4: "0.0.0.0/0", 6: "::/0"}
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
    requests: Requests,
    indexes: Mapping[str, int],
    inside: str,
    outside_addresses: Collection[str],
    ways: Mapping[Flows, Way | None],
) -> None:
    """Make a namespace's rules and routes what they should be; flows whose way is None are closed. Raises OSError."""
    sources = sorted({flows.source for flows in ways}.difference(ANY))
    tables = {**dict.fromkeys(ANY, _INTO_TUNNELS), **dict(zip(sources, count(_FIRST_OF_SOURCES)))}
    by_table = {(tables[flows.source], flows.prefix): way for flows, way in ways.items()}
    make(requests, _routes(indexes, inside, by_table))
    rules = set(_rules(inside, outside_addresses, tables))
    held = {rule for rule in held_rules(requests) if _FROM_LONGEST_SOURCE <= rule.priority <= _ANYTHING_ELSE}
    stale = set(_routes_into_tunnels(requests)) - by_table.keys()
    make(requests, [*map(new_rule, rules - held), *map(no_rule, held - rules), *starmap(_no_route, stale)])


def _rules(inside: str, outside_addresses: Iterable[str], tables: Mapping[str, int]) -> Iterator[Rule]:
    for version in _FAMILIES:
        yield Rule(version, _ANYTHING_ELSE, BY_INSIDE)
    for source, table in tables.items():
        network = ip_network(source)
        matched = source if network.prefixlen else None
        yield Rule(network.version, _FROM_INSIDE - network.prefixlen, table, interface=inside, source=matched)
    for address in map(ip_address, outside_addresses):
        source = f"{address}/{address.max_prefixlen}"
        yield Rule(address.version, _FROM_OUTSIDE_ADDRESS, RT_TABLE_MAIN, source=source)


def _routes(indexes: Mapping[str, int], inside: str, ways: Mapping[tuple[int, str], Way | None]) -> Iterator[Change]:
    for version, default in _DEFAULTS.items():
        yield _route(default, _INTO_TUNNELS, _LAST_METRIC, None)
        by_inside = [("RTA_OIF", indexes[inside]), ("RTA_GATEWAY", NEXT_HOPS[version])]
        yield _route(default, BY_INSIDE, 0, by_inside)
    for (table, prefix), way in ways.items():
        yield _route(prefix, table, _METRIC, _into(indexes[way.device], way.mtu) if way else None)


def _into(device: int, mtu: int) -> list[tuple[str, Any]]:
    return [("RTA_OIF", device), ("RTA_METRICS", {"attrs": [("RTAX_LOCK", _LOCKED_MTU), ("RTAX_MTU", mtu)]})]


def _route(prefix: str, table: int, metric: int, way: list[tuple[str, Any]] | None) -> Change:
    """Route a prefix by these attributes, or into a black hole."""
    message = _request(rtnl.RTM_NEWROUTE, prefix, table, metric, way or [])
    message["proto"] = rt_proto["static"]
    message["type"] = rt_type["unicast" if way else "blackhole"]
    message["flags"] = rtmsg.RTNH_F_ONLINK if way and "RTA_GATEWAY" in dict(way) else 0
    return Change(f"routing {prefix}", message)


def _no_route(table: int, prefix: str) -> Change:
    message = _request(rtnl.RTM_DELROUTE, prefix, table, _METRIC, [])
    return Change(f"removing the route to {prefix}", message)


def _request(kind: int, prefix: str, table: int, metric: int, way: list[tuple[str, Any]]) -> Any:
    network = ip_network(prefix)
    attributes: list[tuple[str, Any]] = [("RTA_TABLE", table), ("RTA_PRIORITY", metric), *way]
    if network.prefixlen:
        attributes.append(("RTA_DST", str(network.network_address)))
    message = request(rtmsg.rtmsg, kind, attributes)
    message["family"] = _FAMILIES[network.version]
    message["dst_len"] = network.prefixlen
    message["scope"] = rt_scope["universe" if kind == rtnl.RTM_NEWROUTE else "nowhere"]  # nowhere: any
    return message


def _routes_into_tunnels(requests: Requests) -> Iterator[tuple[int, str]]:
    """Yield the table and the prefix of each."""
    for message in requests.dump(rtnl.RTM_NEWROUTE):
        if message.family in _FAMILIES.values():
            attributes = dict(attributes_of(message.data, _HEADER_BYTES + _RTMSG.size))
            table, metric = (number_of(attributes.get(kind, b"")) for kind in (_RTA_TABLE, _RTA_PRIORITY))
            ours = table == _INTO_TUNNELS or _FIRST_OF_SOURCES <= table < _LAST_OF_SOURCES
            if ours and metric == _METRIC:
                yield table, _prefix(message, attributes.get(_RTA_DST))


def _prefix(message: Message, address: bytes | None) -> str:
    family, length = _RTMSG.unpack_from(message.data, _HEADER_BYTES)
    return f"{inet_ntop(family, address or bytes(4 if family == AF_INET else 16))}/{length}"
