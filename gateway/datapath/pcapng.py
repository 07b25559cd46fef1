"""Writing captures as pcapng (draft-ietf-opsawg-pcapng): one section, Ethernet interfaces, nanoseconds, comments."""

import struct
from typing import BinaryIO

_SECTION_HEADER, _INTERFACE_DESCRIPTION, _ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER, _UNKNOWN_LENGTH = 0x1A2B3C4D, -1
_ETHERNET = 1  # LINKTYPE_ETHERNET
_NANOSECONDS = b"\x09"  # if_tsresol: a unit of 10^-9 s
_COMMENT, _APPLICATION, _INTERFACE_NAME, _TIME_RESOLUTION, _FLAGS = 1, 4, 2, 9, 2
_INBOUND, _OUTBOUND = 1, 2  # of epb_flags


class Writer:
    """One section of a file. Interfaces are declared before their packets, and all with the same snapshot length."""

    def __init__(self, stream: BinaryIO, snapshot_length: int, application: str) -> None:
        self._stream = stream
        self._snapshot_length = snapshot_length
        self._interfaces = 0
        header = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH)
        self._block(_SECTION_HEADER, header + _options((_APPLICATION, application.encode())))

    def interface(self, name: str) -> int:
        """Declare an interface; return the number by which packets name it."""
        description = struct.pack("<HHI", _ETHERNET, 0, self._snapshot_length)
        options = _options((_INTERFACE_NAME, name.encode()), (_TIME_RESOLUTION, _NANOSECONDS))
        self._block(_INTERFACE_DESCRIPTION, description + options)
        self._interfaces += 1
        return self._interfaces - 1

    def packet(self, interface: int, time: int, frame: bytes, length: int, outbound: bool, comment: str) -> None:
        """Write a frame, of whose `length` bytes `frame` holds the first; `time` is in ns since 1970."""
        header = struct.pack("<IIIII", interface, time >> 32, time & 0xFFFFFFFF, len(frame), length)
        flags = struct.pack("<I", _OUTBOUND if outbound else _INBOUND)
        self._block(_ENHANCED_PACKET, header + _padded(frame) + _options((_COMMENT, comment.encode()), (_FLAGS, flags)))

    def flush(self) -> None:
        """Let readers have all that is written."""
        self._stream.flush()

    def _block(self, kind: int, body: bytes) -> None:
        length = len(body) + 12
        self._stream.write(struct.pack("<II", kind, length) + body + struct.pack("<I", length))


def _options(*options: tuple[int, bytes]) -> bytes:
    encoded = (struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options)
    return b"".join(encoded) + bytes(4)  # opt_endofopt


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
