"""A packet described in words, and the frame that carries it to the gateway."""

import struct
from dataclasses import dataclass, replace
from ipaddress import ip_address

from gateway.configuration import Port
from gateway.datapath.model import ethernet, tunnels
from gateway.datapath.model.checksum import checksum, pseudo_header
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ethernet import Frame, mac_bytes
from gateway.datapath.model.ip import (
    ECHO_TYPES,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Address,
    build_ipv4_header,
    build_ipv6_header,
)
from gateway.datapath.model.mss import SYN
from gateway.datapath.model.routes import Record
from gateway.datapath.model.tunnels import Tunnel
from gateway.datapath.model.world import World
from gateway.policy.fields import PROTOCOL_NUMBERS

UNKNOWN_MAC = mac_bytes("02-00-00-00-00-02")
OVERLAY = "overlay"


class QuestionError(ValueError):
    """A packet that cannot be built from its description; says which field and how to mend it."""


@dataclass(frozen=True, slots=True)
class Question:
    """A packet in words.

    `origin` is "overlay" (then `vsid` is needed), the name of an external port, or a tunnel, as DOMAIN/CONNECTION, that
    the packet comes out of. `outer_source` is the sending host's
    provider address and `encapsulation` how it sends; absent, both are those of the source's lookup record. `vlan` 0 is
    the port's own. `protocol` is a name or a number; `port` is the destination port. `length` counts the bytes of the
    (inner) IP packet; one too short for its headers is made long enough.
    """

    source: str
    destination: str
    origin: str = OVERLAY
    vsid: int | None = None
    vlan: int = 0
    outer_source: str | None = None
    encapsulation: str | None = None
    protocol: str | int = "icmp"
    port: int = 0
    source_port: int = 49152
    length: int = 0
    ttl: int = 64


def build(world: World, question: Question) -> tuple[str, bytes]:
    """The interface on which the packet arrives, and its frame. Raises QuestionError."""
    kind, packet = _ip_packet(question)
    if question.origin == OVERLAY:
        return _overlay_frame(world, question, kind, packet)
    return _external_frame(world, question, kind, packet)


