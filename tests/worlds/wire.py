"""Frames put together with struct: fast, and nothing is checked, so that they may lie."""

import struct

IPV4, ARP, VLAN, IPV6 = 0x0800, 0x0806, 0x8100, 0x86DD
HOP_BY_HOP, ICMP, TCP, UDP, GRE, ICMPV6 = 0, 1, 6, 17, 47, 58


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


def ethernet(destination: bytes, source: bytes, kind: int, payload: bytes, vlan: int | None = None) -> bytes:
    tag = b"" if vlan is None else struct.pack("!HH", VLAN, vlan)
    return destination + source + tag + kind.to_bytes(2) + payload


def ipv4(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    tos: int = 0,
    identification: int = 0,
    fragment: int = 0,
    length: int | None = None,
    options: bytes = b"",
) -> bytes:
    """`fragment` is the word of flags and offset; `length` is what the header says, the truth unless given."""
    size = 20 + len(options)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | size // 4,
        tos,
        (size + len(payload) if length is None else length) & 0xFFFF,
        identification,
        fragment,
        ttl,
        protocol,
        0,
        source,
        destination,
    )
    header += options
    return header[:10] + checksum(header).to_bytes(2) + header[12:] + payload


def ipv6(
    source: bytes,
    destination: bytes,
    protocol: int,
    payload: bytes,
    *,
    hop_limit: int = 64,
    traffic_class: int = 0,
    flow_label: int = 0,
    length: int | None = None,
) -> bytes:
    words = 6 << 28 | traffic_class << 20 | flow_label
    payload_length = (len(payload) if length is None else length) & 0xFFFF
    return struct.pack("!IHBB16s16s", words, payload_length, protocol, hop_limit, source, destination) + payload


def fragment_header(protocol: int, offset_and_more: int, identification: int) -> bytes:
    return struct.pack("!BBHI", protocol, 0, offset_and_more, identification)


def ip(source: bytes, destination: bytes, protocol: int, payload: bytes, ttl: int = 64, tos: int = 0) -> bytes:
    if len(source) == 4:
        return ipv4(source, destination, protocol, payload, ttl=ttl, tos=tos)
    return ipv6(source, destination, protocol, payload, hop_limit=ttl, traffic_class=tos)


def kind_of(address: bytes) -> int:
    return IPV4 if len(address) == 4 else IPV6


def udp(source_port: int, destination_port: int, payload: bytes, check: int = 0) -> bytes:
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), check) + payload


def tcp(source_port: int, destination_port: int, flags: int, options: bytes = b"", payload: bytes = b"") -> bytes:
    offset = (20 + len(options)) // 4 << 4
    return (
        struct.pack("!HHIIBBHHH", source_port, destination_port, 7, 9, offset, flags, 8192, 0x1234, 0)
        + options
        + payload
    )


def icmp(kind: int, code: int, second_word: int, payload: bytes = b"", check: int = 0x4321) -> bytes:
    return struct.pack("!BBHI", kind, code, check, second_word) + payload


def echo(address: bytes, identifier: int, payload: bytes = b"", *, reply: bool = False) -> tuple[int, bytes]:
    """Protocol and message of an echo request or reply of the address's family."""
    four = len(address) == 4
    kind = (0 if reply else 8) if four else (129 if reply else 128)
    return ICMP if four else ICMPV6, icmp(kind, 0, identifier << 16 | 1, payload)


def nvgre(vsid: int, flow_id: int, inner: bytes, flags: int = 0x2000, protocol: int = 0x6558) -> bytes:
    return struct.pack("!HHI", flags, protocol, vsid << 8 | flow_id) + inner


def vxlan(vsid: int, source_port: int, inner: bytes, flags: int = 0x08, check: int = 0) -> bytes:
    header = struct.pack("!HHHHII", source_port, 4789, 16 + len(inner), check, flags << 24, vsid << 8)
    return header + inner


def tunnel(
    encapsulation: str, source: bytes, destination: bytes, vsid: int, inner: bytes, entropy: int = 77, tos: int = 0
) -> tuple[int, bytes]:
    """Ethernet type and outer IP packet."""
    if encapsulation == "nvgre":
        return kind_of(source), ip(source, destination, GRE, nvgre(vsid, entropy & 0xFF, inner), tos=tos)
    return kind_of(source), ip(source, destination, UDP, vxlan(vsid, 49152 + entropy, inner), tos=tos)


def arp(operation: int, sender_mac: bytes, sender: bytes, target_mac: bytes, target: bytes) -> bytes:
    return struct.pack("!HHBBH6s4s6s4s", 1, IPV4, 6, 4, operation, sender_mac, sender, target_mac, target)


def discovery(kind: int, source: bytes, destination: bytes, target: bytes, option: bytes = b"") -> bytes:
    body = struct.pack("!BBHI", kind, 0, 0x1111, 0) + target + option
    return ipv6(source, destination, ICMPV6, body, hop_limit=255)
