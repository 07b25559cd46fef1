"""ARP for IPv4 over Ethernet (RFC 826)."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

REQUEST, REPLY = 1, 2
LENGTH = 28
ETHERNET_IPV4 = (1, 0x0800, 6, 4)


@dataclass(frozen=True, slots=True)
class Arp:
    operation: int
    sender_mac: bytes
    sender: IPv4Address
    target_mac: bytes
    target: IPv4Address

    def build(self) -> bytes:
        return (
            struct.pack("!HHBBH", *ETHERNET_IPV4, self.operation)
            + self.sender_mac
            + self.sender.packed
            + self.target_mac
            + self.target.packed
        )


def parse(data: bytes) -> Arp | None:
    """None for anything but whole ARP for IPv4 over Ethernet."""
    if len(data) < LENGTH:
        return None
    *kind, operation = struct.unpack_from("!HHBBH", data)
    if tuple(kind) != ETHERNET_IPV4:
        return None
    return Arp(operation, data[8:14], IPv4Address(data[14:18]), data[18:24], IPv4Address(data[24:28]))
