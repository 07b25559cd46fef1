"""The (inner) IP packet: what is read of it, and when it is refused."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from gateway.datapath.model import ethernet
from gateway.datapath.model.checksum import checksum
from gateway.datapath.model.verdict import DropReason, dropped

Address = IPv4Address | IPv6Address

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS = 0, 43, 44, 60
EXTENSION_HEADERS = (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS)

LINK_LOCAL = IPv6Network("fe80::/10")

ECHO_TYPES = {4: (8, 0), 6: (128, 129)}
ERROR_TYPES = {4: (3, 4, 5, 11, 12), 6: (1, 2, 3, 4)}


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet that may be forwarded.

    `data` begins with the IP header and goes on to the end of what arrived, padding included; `length` counts the
    packet itself and `transport` is the offset of the layer above. `source_port` and `destination_port` are the
    identifier of an ICMP echo; they are 0 where there are none, in later fragments too.
    """

    data: bytes
    version: int
    source: Address
    destination: Address
    traffic_class: int
    ttl: int
    protocol: int
    length: int
    transport: int
    more_fragments: bool
    fragment_offset: int
    identification: int
    source_port: int
    destination_port: int

    @property
    def is_fragment(self) -> bool:
        return self.more_fragments or self.fragment_offset != 0

    @property
    def icmp_type(self) -> int | None:
        """Type of an ICMP message of the packet's own family, None for all else."""
        if self.fragment_offset or self.protocol != (ICMP if self.version == 4 else ICMPV6):
            return None
        return self.data[self.transport]

    @property
    def is_icmp_error(self) -> bool:
        return self.icmp_type in ERROR_TYPES[self.version]

    @property
    def is_echo(self) -> bool:
        """Whether it is a request or a reply."""
        return self.icmp_type in ECHO_TYPES[self.version]

    @property
    def is_first_fragment(self) -> bool:
        return self.more_fragments and self.fragment_offset == 0

    @property
    def asks_for_echo(self) -> bool:
        return self.icmp_type == ECHO_TYPES[self.version][0]

    @property
    def is_echo_request(self) -> bool:
        """Whether all of a request is in it."""
        return not self.is_fragment and self.asks_for_echo

    @property
    def tcp_flags(self) -> int:
        if self.protocol != TCP or self.fragment_offset or self.length < self.transport + 14:
            return 0
        return self.data[self.transport + 13]


def parse(ethernet_type: int, data: bytes) -> Packet:
    """The packet at the start of `data`; raises the drop of what is malformed or not to be forwarded."""
    return _parse_ipv4(data) if ethernet_type == ethernet.IPV4 else _parse_ipv6(data)


def transport_ports(version: int, protocol: int, transport: bytes) -> tuple[int, int]:
    """Source and destination port of the transport header given; raises `malformed` where less than eight bytes are."""
    if protocol not in (TCP, UDP, ICMP, ICMPV6):
        return 0, 0
    if len(transport) < 8:
        raise dropped(DropReason.MALFORMED)
    if protocol in (TCP, UDP):
        source_port, destination_port = struct.unpack_from("!HH", transport)
        return source_port, destination_port
    if protocol == (ICMP if version == 4 else ICMPV6) and transport[0] in ECHO_TYPES[version]:
        (identifier,) = struct.unpack_from("!H", transport, 4)
        return identifier, identifier
    return 0, 0


def quoted(packet: Packet) -> Packet | None:
    """The packet that an ICMP error is about; None where it has options, or too little of it is there.

    Its `data` and `length` are what was quoted of it.
    """
    quote = packet.data[packet.transport + 8 : packet.length]
    header_length = 20 if packet.version == 4 else 40
    if len(quote) < header_length + 8:
        return None
    source: Address
    destination: Address
    if packet.version == 4:
        (fragment,) = struct.unpack_from("!H", quote, 6)
        if quote[0] & 15 != 5 or fragment & 0x1FFF:
            return None
        protocol, source, destination = quote[9], IPv4Address(quote[12:16]), IPv4Address(quote[16:20])
    else:
        protocol, source, destination = quote[6], IPv6Address(quote[8:24]), IPv6Address(quote[24:40])
    source_port, destination_port = transport_ports(packet.version, protocol, quote[header_length:])
    return Packet(
        data=quote,
        version=packet.version,
        source=source,
        destination=destination,
        traffic_class=0,
        ttl=0,
        protocol=protocol,
        length=len(quote),
        transport=header_length,
        more_fragments=False,
        fragment_offset=0,
        identification=0,
        source_port=source_port,
        destination_port=destination_port,
    )


