"""TCP's maximum segment size, clamped to what fits both sides of the gateway."""

import struct

from gateway.datapath.model.checksum import store
from gateway.datapath.model.ip import TCP, Packet

SYN = 0x02
END_OF_OPTIONS, NO_OPERATION, MAXIMUM_SEGMENT_SIZE = 0, 1, 2
STEPS = 10
HEADERS_LENGTH = {4: 40, 6: 60}


def clamp(data: bytearray, packet: Packet, limit: int) -> None:
    """Lower the MSS option of a SYN in `data` so that a full segment's IP packet has at most `limit` bytes."""
    if packet.protocol != TCP or packet.is_fragment or not packet.tcp_flags & SYN:
        return
    header_length = data[packet.transport + 12] >> 4 << 2
    if header_length < 20 or packet.transport + header_length > packet.length:
        return
    at = _value_offset(data, packet.transport + 20, packet.transport + header_length)
    largest = limit - HEADERS_LENGTH[packet.version]
    if at is not None and struct.unpack_from("!H", data, at)[0] > largest:
        store(data, at, struct.pack("!H", largest), packet.transport + 16)


def _value_offset(data: bytearray, at: int, end: int) -> int | None:
    """Where the value of the first MSS option lies; None where the options have none or are broken."""
    for _ in range(STEPS):
        if at >= end or data[at] == END_OF_OPTIONS:
            return None
        if data[at] == NO_OPERATION:
            at += 1
            continue
        if at + 2 > end or data[at + 1] < 2 or at + data[at + 1] > end:
            return None
        if data[at] == MAXIMUM_SEGMENT_SIZE and data[at + 1] == 4:
            return at + 2
        at += data[at + 1]
    return None
