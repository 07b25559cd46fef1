"""Asks neighbours on external ports whether they are still there: unicast ARP requests and neighbour solicitations.

The datapath, not Linux, keeps these neighbours and learns from their answers.
"""

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

ETH_P_8021Q, ETH_P_ARP, ETH_P_IPV6 = 0x8100, 0x0806, 0x86DD
ICMPV6, NEIGHBOUR_SOLICITATION, SOURCE_LINK_LAYER_ADDRESS = 58, 135, 1


@dataclass(frozen=True, slots=True)
class Probe:
    """A neighbour to ask, by its last known MAC; `source` is the gateway's own address on that VLAN (0: untagged)."""

    vlan: int
    source: str
    target: str
    target_mac: bytes


def send_probes(interface: str, probes: Iterable[Probe]) -> None:
    """Send probes from an interface of the calling thread's network namespace. Raises OSError if it is gone or down."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        packets.bind((interface, 0))
        source_mac: bytes = packets.getsockname()[4]
        for probe in probes:
            packets.send(probe_frame(source_mac, probe))


def probe_frame(source_mac: bytes, probe: Probe) -> bytes:
    """Build the frame: RFC 1122 section 2.3.2.1 for IPv4, RFC 4861 section 7.3.3 for IPv6."""
    source, target = ip_address(probe.source), ip_address(probe.target)
    tag = struct.pack("!HH", ETH_P_8021Q, probe.vlan) if probe.vlan else b""
    if isinstance(source, IPv4Address) and isinstance(target, IPv4Address):
        kind, packet = ETH_P_ARP, _arp_request(source_mac, source, target)
    elif isinstance(source, IPv6Address) and isinstance(target, IPv6Address):
        kind, packet = ETH_P_IPV6, _neighbour_solicitation(source_mac, source, target)
    else:
        raise ValueError(f"{source} cannot ask for {target}: give addresses of one family")
    return probe.target_mac + source_mac + tag + struct.pack("!H", kind) + packet


def _arp_request(source_mac: bytes, source: IPv4Address, target: IPv4Address) -> bytes:
    ethernet_to_ipv4_request = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return ethernet_to_ipv4_request + source_mac + source.packed + bytes(6) + target.packed


def _neighbour_solicitation(source_mac: bytes, source: IPv6Address, target: IPv6Address) -> bytes:
    option = bytes([SOURCE_LINK_LAYER_ADDRESS, 1]) + source_mac
    body = struct.pack("!BBHI", NEIGHBOUR_SOLICITATION, 0, 0, 0) + target.packed + option
    pseudo_header = source.packed + target.packed + struct.pack("!II", len(body), ICMPV6)
    checksum = _internet_checksum(pseudo_header + body)
    header = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, 255) + source.packed + target.packed
    return header + body[:2] + struct.pack("!H", checksum) + body[4:]


def _internet_checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
