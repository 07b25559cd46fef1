"""A routing domain's policy as one block: struct table and all that it leads to. The same inputs, the same bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy
import numpy.typing

from gateway.datapath.layout import Layout
from gateway.policy.addresses import family
from gateway.policy.model import LookupRecord, RoutingDomain
from gateway.programming.block import LINE_BYTES, BlockBuilder, Bytes, CapacityError
from gateway.programming.encoding import cells_for, mac_bytes, words_of
from gateway.programming.hash_table import add_table
from gateway.programming.planned_services import Origin, Plan, Target, outbound_rules
from gateway.programming.routes import Inside, Neighbour, PortName, connection_port, routed_records, routes_of
from gateway.programming.routes_block import Places, add_hops, add_prefixes
from gateway.programming.search_tree import TreeWriter
from gateway.programming.services_block import TARGET_FRONTEND, add_customers, add_services

TARGET_LOCAL = 0xFFFFFFFF
TARGET_HERE = 0x80000000
_SUBNETS_MAX = 65_536
TABLE_LISTS = 1
TABLE_SERVICES = 2
_HEADER_LINES = 4


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a domain's block needs to know from outside its policy."""

    layout: Layout
    router_mac: bytes
    places: Places
    number: int  # of the domain
    port_vlans: dict[str, int]
    lists: Mapping[str, Bytes]  # compiled, by name
    generation: int  # of the access lists, 1..255
    admitted: frozenset[str]  # provider addresses that may send
    own_addresses: frozenset[str]  # the gateway's provider addresses
    plan: Plan = Plan()
    choices: Mapping[Origin, int] = field(default_factory=dict)  # their numbers
    elsewhere: Mapping[str, Target] = field(default_factory=dict)  # addresses that other domains' frontends have here
    inside: Inside | None = None
    fragments: Neighbour | None = None  # who puts them in order
    legs: tuple[PortName, ...] = ()  # of compartments, besides the ports of connections


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
        self._builder.reserve(_HEADER_LINES)
        self._trees = TreeWriter(self._builder, self._layout.struct("search_node"))
        self._subnet_index = {subnet.vsid: index for index, subnet in enumerate(domain.virtual_subnets)}
        connections = (connection_port(connection, around.port_vlans) for connection in domain.l3_connections())
        self._links = [*connections, *around.legs]
        self._list_lines: dict[int, int] = {}
        if len(self._subnet_index) + len(self._links) > _SUBNETS_MAX:
            raise CapacityError(
                f"routing domain {domain.name} has more than {_SUBNETS_MAX} virtual subnets and connections"
            )

    def build(self) -> Bytes:
        """Lay out the block; what most packets read comes first, so that it lies in few pages."""
        around, layout = self._around, self._layout
        header = numpy.zeros(1, layout.struct("table"))
        more = numpy.zeros(1, layout.struct("table_more"))
        services = numpy.zeros(1, layout.struct("table_services"))
        subnets = numpy.zeros(len(self._subnet_index) + len(self._links), layout.struct("subnet"))
        self._add_places(header, len(subnets))
        self._add_admitted(header)
        more["vsids"] = self._add_index(list(self._subnet_index), 0)
        more["links"] = self._add_index([around.places.port(link) for link in self._links], len(self._subnet_index))
        self._add_lists(header, more)
        more["generation"] = around.generation
        if around.plan.frontends:
            header["flags"] |= TABLE_SERVICES
            distributed = self._domain.routing == "distributed"
            services = add_services(self._builder, layout, around.plan, around.choices, distributed)
        self._fill_subnets(subnets)
        self._builder.fill(int(header["subnets"][0]), subnets)
        lines = (header, more, services, self._compartment())
        return self._builder.finish(numpy.concatenate([line.view(numpy.uint8) for line in lines]))

    def _add_places(self, header: Any, subnets: int) -> None:
        """Write where addresses are: next hops, subnets, and for each family prefixes and exact entries."""
        around = self._around
        routes = routes_of(self._domain, around.port_vlans, around.inside)
        leaves = add_hops(self._builder, self._layout, routes, self._subnet_index, around.places)
        header["subnets"] = self._builder.reserve(subnets)
        frontends, routers = self._frontend_addresses(), self._router_addresses()
        exact = self._exact_entries(frontends, routers)
        prefixes = [prefix for subnet in self._domain.virtual_subnets for prefix in subnet.prefixes]
        of_their_own = list(dict.fromkeys((*routers, *frontends)))
        for version in (4, 6):
            root = add_prefixes(self._trees, version, routes, leaves, prefixes, of_their_own)
            header[f"prefixes{version}"] = root
            header[f"exact{version}"] = add_table(self._builder, exact[version]).values()

    def _frontend_addresses(self) -> dict[str, tuple[int, int]]:
        """Addresses that stand for others: target and index of the exact entry."""
        around = self._around
        found = {address: (TARGET_FRONTEND | owner, at) for address, (owner, at) in around.elsewhere.items()}
        for frontend in around.plan.frontends:
            if frontend.is_entry():
                found[frontend.address] = (TARGET_FRONTEND | around.number, frontend.number)
        return found

    def _exact_entries(
        self, frontends: Mapping[str, tuple[int, int]], routers: Mapping[str, int]
    ) -> dict[int, numpy.typing.NDArray[Any]]:
        """Records, router addresses and frontends. A frontend wins; a record on a router address lends it its MAC."""
        own = {address: (TARGET_LOCAL, index) for address, index in routers.items()} | dict(frontends)
        by_version: dict[int, list[LookupRecord]] = {4: [], 6: []}
        macs = dict.fromkeys(own, self._around.router_mac)
        for record in routed_records(self._domain):
            if record.customer_address not in own:
                by_version[family(record.customer_address)].append(record)
            elif record.customer_address not in frontends:
                macs[record.customer_address] = mac_bytes(record.mac)
        found = {}
        for version, records in by_version.items():
            ours = [address for address in own if family(address) == version]
            cells = cells_for(self._layout, version, [record.customer_address for record in records] + ours)
            index = self._subnet_index
            cells["target"] = [self._target(record) for record in records] + [own[address][0] for address in ours]
            cells["index"] = [index[record.vsid] for record in records] + [own[address][1] for address in ours]
            raw = b"".join(mac_bytes(record.mac) for record in records) + b"".join(macs[address] for address in ours)
            cells["mac"] = numpy.frombuffer(raw, numpy.uint8).reshape(-1, 6)
            found[version] = cells
        return found

    def _target(self, record: LookupRecord) -> int:
        here = record.encapsulation == "rewrite" and record.provider_address in self._around.own_addresses
        number = self._around.places.endpoint(record.provider_address, record.encapsulation)
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
        numbers = [self._around.places.endpoint(address, "source") for address in self._around.admitted]
        bits = numpy.zeros(-(-(max(numbers, default=0) + 1) // 8) * 8, numpy.uint8)
        bits[numbers] = 1
        packed_bits = numpy.packbits(bits, bitorder="little")
        low = numpy.zeros(16, numpy.uint8)
        low[: len(packed_bits[:16])] = packed_bits[:16]
        header["admitted_low"] = low.view(numpy.uint64)
        header["admitted"], header["admitted_bits"] = self._builder.add(packed_bits), len(bits)

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

    def _compartment(self) -> numpy.typing.NDArray[Any]:
        row = numpy.zeros(1, self._layout.struct("table_compartment"))
        inside = self._around.inside
        if inside is not None:
            row["port"] = self._around.places.port(inside.port)
            for address in inside.addresses:
                if family(address) == 4:
                    row["service4"] = words_of(address)[3]
                else:
                    row["service6"] = words_of(address)
        if self._around.fragments is not None:
            port, mac = self._around.fragments
            row["fragments"], row["fragments_mac"] = self._around.places.port(port), list(mac_bytes(mac))
        return row

    def _fill_subnets(self, subnets: Any) -> None:
        outbound = outbound_rules(self._around.plan.rules)
        for row, subnet in zip(subnets, self._domain.virtual_subnets, strict=False):
            row["vsid"] = subnet.vsid
            row["access_list"] = self._list_lines.get(subnet.vsid, 0)
            for version in (4, 6):
                rules = outbound.get((subnet.vsid, version), {})
                row[f"outbound{version}"] = rules.pop("", 0)
                row[f"customers{version}"] = add_customers(self._trees, version, rules, int(row[f"outbound{version}"]))
            _fill_routers(row, subnet.router_addresses().values())
        connections = self._domain.l3_connections()
        links = subnets[len(self._subnet_index) :]
        for row, connection in zip(links, connections, strict=False):
            _fill_routers(row, [text.partition("/")[0] for text in connection.local_addresses])
        for row in links[len(connections) :]:  # compartments' sides
            _fill_routers(row, self._router_addresses())

    def _add_index(self, keys: list[int], first: int) -> tuple[int, int, int]:
        cells = numpy.zeros(len(keys), self._layout.struct("cell"))
        cells["key"] = keys
        cells["index"] = numpy.arange(first, first + len(keys))
        return add_table(self._builder, cells).values()


def _fill_routers(row: Any, addresses: Iterable[str]) -> None:
    """The first address of each family answers for the router on this side."""
    for address in reversed(list(addresses)):
        if family(address) == 4:
            row["router4"] = words_of(address)[3]
        else:
            row["router6"] = words_of(address)
