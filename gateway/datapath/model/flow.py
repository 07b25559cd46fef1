"""The hash of a flow: entropy for tunnels, and the choice among equal routes."""

from gateway.datapath.model.ip import Packet

_WORD = 0xFFFFFFFF


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> (32 - by)) & _WORD


def _folded(packet: Packet) -> int:
    source, destination = packet.source.packed, packet.destination.packed
    folded = 0
    for i in range(len(source) // 4):
        folded ^= _rotated(int.from_bytes(source[4 * i : 4 * i + 4]), 5 * i)
        folded ^= _rotated(int.from_bytes(destination[4 * i : 4 * i + 4]), (16 + 5 * i) % 32)
    return folded


def hash_of(packet: Packet, ports: int, protocol: int) -> int:
    """32 bits of the packet's addresses and of what else is given; `ports` has the source port in its upper half."""
    h = _folded(packet) * 0x9E3779B1 & _WORD
    h ^= ports * 0x85EBCA6B & _WORD
    h ^= protocol * 0xC2B2AE35 & _WORD
    h ^= h >> 15
    h = h * 0x2C1B3C6D & _WORD
    h ^= h >> 12
    h = h * 0x297A2D39 & _WORD
    return h ^ h >> 15


def flow_hash(packet: Packet) -> int:
    """The same for all packets of a flow and for all fragments of a packet."""
    return hash_of(packet, 0 if packet.is_fragment else ports_of(packet), packet.protocol)


def ports_of(packet: Packet) -> int:
    return packet.source_port << 16 | packet.destination_port
