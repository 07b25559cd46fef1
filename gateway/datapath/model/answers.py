"""What the gateway says by itself: echo replies and ICMP errors (RFC 792, RFC 4443), the way the packet came."""

import struct
from dataclasses import dataclass

from gateway.datapath.model import ethernet, tunnels
from gateway.datapath.model.checksum import checksum, pseudo_header, store
from gateway.datapath.model.ethernet import Frame
from gateway.datapath.model.ip import (
    ECHO_TYPES,
    ICMP,
    ICMPV6,
    UDP,
    Address,
    Packet,
    build_ipv4_header,
    build_ipv6_header,
)
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.tunnels import Tunnel
from gateway.datapath.model.verdict import Action, DecidedError, DropReason, dropped

QUOTE_LENGTH = 128


@dataclass(frozen=True, slots=True)
class IcmpError:
    """Type and code in either family."""

    ipv4: tuple[int, int]
    ipv6: tuple[int, int]


NET_UNREACHABLE = IcmpError((3, 0), (1, 0))
HOST_UNREACHABLE = IcmpError((3, 1), (1, 3))
PORT_UNREACHABLE = IcmpError((3, 3), (1, 4))
TOO_BIG = IcmpError((3, 4), (2, 0))
TIME_EXCEEDED = IcmpError((11, 0), (3, 0))


def back(passage: Passage, origin: Origin, ethernet_type: int, payload: bytes) -> bytes:
    """The frame that takes `payload` back to whoever sent the frame in hand."""
    came = passage.frame
    if origin.tunnel is None:
        return Frame(came.source, passage.interface.mac_bytes, came.tag, ethernet_type, payload).build()
    tunnel = origin.tunnel
    inner = Frame(origin.source_mac, passage.surroundings.router_mac, b"", ethernet_type, payload).build()
    returned = Tunnel(tunnel.encapsulation, tunnel.destination, tunnel.source, 0, tunnel.entropy, tunnel.vsid, inner)
    outer_type, packet = tunnels.encapsulate(returned, flow_label=0)
    return Frame(came.source, passage.interface.mac_bytes, came.tag, outer_type, packet).build()


def answered(passage: Passage, origin: Origin, frame: bytes) -> DecidedError:
    if not passage.may_answer(origin.domain):
        passage.note("answer", origin.domain.entry, "The domain has used up its answers.")
        return dropped(DropReason.ANSWER_LIMITED)
    return DecidedError(Action.ANSWERED, interface=passage.interface.name, frame=frame)


def echo_reply(passage: Passage, origin: Origin, packet: Packet) -> DecidedError:
    came, packet = origin.as_it_came(packet)
    data = bytearray(packet.data)
    reply_type = bytes([ECHO_TYPES[packet.version][1]])
    store(data, packet.transport, reply_type, packet.transport + 2)
    if data[packet.transport + 2 : packet.transport + 4] == b"\0\0":  # wrong where all of the reply is zero
        data[packet.transport + 2 : packet.transport + 4] = b"\xff\xff"
    if packet.version == 4:
        data[12:20] = packet.destination.packed + packet.source.packed
        if packet.ttl != 64:
            store(data, 8, b"\x40", 10)
        return answered(passage, origin, back(passage, came, ethernet.IPV4, bytes(data)))
    data[8:40] = packet.destination.packed + packet.source.packed
    data[7] = 64
    return answered(passage, origin, back(passage, came, ethernet.IPV6, bytes(data)))


def refused(
    passage: Passage,
    origin: Origin,
    packet: Packet,
    reason: DropReason,
    error: IcmpError,
    *,
    mtu: int = 0,
    source: Address | None = None,
) -> DecidedError:
    """The drop of a packet whose sender is told why, if that is allowed and the domain has answers left.

    `source` is who tells, if not the router.
    """
    if passage.attachment.is_for_fragments:  # the way back leads to the compartment
        return dropped(reason)
    came, packet = origin.as_it_came(packet)
    source = source or _error_source(passage, came, packet.version)
    if source is None or not _may_be_told(came, packet) or not passage.may_answer(origin.domain):
        return dropped(reason)
    message = _error_packet(packet, source, error, mtu)
    kind = ethernet.IPV4 if packet.version == 4 else ethernet.IPV6
    passage.note("answer", "", f"The sender is told by ICMP from {source}.")
    return DecidedError(Action.DROPPED, reason, passage.interface.name, back(passage, came, kind, message))


def not_served(passage: Passage, origin: Origin, packet: Packet) -> DecidedError:
    """The drop of a packet for an address that stands for others, where nobody has its port."""
    if packet.protocol != UDP:
        return dropped(DropReason.VIP_NOT_SERVED)
    return refused(passage, origin, packet, DropReason.VIP_NOT_SERVED, PORT_UNREACHABLE, source=packet.destination)


def _may_be_told(origin: Origin, packet: Packet) -> bool:
    """RFC 1122, section 3.2.2, and RFC 4443, section 2.4 (e): never about ICMP errors and later fragments."""
    if origin.is_rewrite or packet.fragment_offset:
        return False
    if packet.version == 6 and packet.icmp_type is not None:
        return packet.icmp_type >= 128
    return not packet.is_icmp_error


def _error_source(passage: Passage, origin: Origin, version: int) -> Address | None:
    if origin.vsid is not None:
        return origin.domain.subnets[origin.vsid].address_of_family(version)
    attachment = passage.attachment
    if attachment.is_leg and attachment.domain is not None:
        return next((address for address in attachment.domain.local if address.version == version), None)
    addresses = (connection.address_of_family(version) for connection in attachment.connections)
    return next((address for address in addresses if address is not None), None)


def _error_packet(packet: Packet, source: Address, error: IcmpError, mtu: int) -> bytes:
    quote = packet.data[: min(packet.length, QUOTE_LENGTH) & ~3]
    kind, code = error.ipv4 if packet.version == 4 else error.ipv6
    message = struct.pack("!BBHI", kind, code, 0, mtu) + quote
    if packet.version == 4:
        header = build_ipv4_header(source, packet.source, ICMP, 20 + len(message))
        covered = message
    else:
        header = build_ipv6_header(source, packet.source, ICMPV6, len(message))
        covered = pseudo_header(source.packed, packet.source.packed, ICMPV6, len(message)) + message
    return header + message[:2] + struct.pack("!H", checksum(covered)) + message[4:]
