"""A routing domain's policy as one block: struct table and all that it leads to. The same inputs, the same bytes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, TypeAlias

import numpy
import numpy.typing

from gateway.datapath.layout import Layout
from gateway.policy.addresses import address_range, family
from gateway.policy.model import LookupRecord, RoutingDomain
from gateway.programming.block import LINE_BYTES, BlockBuilder, Bytes, CapacityError
from gateway.programming.hash_table import add_table
from gateway.programming.routes import (
    External,
    Hop,
    OnLink,
    Overlay,
    PortName,
    Route,
    connection_port,
    covering,
    routed_records,
    routes_of,
)
from gateway.programming.trie import Trie

EndpointNumber: TypeAlias = Callable[[str, str], int]  # (provider address, encapsulation)
PortNumber: TypeAlias = Callable[[PortName], int]

TARGET_LOCAL = 0xFFFFFFFF
TARGET_HERE = 0x80000000
LEAF_EXACT = 0x40000000
LEAF_COUNT_SHIFT = 24
_HOPS_MAX = 64
_SUBNETS_MAX = 65_536
TABLE_LISTS = 1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a domain's block needs to know from outside its policy."""

    layout: Layout
    router_mac: bytes
    endpoint: EndpointNumber
    port: PortNumber
    port_vlans: dict[str, int]
    lists: Mapping[str, Bytes]  # compiled, by name
    generation: int  # of the access lists, 1..255
    admitted: frozenset[str]  # provider addresses that may send
    own_addresses: frozenset[str]  # the gateway's provider addresses


def packed(address: str) -> bytes:
    """The address in network order."""
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address)


def words_of(address: str) -> tuple[int, ...]:
    """The address as four little-endian readings of its network-order words; IPv4 is the last one."""
    raw = packed(address).rjust(16, b"\0")
    return tuple(int.from_bytes(raw[at : at + 4], "little") for at in range(0, 16, 4))


def mac_bytes(mac: str) -> bytes:
    """The six bytes of a canonical MAC address."""
    return bytes.fromhex(mac.replace("-", ""))


def cells_for(layout: Layout, version: int, addresses: list[str]) -> numpy.typing.NDArray[Any]:
    """Cells with these addresses of one family as keys."""
    cells = numpy.zeros(len(addresses), layout.struct("cell" if version == 4 else "cell6"))
    raw = numpy.frombuffer(b"".join(map(packed, addresses)), numpy.uint32)
    cells["key"] = raw if version == 4 else raw.reshape(-1, 4)
    return cells


def compile_domain(domain: RoutingDomain, around: Surroundings) -> Bytes:
    """Lay out a domain. Raises CapacityError."""
    return _DomainBlock(domain, around).build()


def generation_of(block: Bytes, layout: Layout) -> int:
    """Read back the generation of the access lists that a block was laid out with."""
    more = block[LINE_BYTES : 2 * LINE_BYTES].view(layout.struct("table_more"))
    return int(more["generation"][0])


