"""Neighbour discovery (RFC 4861): solicitations and advertisements."""

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address

from gateway.datapath.model.checksum import checksum, pseudo_header
from gateway.datapath.model.ip import ICMPV6, build_ipv6_header

SOLICITATION, ADVERTISEMENT = 135, 136
SOURCE_LINK_LAYER, TARGET_LINK_LAYER = 1, 2
ROUTER, SOLICITED, OVERRIDE = 0x80000000, 0x40000000, 0x20000000

HOP_LIMIT = 255

ALL_NODES = IPv6Address("ff02::1")


@dataclass(frozen=True, slots=True)
class Discovery:
    """A solicitation or an advertisement, and its flags.

    `link_layer` is the MAC in its first option, if that is the one needed.
    """

    type: int
    source: IPv6Address
    destination: IPv6Address
    target: IPv6Address
    flags: int
    link_layer: bytes | None


def parse(data: bytes) -> Discovery | None:
    """None for all but the two messages, sent from the link itself (hop limit 255)."""
    if len(data) < 64 or data[6] != ICMPV6 or data[7] != HOP_LIMIT:
        return None
    kind = data[40]
    if kind not in (SOLICITATION, ADVERTISEMENT):
        return None
    wanted = SOURCE_LINK_LAYER if kind == SOLICITATION else TARGET_LINK_LAYER
    option = data[64:72]
    return Discovery(
        type=kind,
        source=IPv6Address(data[8:24]),
        destination=IPv6Address(data[24:40]),
        target=IPv6Address(data[48:64]),
        flags=int.from_bytes(data[44:48]),
        link_layer=option[2:] if len(option) == 8 and option[:2] == bytes((wanted, 1)) else None,
    )


def advertisement(source: IPv6Address, destination: IPv6Address, flags: int, mac: bytes) -> bytes:
    """The IPv6 packet that says where `source` is."""
    return _message(source, destination, ADVERTISEMENT, flags, source, TARGET_LINK_LAYER, mac)


def solicitation(source: IPv6Address, target: IPv6Address, mac: bytes) -> bytes:
    """The IPv6 packet that asks the link where `target` is."""
    return _message(source, solicited_node(target), SOLICITATION, 0, target, SOURCE_LINK_LAYER, mac)


def solicited_node(address: IPv6Address) -> IPv6Address:
    """RFC 4291, section 2.7.1."""
    return IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + address.packed[13:])


def multicast_mac(address: IPv6Address) -> bytes:
    """RFC 2464, section 7."""
    return b"\x33\x33" + address.packed[12:]


def _message(
    source: IPv6Address, destination: IPv6Address, kind: int, flags: int, target: IPv6Address, option: int, mac: bytes
) -> bytes:
    body = struct.pack("!I", flags) + target.packed + bytes((option, 1)) + mac
    length = 4 + len(body)
    pseudo = pseudo_header(source.packed, destination.packed, ICMPV6, length)
    covered = checksum(pseudo + bytes((kind, 0, 0, 0)) + body)
    header = build_ipv6_header(source, destination, ICMPV6, length, hop_limit=HOP_LIMIT)
    return header + struct.pack("!BBH", kind, 0, covered) + body
