"""Ethernet frames, with at most one 802.1Q tag."""

import struct
from dataclasses import dataclass

IPV4 = 0x0800
ARP = 0x0806
VLAN = 0x8100
IPV6 = 0x86DD
PROVIDER_BRIDGING = 0x88A8

BROADCAST = b"\xff" * 6


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame in its parts; `tag` is empty or the four bytes of the 802.1Q tag, `type` that of the payload."""

    destination: bytes
    source: bytes
    tag: bytes
    type: int
    payload: bytes

    @property
    def vlan(self) -> int:
        """VLAN number, 0 without a tag."""
        return int.from_bytes(self.tag[2:]) & 0xFFF

    def build(self) -> bytes:
        return self.destination + self.source + self.tag + struct.pack("!H", self.type) + self.payload


def parse(frame: bytes) -> Frame | None:
    """The frame's parts; None where it is cut off or carries tags that no port has."""
    if len(frame) < 14:
        return None
    destination, source, kind = frame[:6], frame[6:12], int.from_bytes(frame[12:14])
    if kind == PROVIDER_BRIDGING:
        return None
    if kind != VLAN:
        return Frame(destination, source, b"", kind, frame[14:])
    kind = int.from_bytes(frame[16:18])
    if len(frame) < 18 or kind in (VLAN, PROVIDER_BRIDGING):
        return None
    return Frame(destination, source, frame[12:16], kind, frame[18:])


def tag(vlan: int) -> bytes:
    return struct.pack("!HH", VLAN, vlan) if vlan else b""


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace("-", "").replace(":", ""))


def mac_text(mac: bytes) -> str:
    return mac.hex("-").upper()