class _DomainBlock:
    """The work in progress of `compile_domain`."""

    def __init__(self, domain: RoutingDomain, around: Surroundings) -> None:
        self._domain = domain
        self._around = around
        self._layout = around.layout
        self._builder = BlockBuilder()
        self._builder.reserve(4)
        self._subnet_index = {subnet.vsid: index for index, subnet in enumerate(domain.virtual_subnets)}
        self._links = [connection_port(connection, around.port_vlans) for connection in domain.l3_connections()]
        self._list_lines: dict[int, int] = {}
        if len(self._subnet_index) + len(self._links) > _SUBNETS_MAX:
            raise CapacityError(
                f"routing domain {domain.name} has more than {_SUBNETS_MAX} virtual subnets and connections"
            )

    def build(self) -> Bytes:
        """Lay out the block; what most packets read comes first, so that it lies in few pages."""
        header = numpy.zeros(1, self._layout.struct("table"))
        more = numpy.zeros(1, self._layout.struct("table_more"))
        routes = routes_of(self._domain, self._around.port_vlans)
        hops = self._add_hops(routes)
        subnets = numpy.zeros(len(self._subnet_index) + len(self._links), self._layout.struct("subnet"))
        header["subnets"] = self._builder.reserve(len(subnets))
        header["routes4"] = self._add_routes(4, routes, hops)
        exact = self._exact_entries()
        header["exact4"] = add_table(self._builder, exact[4]).values()
        header["routes6"] = self._add_routes(6, routes, hops)
        header["exact6"] = add_table(self._builder, exact[6]).values()
        self._add_admitted(header)
        more["vsids"] = self._add_index(list(self._subnet_index), 0)
        more["links"] = self._add_index([self._around.port(link) for link in self._links], len(self._subnet_index))
        self._add_lists(header, more)
        more["generation"] = self._around.generation
        self._fill_subnets(subnets)
        self._builder.fill(int(header["subnets"][0]), subnets)
        return self._builder.finish(numpy.concatenate((header.view(numpy.uint8), more.view(numpy.uint8))))

    def _exact_entries(self) -> dict[int, numpy.typing.NDArray[Any]]:
        """Records and router addresses. A router address wins; a record on it only lends it its MAC."""
        routers = self._router_addresses()
        by_version: dict[int, list[LookupRecord]] = {4: [], 6: []}
        lent: dict[str, str] = {}
        for record in routed_records(self._domain):
            if record.customer_address in routers:
                lent[record.customer_address] = record.mac
            else:
                by_version[6 if ":" in record.customer_address else 4].append(record)
        found = {}
        for version, records in by_version.items():
            own = [address for address in routers if family(address) == version]
            cells = cells_for(self._layout, version, [record.customer_address for record in records] + own)
            index = self._subnet_index
            cells["target"][: len(records)] = [self._target(record) for record in records]
            cells["index"][: len(records)] = [index[record.vsid] for record in records]
            cells["target"][len(records) :] = TARGET_LOCAL
            cells["index"][len(records) :] = [routers[address] for address in own]
            macs = b"".join(mac_bytes(record.mac) for record in records) + b"".join(
                mac_bytes(lent[address]) if address in lent else self._around.router_mac for address in own
            )
            cells["mac"] = numpy.frombuffer(macs, numpy.uint8).reshape(-1, 6)
            found[version] = cells
        return found

    def _target(self, record: LookupRecord) -> int:
        here = record.encapsulation == "rewrite" and record.provider_address in self._around.own_addresses
        number = self._around.endpoint(record.provider_address, record.encapsulation)
        return number | TARGET_HERE if here else number

    def _router_addresses(self) -> dict[str, int]:
        """The gateway's own addresses in this domain, each with the index of its subnet."""
        found = {}
        for index, subnet in enumerate(self._domain.virtual_subnets):
            for address in subnet.router_addresses().values():
                found[address] = index
        for index, connection in enumerate(self._domain.l3_connections(), len(self._subnet_index)):
            for text in connection.local_addresses:
                found[text.partition("/")[0]] = index
        return found

    def _add_admitted(self, header: Any) -> None:
        """Write the bit set of the hosts that may send, by their numbers."""
        numbers = [self._around.endpoint(address, "source") for address in self._around.admitted]
        bits = numpy.zeros(-(-(max(numbers, default=0) + 1) // 8) * 8, numpy.uint8)
        bits[numbers] = 1
        packed_bits = numpy.packbits(bits, bitorder="little")
        low = numpy.zeros(16, numpy.uint8)
        low[: len(packed_bits[:16])] = packed_bits[:16]
        header["admitted_low"] = low.view(numpy.uint64)
        header["admitted"], header["admitted_bits"] = self._builder.add(packed_bits), len(bits)

    def _add_hops(self, routes: dict[str, Route]) -> dict[Route, int]:
        """Write every different set of next hops once; return the leaf bits for each."""
        leaves: dict[Route, int] = {}
        for prefix, route in routes.items():
            if route in leaves:
                continue
            if len(route.hops) > _HOPS_MAX:
                raise CapacityError(f"prefix {prefix} has {len(route.hops)} equal next hops, at most {_HOPS_MAX} fit")
            hops = numpy.zeros(len(route.hops), self._layout.struct("next_hop"))
            for row, hop in zip(hops, route.hops, strict=True):
                self._fill_hop(row, hop)
                row["inside"] = route.inside
            leaves[route] = self._builder.add(hops) | (len(route.hops) - 1) << LEAF_COUNT_SHIFT
        return leaves

    def _fill_hop(self, row: Any, hop: Hop) -> None:
        kinds = self._layout.enum("next_hop_kind")
        record = hop.record if isinstance(hop, Overlay) else hop.wildcard if isinstance(hop, OnLink) else None
        if record is not None:
            row["kind"] = kinds["NEXT_HOP_OVERLAY"]
            row["target"] = self._around.endpoint(record.provider_address, record.encapsulation)
            row["subnet"] = self._subnet_index[record.vsid]
            row["mac"] = list(mac_bytes(record.mac))
            row["gateway"] = words_of(record.customer_address)
        elif isinstance(hop, External):
            row["kind"] = kinds["NEXT_HOP_EXTERNAL"]
            row["target"] = self._around.port(hop.port)
            row["gateway"] = words_of(hop.gateway) if hop.gateway else 0
            row["source"] = words_of(hop.source) if hop.source else 0
        else:
            row["kind"], row["reason"] = kinds["NEXT_HOP_UNREACHABLE"], self._layout.enum("verdict")["DROP_NO_RECORD"]

    def _add_routes(self, version: int, routes: dict[str, Route], leaves: dict[Route, int]) -> int:
        """Write the trie of a family; a leaf under which an exact entry can lie says so."""
        subnets = [
            address_range(prefix)
            for subnet in self._domain.virtual_subnets
            for prefix in subnet.prefixes
            if family(prefix) == version
        ]
        trie = Trie()
        ordered = sorted(
            ((address_range(prefix), prefix) for prefix in routes if family(prefix) == version),
            key=lambda each: each[0].length,
        )
        for network, prefix in ordered:
            inside = any(subnet.first <= network.first <= network.last <= subnet.last for subnet in subnets)
            leaf = leaves[routes[prefix]] | (LEAF_EXACT if inside else 0)
            trie.insert(packed(prefix.partition("/")[0]), network.length, leaf)
        for address in self._exact_outside(version, subnets):
            route = covering(routes, address)
            trie.insert(packed(address), 32 if version == 4 else 128, (leaves[route] if route else 0) | LEAF_EXACT)
        return trie.add_to(self._builder)

    def _exact_outside(self, version: int, subnets: list[Any]) -> list[str]:
        """Router addresses that no virtual subnet's prefix covers: those on external ports."""
        found = []
        for address in self._router_addresses():
            if family(address) == version:
                at = address_range(f"{address}/{32 if version == 4 else 128}").first
                if not any(subnet.first <= at <= subnet.last for subnet in subnets):
                    found.append(address)
        return found

    def _add_lists(self, header: Any, more: Any) -> None:
        """Write the lists that apply to something, and which customer addresses have one."""
        listed: dict[int, dict[str, int]] = {4: {}, 6: {}}
        for access_list in self._domain.access_control_lists:
            if not access_list.applies_to:
                continue
            line = self._builder.add(self._around.lists[access_list.name])
            header["flags"] |= TABLE_LISTS
            for target in access_list.applies_to:
                if target.customer_address is not None:
                    listed[family(target.customer_address)][target.customer_address] = line
                elif target.vsid is not None:
                    self._list_lines[target.vsid] = line
        for version, lines in listed.items():
            cells = cells_for(self._layout, version, list(lines))
            cells["target"] = list(lines.values())
            more[f"listed{version}"] = add_table(self._builder, cells).values()

    def _fill_subnets(self, subnets: Any) -> None:
        for row, subnet in zip(subnets, self._domain.virtual_subnets, strict=False):
            row["vsid"] = subnet.vsid
            row["access_list"] = self._list_lines.get(subnet.vsid, 0)
            _fill_routers(row, subnet.router_addresses().values())
        for row, connection in zip(subnets[len(self._subnet_index) :], self._domain.l3_connections(), strict=True):
            _fill_routers(row, [text.partition("/")[0] for text in connection.local_addresses])

    def _add_index(self, keys: list[int], first: int) -> tuple[int, int, int]:
        cells = numpy.zeros(len(keys), self._layout.struct("cell"))
        cells["key"] = keys
        cells["index"] = numpy.arange(first, first + len(keys))
        return add_table(self._builder, cells).values()


def _fill_routers(row: Any, addresses: Any) -> None:
    """The first address of each family answers for the router on this side."""
    for address in reversed(list(addresses)):
        if ip_address(address).version == 4:
            row["router4"] = words_of(address)[3]
        else:
            row["router6"] = words_of(address)