def _address(field: str, text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise QuestionError(f"{field}: {text!r} is not an IP address") from None


def _protocol(question: Question, version: int) -> int:
    if question.protocol in ("icmp", "icmpv6"):
        return ICMP if version == 4 else ICMPV6
    if question.protocol in PROTOCOL_NUMBERS:
        return PROTOCOL_NUMBERS[str(question.protocol)]
    text = str(question.protocol)
    if not text.isdecimal() or int(text) > 255:
        names = ", ".join(PROTOCOL_NUMBERS)
        raise QuestionError(f"protocol: {text!r} is not a protocol: write {names} or a number from 0 to 255")
    return int(text)


def _ip_packet(question: Question) -> tuple[int, bytes]:
    """Ethernet type and bytes of the (inner) IP packet."""
    source, destination = _address("source", question.source), _address("destination", question.destination)
    if source.version != destination.version:
        raise QuestionError(f"destination: {destination} and {source} are of different IP families")
    _check_numbers(question)
    protocol = _protocol(question, source.version)
    header_length = 20 if source.version == 4 else 40
    transport = _transport(question, source, destination, protocol, question.length - header_length)
    if source.version == 6:
        header = build_ipv6_header(source, destination, protocol, len(transport), hop_limit=question.ttl)
        return ethernet.IPV6, header + transport
    header = build_ipv4_header(source, destination, protocol, header_length + len(transport), ttl=question.ttl)
    return ethernet.IPV4, header + transport


def _check_numbers(question: Question) -> None:
    for field, value, largest in (
        ("port", question.port, 65535),
        ("source_port", question.source_port, 65535),
        ("ttl", question.ttl, 255),
        ("length", question.length, 65535),
    ):
        if not 0 <= value <= largest:
            raise QuestionError(f"{field}: {value} is not a number from 0 to {largest}")


def _transport(question: Question, source: Address, destination: Address, protocol: int, length: int) -> bytes:
    """The bytes above IP, at least `length` of them: a SYN, a datagram, an echo request, or zeros."""
    if protocol == TCP:
        data = struct.pack("!HHIIBBHHH", question.source_port, question.port, 0, 0, 5 << 4, SYN, 65535, 0, 0)
        checksum_offset = 16
    elif protocol == UDP:
        data = struct.pack("!HHHH", question.source_port, question.port, max(length, 8), 0)
        checksum_offset = 6
    elif protocol == (ICMP if source.version == 4 else ICMPV6):
        data = struct.pack("!BBHHH", ECHO_TYPES[source.version][0], 0, 0, question.source_port, 1)
        checksum_offset = 2
    else:
        return bytes(max(length, 8))
    data = data.ljust(length, b"\0")
    pseudo = b"" if protocol == ICMP else pseudo_header(source.packed, destination.packed, protocol, len(data))
    covered = struct.pack("!H", checksum(pseudo + data) or 0xFFFF)
    return data[:checksum_offset] + covered + data[checksum_offset + 2 :]


def _external_frame(world: World, question: Question, kind: int, packet: bytes) -> tuple[str, bytes]:
    port = next((port for port in world.ports if port.name == question.origin and port.role == "external"), None)
    leg = world.inside_of(*question.origin.partition("/")[::2])
    if port is None and leg is not None:
        return leg, Frame(mac_bytes(world.router_mac), UNKNOWN_MAC, b"", kind, packet).build()
    if port is None:
        names = ", ".join(port.name for port in world.ports if port.role == "external")
        raise QuestionError(
            f"from: {question.origin!r} is neither overlay, nor an external port, nor a tunnel (DOMAIN/CONNECTION) "
            f"whose compartment stands: there are {names}"
        )
    mac = world.interfaces[port.interface].mac_bytes
    return port.interface, Frame(mac, UNKNOWN_MAC, ethernet.tag(question.vlan or port.vlan), kind, packet).build()


def _overlay_frame(world: World, question: Question, kind: int, packet: bytes) -> tuple[str, bytes]:
    if question.vsid is None:
        raise QuestionError("vsid: a packet from the overlay needs the VSID that it comes from")
    if not 0 <= question.vsid < 1 << 24:
        raise QuestionError(f"vsid: {question.vsid} is not a number of 24 bits")
    domain = world.domain_of(question.vsid)
    record = domain.records.get(ip_address(question.source)) if domain else None
    encapsulation = question.encapsulation or (record.encapsulation if record else "vxlan")
    outer_source = _outer_source(question, record)
    source_mac = record.mac if record else UNKNOWN_MAC
    if encapsulation == "rewrite":
        return _rewrite_frame(world, question, domain, outer_source, source_mac)
    if encapsulation not in tunnels.HEADER_LENGTH:
        raise QuestionError(f"encapsulation: {encapsulation!r} is neither vxlan nor nvgre")
    port, outer_destination = _provider_end(world, outer_source.version)
    inner = Frame(mac_bytes(world.router_mac), source_mac, b"", kind, packet).build()
    entropy = 0 if encapsulation == "nvgre" else 49152
    tunnel = Tunnel(encapsulation, outer_source, outer_destination, 0, entropy, question.vsid, inner)
    outer_kind, outer = tunnels.encapsulate(tunnel, flow_label=0)
    return _provider_frame(world, port, question.vlan, UNKNOWN_MAC, outer_kind, outer)


def _outer_source(question: Question, record: Record | None) -> Address:
    if question.outer_source is not None:
        return _address("outer_source", question.outer_source)
    if record is None:
        raise QuestionError(
            f"outer_source: {question.source} has no lookup record in the routing domain of VSID {question.vsid}: "
            "name the provider address of the host that sends"
        )
    return record.provider_address


def _provider_end(world: World, version: int) -> tuple[Port, Address]:
    """The port and the address of the gateway that a host sends to: the first of the family."""
    for port in world.ports:
        for text in port.addresses if port.role == "provider" else ():
            address = ip_address(text.partition("/")[0])
            if address.version == version:
                return port, address
    raise QuestionError(f"outer_source: the gateway has no IPv{version} provider address that a host could send to")


def _provider_frame(
    world: World, port: Port, vlan: int, source_mac: bytes, kind: int, packet: bytes
) -> tuple[str, bytes]:
    mac = world.interfaces[port.interface].mac_bytes
    return port.interface, Frame(mac, source_mac, ethernet.tag(vlan or port.vlan), kind, packet).build()


def _rewrite_frame(
    world: World, question: Question, domain: Domain | None, outer_source: Address, source_mac: bytes
) -> tuple[str, bytes]:
    """The packet as the sending host rewrites it: provider addresses in place of customer addresses."""
    record = domain.records.get(ip_address(question.destination)) if domain else None
    if record is None or record.encapsulation != "rewrite":
        raise QuestionError(
            f"destination: {question.destination} has no rewrite record, so no host sends to it by rewrite"
        )
    port, _ = _provider_end(world, outer_source.version)
    rewritten = replace(question, source=str(outer_source), destination=str(record.provider_address))
    return _provider_frame(world, port, question.vlan, source_mac, *_ip_packet(rewritten))
