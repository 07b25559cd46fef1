"""NVGRE (RFC 7637) and VXLAN (RFC 7348) over IPv4 and IPv6, taken off and put on."""

import struct
from collections.abc import Set
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from gateway.datapath.model import ethernet
from gateway.datapath.model.ethernet import Frame
from gateway.datapath.model.ip import UDP, Address, Packet, build_ipv4_header, build_ipv6_header
from gateway.datapath.model.verdict import DropReason, dropped

GRE = 47
GRE_WITH_KEY = 0x2000
TRANSPARENT_ETHERNET_BRIDGING = 0x6558
VXLAN_PORT = 4789
VXLAN_VNI_VALID = 0x08

HEADER_LENGTH = {"nvgre": 8, "vxlan": 16}
IP_HEADER_LENGTH = {4: 20, 6: 40}
ETHERNET_LENGTH = 14


@dataclass(frozen=True, slots=True)
class Outer:
    """An outer IP header; `length` counts the packet with its header, `data` is all that follows in the frame."""

    source: Address
    destination: Address
    traffic_class: int
    protocol: int
    header_length: int
    length: int
    more_fragments: bool
    fragment_offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel packet. `entropy` is NVGRE's FlowID or VXLAN's UDP source port; `inner` is an Ethernet frame."""

    encapsulation: str
    source: Address
    destination: Address
    traffic_class: int
    entropy: int
    vsid: int
    inner: bytes

    @property
    def overhead(self) -> int:
        return overhead(self.encapsulation, self.source.version)


def overhead(encapsulation: str, outer_version: int) -> int:
    """What an inner IP packet loses of the outer MTU."""
    return IP_HEADER_LENGTH[outer_version] + HEADER_LENGTH[encapsulation] + ETHERNET_LENGTH


def is_tunnel(packet: Packet) -> bool:
    """Whether whoever receives the packet may take it for NVGRE or VXLAN."""
    return packet.protocol == GRE or (packet.protocol == UDP and packet.destination_port == VXLAN_PORT)


def parse_outer(frame: Frame) -> Outer | None:
    """The outer IP header, None where there is no whole and proper one."""
    data = frame.payload
    if frame.type == ethernet.IPV4 and len(data) >= 20 and data[0] >> 4 == 4 and data[0] & 15 >= 5:
        _, traffic_class, length, _, fragment, _, protocol, _ = struct.unpack_from("!BBHHHBBH", data)
        return Outer(
            source=IPv4Address(data[12:16]),
            destination=IPv4Address(data[16:20]),
            traffic_class=traffic_class,
            protocol=protocol,
            header_length=4 * (data[0] & 15),
            length=length,
            more_fragments=bool(fragment & 0x2000),
            fragment_offset=fragment & 0x1FFF,
            data=data[20:],
        )
    if frame.type == ethernet.IPV6 and len(data) >= 40 and data[0] >> 4 == 6:
        words, payload_length, protocol, _ = struct.unpack_from("!IHBB", data)
        return Outer(
            source=IPv6Address(data[8:24]),
            destination=IPv6Address(data[24:40]),
            traffic_class=words >> 20 & 0xFF,
            protocol=protocol,
            header_length=40,
            length=40 + payload_length,
            more_fragments=False,
            fragment_offset=0,
            data=data[40:],
        )
    return None


def decapsulate(outer: Outer, ours: Set[Address]) -> Tunnel | None:
    """The tunnel packet inside, None where this is not one for us; raises the drop of a broken one."""
    if outer.destination not in ours:
        return None
    if outer.source.version == 4 and outer.header_length > 20:
        if outer.protocol == GRE:
            raise dropped(DropReason.OUTER_OPTIONS)
        return None
    if outer.more_fragments or outer.fragment_offset:
        if outer.protocol == GRE or _begins_vxlan(outer):
            raise dropped(DropReason.OUTER_FRAGMENT)
        return None
    if outer.protocol == GRE:
        return _nvgre(outer)
    if outer.protocol == UDP:
        return _vxlan(outer)
    return None


def _begins_vxlan(outer: Outer) -> bool:
    return (
        outer.protocol == UDP
        and outer.fragment_offset == 0
        and len(outer.data) >= 4
        and int.from_bytes(outer.data[2:4]) == VXLAN_PORT
    )


def _present(outer: Outer) -> int:
    """Bytes behind the outer IP header, by its length field and by what arrived."""
    return min(outer.length - outer.header_length, len(outer.data))


def _nvgre(outer: Outer) -> Tunnel | None:
    if _present(outer) < 8:
        raise dropped(DropReason.MALFORMED)
    flags, protocol, key = struct.unpack_from("!HHI", outer.data)
    if (flags, protocol) != (GRE_WITH_KEY, TRANSPARENT_ETHERNET_BRIDGING):
        return None
    return _tunnel(outer, "nvgre", entropy=key & 0xFF, vsid=key >> 8)


def _vxlan(outer: Outer) -> Tunnel | None:
    if _present(outer) < 8:
        return None
    source_port, destination_port = struct.unpack_from("!HH", outer.data)
    if destination_port != VXLAN_PORT:
        return None
    if _present(outer) < 16 or not outer.data[8] & VXLAN_VNI_VALID:
        raise dropped(DropReason.MALFORMED)
    return _tunnel(outer, "vxlan", entropy=source_port, vsid=int.from_bytes(outer.data[12:15]))


def _tunnel(outer: Outer, encapsulation: str, entropy: int, vsid: int) -> Tunnel:
    end = outer.length - outer.header_length
    if end > len(outer.data):
        raise dropped(DropReason.MALFORMED)
    inner = outer.data[HEADER_LENGTH[encapsulation] : end]
    if len(inner) < ETHERNET_LENGTH:
        raise dropped(DropReason.MALFORMED)
    return Tunnel(encapsulation, outer.source, outer.destination, outer.traffic_class, entropy, vsid, inner)


def encapsulate(tunnel: Tunnel, flow_label: int) -> tuple[int, bytes]:
    """Ethernet type and bytes of the outer IP packet. The UDP checksum is zero (RFC 7348; RFC 6935 for IPv6)."""
    if tunnel.encapsulation == "nvgre":
        protocol = GRE
        key = tunnel.vsid << 8 | tunnel.entropy
        header = struct.pack("!HHI", GRE_WITH_KEY, TRANSPARENT_ETHERNET_BRIDGING, key)
    else:
        protocol = UDP
        length = HEADER_LENGTH["vxlan"] + len(tunnel.inner)
        header = struct.pack("!HHHH", tunnel.entropy, VXLAN_PORT, length, 0)
        header += struct.pack("!II", VXLAN_VNI_VALID << 24, tunnel.vsid << 8)
    payload = header + tunnel.inner
    ends = (tunnel.source, tunnel.destination, protocol)
    if tunnel.source.version == 4:
        return ethernet.IPV4, build_ipv4_header(*ends, 20 + len(payload), tunnel.traffic_class) + payload
    return ethernet.IPV6, build_ipv6_header(*ends, len(payload), tunnel.traffic_class, flow_label) + payload
