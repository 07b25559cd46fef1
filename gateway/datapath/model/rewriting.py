"""Addresses and ports of a packet exchanged, with every checksum that covers them (RFC 3022, section 4)."""

import struct
from dataclasses import replace
from typing import NamedTuple

from gateway.datapath.model.checksum import updated
from gateway.datapath.model.ip import ICMP, ICMPV6, TCP, UDP, Address, Packet

ADDRESSES_OFFSET = {4: 12, 6: 8}
IPV4_CHECKSUM_OFFSET = 10
ICMP_HEADER_LENGTH = 8
CHECKSUM_OFFSETS = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}
ECHO_IDENTIFIER_OFFSET = 4


class End(NamedTuple):
    """One end of a flow. The port of an ICMP echo is its identifier; it is 0 where there is none."""

    address: Address
    port: int


Between = tuple[End, End]


def source_end(packet: Packet) -> End:
    return End(packet.source, packet.source_port)


def destination_end(packet: Packet) -> End:
    return End(packet.destination, packet.destination_port)


def seen_as(packet: Packet, source: End, destination: End) -> Packet:
    """The packet under other addresses and ports, its bytes left as they are."""
    return replace(
        packet,
        source=source.address,
        source_port=source.port,
        destination=destination.address,
        destination_port=destination.port,
    )


def rewritten(packet: Packet, source: End, destination: End) -> Packet:
    """The packet between these ends, in its bytes too, and in its checksum if that is there.

    Of a later fragment only the IP header changes. The identifier of an echo becomes the port that is not what it was.
    """
    old_addresses = packet.source.packed + packet.destination.packed
    new_addresses = source.address.packed + destination.address.packed
    data = bytearray(packet.data)
    at = ADDRESSES_OFFSET[packet.version]
    data[at : at + len(new_addresses)] = new_addresses
    if packet.version == 4:
        _update(data, IPV4_CHECKSUM_OFFSET, old_addresses, new_addresses)
    if not packet.fragment_offset:
        old_ports, new_ports = _write_ports(data, packet, source.port, destination.port)
        if packet.protocol == ICMP:
            _update_transport(data, packet, old_ports, new_ports)
        else:
            _update_transport(data, packet, old_addresses + old_ports, new_addresses + new_ports)
    return replace(seen_as(packet, source, destination), data=bytes(data))


def lacks_checksum(packet: Packet) -> bool:
    """Whether this is a TCP segment, or the first fragment of one, that is cut off before its checksum."""
    return packet.protocol == TCP and not packet.fragment_offset and not _has_checksum(packet)


def with_quote(packet: Packet, quote: Packet) -> Packet:
    """The ICMP error with another packet in place of the one of equal length that it quotes."""
    at = packet.transport + ICMP_HEADER_LENGTH
    data = bytearray(packet.data)
    old = bytes(data[at : packet.length])
    data[at : packet.length] = quote.data
    padding = b"\0" * (len(old) % 2)
    _update(data, packet.transport + CHECKSUM_OFFSETS[ICMP], old + padding, quote.data + padding)
    return replace(packet, data=bytes(data))


def _write_ports(data: bytearray, packet: Packet, source_port: int, destination_port: int) -> tuple[bytes, bytes]:
    """Write the ports, or the identifier of an echo; return the bytes that were there and those that are."""
    if packet.protocol in (TCP, UDP):
        at, new = packet.transport, struct.pack("!HH", source_port, destination_port)
    elif packet.is_echo:
        identifier = destination_port if source_port == packet.source_port else source_port
        at, new = packet.transport + ECHO_IDENTIFIER_OFFSET, struct.pack("!H", identifier)
    else:
        return b"", b""
    old = bytes(data[at : at + len(new)])
    data[at : at + len(new)] = new
    return old, new


def _update_transport(data: bytearray, packet: Packet, old: bytes, new: bytes) -> None:
    """Let the transport checksum follow, if it is there; of UDP, zero means none and stays (RFC 768)."""
    if packet.protocol == (ICMPV6 if packet.version == 4 else ICMP) or not _has_checksum(packet):
        return
    at = packet.transport + CHECKSUM_OFFSETS[packet.protocol]
    is_udp = packet.protocol == UDP
    if is_udp and data[at : at + 2] == b"\0\0":
        return
    _update(data, at, old, new)
    if is_udp and data[at : at + 2] == b"\0\0":
        data[at : at + 2] = b"\xff\xff"


def _has_checksum(packet: Packet) -> bool:
    offset = CHECKSUM_OFFSETS.get(packet.protocol)
    return offset is not None and packet.length >= packet.transport + offset + 2


def _update(data: bytearray, at: int, old: bytes, new: bytes) -> None:
    if old != new:
        (current,) = struct.unpack_from("!H", data, at)
        struct.pack_into("!H", data, at, updated(current, old, new))
