"""The Internet checksum: computed (RFC 1071) and updated (RFC 1624)."""

import struct


def _fold(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _sum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def checksum(data: bytes) -> int:
    return ~_fold(_sum(data)) & 0xFFFF


def updated(old_checksum: int, old: bytes, new: bytes) -> int:
    """The checksum after `old` has become `new`, both of the same even length (RFC 1624, equation 3)."""
    complement = bytes(byte ^ 0xFF for byte in old)
    return ~_fold((~old_checksum & 0xFFFF) + _sum(complement) + _sum(new)) & 0xFFFF


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """What TCP, UDP and ICMPv6 checksums cover besides their own bytes (RFC 8200, 8.1; RFC 9293, 3.1)."""
    if len(source) == 4:
        return source + destination + struct.pack("!BBH", 0, protocol, length)
    return source + destination + struct.pack("!II", length, protocol)


def store(data: bytearray, offset: int, new: bytes, checksum_offset: int) -> None:
    """Write `new` at `offset` and let the checksum at `checksum_offset` follow.

    The words that the change touches are taken as they lie from the start of `data`, which begins at an even offset of
    what the checksum covers.
    """
    first = offset & ~1
    last = (offset + len(new) + 1) & ~1
    old = bytes(data[first:last])
    data[offset : offset + len(new)] = new
    (current,) = struct.unpack_from("!H", data, checksum_offset)
    struct.pack_into("!H", data, checksum_offset, updated(current, old, bytes(data[first:last])))
