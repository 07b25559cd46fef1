"""The frames that the generator starts from: all that does not vary. Inner frames have 64 bytes."""

import socket
import struct
from ipaddress import IPv6Address, IPv6Network
from typing import Literal

from tests.bench import plan
from tests.bench.rig import CORPNET_MAC, EXTERNAL_MAC, HOST_MAC, PROVIDER_MAC

Kind = Literal["nvgre", "vxlan", "tagged", "untagged", "six"]

LONGEST = 114  # VXLAN
_MAGIC = 0x62656E63
_VM_MAC = "02:00:00:00:00:00"
_IPV4, _IPV6, _VLAN, _TRANSPARENT_BRIDGING = 0x0800, 0x86DD, 0x8100, 0x6558
_DONT_FRAGMENT = 0x4000
_VNI_VALID = 0x08000000
_KEY_PRESENT = 0x2000


def template(kind: Kind, checksummed: bool) -> bytes:
    """Addresses, ports, VSID, VLAN and tag are left 0, and no checksum covers them."""
    if kind == "six":
        return _ethernet(CORPNET_MAC, EXTERNAL_MAC, _IPV6) + _packet_six()
    packet = _packet(checksummed)
    if kind == "untagged":
        return _ethernet(CORPNET_MAC, EXTERNAL_MAC, _IPV4) + packet
    if kind == "tagged":
        return _ethernet(CORPNET_MAC, EXTERNAL_MAC, _VLAN) + struct.pack(">HH", 0, _IPV4) + packet
    inner = _ethernet(_VM_MAC, plan.ROUTER_MAC, _IPV4) + packet
    if kind == "nvgre":
        carried = struct.pack(">HHI", _KEY_PRESENT, _TRANSPARENT_BRIDGING, 0) + inner
        protocol = socket.IPPROTO_GRE
    else:
        carried = struct.pack(">HHHHII", 0, plan.VXLAN_PORT, 16 + len(inner), 0, _VNI_VALID, 0) + inner
        protocol = socket.IPPROTO_UDP
    return _ethernet(HOST_MAC, PROVIDER_MAC, _IPV4) + _ipv4(protocol, len(carried)) + carried


def _packet(checksummed: bool) -> bytes:
    """IPv4 and UDP, whose checksum is 0, none, unless it is wanted (RFC 768)."""
    datagram = _datagram(b"" if checksummed else None)
    return _ipv4(socket.IPPROTO_UDP, len(datagram)) + datagram


def _packet_six() -> bytes:
    """IPv6, of a client and to a VIP whose last 32 bits are left 0, and UDP."""
    client, vip = IPv6Address(plan.FIRST_CLIENT6), IPv6Network((plan.INTERNET_LOCAL6, 96), strict=False)[0]
    datagram = _datagram(client.packed + vip.packed)
    header = struct.pack(">IHBB", 6 << 28, len(datagram), socket.IPPROTO_UDP, 64)
    return header + client.packed + vip.packed + datagram


def _datagram(addresses: bytes | None) -> bytes:
    """UDP with a checksum that covers these addresses, or without one."""
    payload = struct.pack("=IHHI10x", _MAGIC, 0, 0, 0)
    length = 8 + len(payload)
    covered = struct.pack(">HHHHHH", socket.IPPROTO_UDP, length, 0, 0, length, 0) + payload
    checksum = 0 if addresses is None else _checksum(addresses + covered)
    return struct.pack(">HHHH", 0, 0, length, checksum) + payload


def _ipv4(protocol: int, carried: int) -> bytes:
    header = struct.pack(">BBHHHBBH8x", 0x45, 0, 20 + carried, 0, _DONT_FRAGMENT, 64, protocol, 0)
    return header[:10] + struct.pack(">H", _checksum(header)) + header[12:]


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def _ethernet(source: str, destination: str, kind: int) -> bytes:
    return _mac(destination) + _mac(source) + struct.pack(">H", kind)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", "").replace("-", ""))
