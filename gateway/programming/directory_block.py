"""The first block that a packet meets: ports, VSIDs, the gateway's provider addresses, rewritten addresses. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy

from gateway.datapath.layout import Layout
from gateway.policy.addresses import family
from gateway.programming.block import BlockBuilder, Bytes
from gateway.programming.encoding import cells_for, mac_bytes, words_of
from gateway.programming.hash_table import add_table

PORT_PROVIDER = 1
PORT_EXTERNAL = 2
PORT_FRAGMENTS = 4


@dataclass(frozen=True, slots=True)
class PortEntry:
    """A port that packets may come in by. `domain`: the number of the one that its l3 connection is bound to, or 0.

    `fragments`: nothing but fragments comes there, which have been put in order.
    """

    number: int
    interface_index: int
    vlan: int
    provider: bool
    domain: int
    fragments: bool = False

    def flags(self) -> int:
        """Return what the programs are told of it."""
        if self.fragments:
            return PORT_FRAGMENTS
        return (PORT_PROVIDER if self.provider else 0) | (PORT_EXTERNAL if self.domain else 0)


@dataclass(frozen=True, slots=True)
class RewriteEntry:
    """A provider address that stands for a customer address."""

    provider_address: str
    customer_address: str
    domain: int
    vsid: int


@dataclass(frozen=True, slots=True)
class Directory:
    """All of it as plain values. `vsids`: (VSID, domain number); `hosts`: (provider address, number).

    `internet`: the number of the Internet's domain, 0 where there is none.
    """

    ports: tuple[PortEntry, ...]
    vsids: tuple[tuple[int, int], ...]
    hosts: tuple[tuple[str, int], ...]
    provider_addresses: tuple[str, ...]
    rewrites: tuple[RewriteEntry, ...]
    router_mac: str
    dscp_uniform: bool
    internet: int = 0


def compile_directory(directory: Directory, layout: Layout) -> Bytes:
    """Lay it out."""
    builder = BlockBuilder()
    builder.reserve(2)
    header = numpy.zeros(1, layout.struct("directory"))
    more = numpy.zeros(1, layout.struct("directory_more"))
    ports = numpy.zeros(len(directory.ports), layout.struct("cell"))
    for row, port in zip(ports, directory.ports, strict=True):
        row["key"] = port.interface_index << 12 | port.vlan
        row["index"] = port.number
        row["target"] = port.domain
        row["mac"][0] = port.flags()
    header["ports"] = add_table(builder, ports).values()
    vsids = numpy.zeros(len(directory.vsids), layout.struct("cell"))
    vsids["key"] = [vsid for vsid, _ in directory.vsids]
    vsids["target"] = [domain for _, domain in directory.vsids]
    header["vsids"] = add_table(builder, vsids).values()
    for version in (4, 6):
        own = [(address, 0) for address in directory.provider_addresses if family(address) == version]
        hosts = [host for host in directory.hosts if family(host[0]) == version]
        part = header if version == 4 else more
        part[f"providers{version}"] = add_table(builder, _cells(layout, version, own)).values()
        part[f"hosts{version}"] = add_table(builder, _cells(layout, version, hosts)).values()
        if version == 4 and own:
            header["provider4"] = words_of(own[0][0])[3]
        lines = [
            (entry.provider_address, _add_rewrite(builder, layout, entry))
            for entry in directory.rewrites
            if family(entry.provider_address) == version
        ]
        more[f"rewrites{version}"] = add_table(builder, _cells(layout, version, lines)).values()
    header["router_mac"] = list(mac_bytes(directory.router_mac))
    header["dscp_uniform"] = directory.dscp_uniform
    header["internet"] = directory.internet
    return builder.finish(numpy.concatenate((header.view(numpy.uint8), more.view(numpy.uint8))))


def _cells(layout: Layout, version: int, entries: Iterable[tuple[str, int]]) -> Any:
    found = list(entries)
    cells = cells_for(layout, version, [address for address, _ in found])
    cells["target"] = [target for _, target in found]
    return cells


def _add_rewrite(builder: BlockBuilder, layout: Layout, entry: RewriteEntry) -> int:
    row = numpy.zeros(1, layout.struct("rewrite"))
    row["domain"], row["vsid"] = entry.domain, entry.vsid
    row["customer"] = words_of(entry.customer_address)
    return builder.add(row)