def _parse_ipv4(data: bytes) -> Packet:
    if len(data) < 20 or data[0] >> 4 != 4 or data[0] & 15 < 5:
        raise dropped(DropReason.MALFORMED)
    if data[0] & 15 > 5:
        raise dropped(DropReason.IP_OPTIONS)
    _, traffic_class, length, identification, fragment, ttl, protocol, _ = struct.unpack_from("!BBHHHBBH", data)
    if not 20 <= length <= len(data):
        raise dropped(DropReason.MALFORMED)
    source, destination = data[12:16], data[16:20]
    if source[0] in (0, 127) or source[0] >= 224:
        raise dropped(DropReason.MARTIAN_SOURCE)
    if destination[0] in (0, 127):
        raise dropped(DropReason.MARTIAN_DESTINATION)
    if destination[0] >= 224:
        raise dropped(DropReason.BROADCAST)
    offset = fragment & 0x1FFF
    source_port, destination_port = (0, 0) if offset else transport_ports(4, protocol, data[20:length])
    return Packet(
        data=data,
        version=4,
        source=IPv4Address(source),
        destination=IPv4Address(destination),
        traffic_class=traffic_class,
        ttl=ttl,
        protocol=protocol,
        length=length,
        transport=20,
        more_fragments=bool(fragment & 0x2000),
        fragment_offset=offset,
        identification=identification,
        source_port=source_port,
        destination_port=destination_port,
    )


def _parse_ipv6(data: bytes) -> Packet:
    if len(data) < 40 or data[0] >> 4 != 6:
        raise dropped(DropReason.MALFORMED)
    words, payload_length, protocol, ttl = struct.unpack_from("!IHBB", data)
    length = 40 + payload_length
    if length > len(data):
        raise dropped(DropReason.MALFORMED)
    source, destination = IPv6Address(data[8:24]), IPv6Address(data[24:40])
    _refuse_addresses(source, destination)
    transport, fragment, identification = 40, 0, 0
    if protocol in EXTENSION_HEADERS:
        raise dropped(DropReason.EXTENSION_HEADERS)
    if protocol == FRAGMENT:
        if payload_length < 8:
            raise dropped(DropReason.MALFORMED)
        protocol, _, fragment, identification = struct.unpack_from("!BBHI", data, 40)
        transport = 48
        if protocol in (*EXTENSION_HEADERS, FRAGMENT):
            raise dropped(DropReason.EXTENSION_HEADERS)
    offset = fragment >> 3
    source_port, destination_port = (0, 0) if offset else transport_ports(6, protocol, data[transport:length])
    return Packet(
        data=data,
        version=6,
        source=source,
        destination=destination,
        traffic_class=words >> 20 & 0xFF,
        ttl=ttl,
        protocol=protocol,
        length=length,
        transport=transport,
        more_fragments=bool(fragment & 1),
        fragment_offset=offset,
        identification=identification,
        source_port=source_port,
        destination_port=destination_port,
    )


def _refuse_addresses(source: IPv6Address, destination: IPv6Address) -> None:
    if source.is_unspecified or source.is_loopback or source.is_multicast:
        raise dropped(DropReason.MARTIAN_SOURCE)
    if destination.is_multicast:
        raise dropped(DropReason.BROADCAST)
    if destination.is_unspecified or destination.is_loopback:
        raise dropped(DropReason.MARTIAN_DESTINATION)
    if source in LINK_LOCAL or destination in LINK_LOCAL:
        raise dropped(DropReason.LINK_LOCAL)


def build_ipv4_header(
    source: Address, destination: Address, protocol: int, length: int, traffic_class: int = 0, ttl: int = 64
) -> bytes:
    """The header of a packet that is made here: id 0, do not fragment; `length` includes the header."""
    parts = (0x45, traffic_class, length, 0, 0x4000, ttl, protocol)
    addresses = source.packed + destination.packed
    header = struct.pack("!BBHHHBBH", *parts, 0) + addresses
    return struct.pack("!BBHHHBBH", *parts, checksum(header)) + addresses


def build_ipv6_header(
    source: Address,
    destination: Address,
    protocol: int,
    payload_length: int,
    traffic_class: int = 0,
    flow_label: int = 0,
    hop_limit: int = 64,
) -> bytes:
    words = 6 << 28 | traffic_class << 20 | flow_label
    return struct.pack("!IHBB", words, payload_length, protocol, hop_limit) + source.packed + destination.packed
