"""The part of a routing domain's block that tells where prefixes lead: next hops, a tree for each family. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy

from gateway.datapath.layout import Layout
from gateway.policy.addresses import AddressRange, address_range, family, ordinal
from gateway.programming.block import BlockBuilder, CapacityError
from gateway.programming.encoding import mac_bytes, words_of
from gateway.programming.routes import External, Hop, OnLink, Overlay, PortName, Route, covering, host_prefix
from gateway.programming.search_tree import TreeWriter, prefix_intervals

LEAF_EXACT = 0x40000000
LEAF_COUNT_SHIFT = 24
_HOPS_MAX = 64


class Places(Protocol):
    """Numbers of what next hops name."""

    def endpoint(self, provider_address: str, encapsulation: str, /) -> int: ...

    def port(self, port: PortName, /) -> int: ...


def add_hops(
    builder: BlockBuilder, layout: Layout, routes: Mapping[str, Route], subnet_index: Mapping[int, int], places: Places
) -> dict[Route, int]:
    """Write every different set of next hops once; return the leaf bits for each. Raises CapacityError."""
    leaves: dict[Route, int] = {}
    for prefix, route in routes.items():
        if route in leaves:
            continue
        if len(route.hops) > _HOPS_MAX:
            raise CapacityError(f"prefix {prefix} has {len(route.hops)} equal next hops, at most {_HOPS_MAX} fit")
        hops = numpy.zeros(len(route.hops), layout.struct("next_hop"))
        for row, hop in zip(hops, route.hops, strict=True):
            _fill_hop(row, layout, hop, subnet_index, places)
            row["inside"] = route.inside
        leaves[route] = builder.add(hops) | (len(route.hops) - 1) << LEAF_COUNT_SHIFT
    return leaves


def _fill_hop(row: Any, layout: Layout, hop: Hop, subnet_index: Mapping[int, int], places: Places) -> None:
    kinds = layout.enum("next_hop_kind")
    record = hop.record if isinstance(hop, Overlay) else hop.wildcard if isinstance(hop, OnLink) else None
    if record is not None:
        row["kind"] = kinds["NEXT_HOP_OVERLAY"]
        row["target"] = places.endpoint(record.provider_address, record.encapsulation)
        row["subnet"] = subnet_index[record.vsid]
        row["mac"] = list(mac_bytes(record.mac))
        row["gateway"] = words_of(record.customer_address)
    elif isinstance(hop, External):
        row["kind"] = kinds["NEXT_HOP_EXTERNAL"]
        row["target"] = places.port(hop.port)
        row["gateway"] = words_of(hop.gateway) if hop.gateway else 0
        row["source"] = words_of(hop.source) if hop.source else 0
        row["mac"] = list(mac_bytes(hop.mac)) if hop.mac else 0
    else:
        # Also where a tunnel is closed: what has DROP_NO_ROUTE would be translated and sent to the Internet in clear.
        row["kind"], row["reason"] = kinds["NEXT_HOP_UNREACHABLE"], layout.enum("verdict")["DROP_NO_RECORD"]


def add_prefixes(
    trees: TreeWriter,
    version: int,
    routes: Mapping[str, Route],
    leaves: Mapping[Route, int],
    subnet_prefixes: Iterable[str],
    exact: Iterable[str],
) -> int:
    """Write the tree of a family; return the word for it. A leaf under which an `exact` entry can lie says so.

    All prefixes of virtual subnets are taken to hold some; elsewhere an address gets a leaf of its own.
    """
    subnets = [address_range(prefix) for prefix in subnet_prefixes if family(prefix) == version]
    found = []
    for prefix, route in routes.items():
        if family(prefix) == version:
            network = address_range(prefix)
            inside = any(subnet.first <= network.first <= network.last <= subnet.last for subnet in subnets)
            found.append((prefix, leaves[route] | (LEAF_EXACT if inside else 0)))
    of_family = {prefix: routes[prefix] for prefix, _ in found}
    for address in exact:
        if family(address) == version and not _is_in(address, subnets):
            around = covering(of_family, address)
            found.append((host_prefix(address), (leaves[around] if around else 0) | LEAF_EXACT))
    return add_leaves(trees, version, found, 0)


def add_leaves(trees: TreeWriter, version: int, leaves: Iterable[tuple[str, int]], otherwise: int) -> int:
    """Write a tree that leads from the longest prefix that an address has to a leaf; return the word for it."""
    bits = 32 if version == 4 else 128
    ranges = ((address_range(prefix), leaf) for prefix, leaf in leaves)
    numbers = ((each.first % (1 << bits), each.last % (1 << bits), leaf) for each, leaf in ranges)
    return trees.add_intervals(prefix_intervals(numbers, bits, otherwise), bits, 0, int)


def _is_in(address: str, networks: Iterable[AddressRange]) -> bool:
    at = ordinal(address)
    return any(network.first <= at <= network.last for network in networks)
