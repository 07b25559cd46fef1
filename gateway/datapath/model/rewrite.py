"""IP rewrite: customer and provider addresses exchanged in place, without encapsulation."""

import struct
from dataclasses import replace

from gateway.datapath.model import ip
from gateway.datapath.model.checksum import updated
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ip import ICMPV6, TCP, UDP, Address, Packet
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.routes import Record
from gateway.datapath.model.verdict import DropReason, dropped, passed

CHECKSUM_OFFSETS = {TCP: 16, UDP: 6, ICMPV6: 2}


def _owner(domains: tuple[Domain, ...], provider_address: Address) -> tuple[Domain, Record] | None:
    """The rewrite record that a provider address stands for, and its domain."""
    return next(
        ((domain, domain.rewritten[provider_address]) for domain in domains if provider_address in domain.rewritten),
        None,
    )


def admit(passage: Passage, source: Address, destination: Address) -> tuple[Origin, Packet]:
    """The packet between two provider addresses, with the customer addresses that they stand for."""
    receiver = _owner(passage.domains, destination)
    if receiver is None:
        passage.note("port", passage.attachment.entry, "Not a tunnel packet for us: it goes up to Linux untouched.")
        raise passed()
    domain, destination_record = receiver
    passage.domain = domain
    sender = _owner(passage.domains, source)
    if sender is None or sender[0] is not domain:
        passage.note("admit", destination_record.entry, f"{source} stands for no address of {domain.source.name}.")
        raise dropped(DropReason.SOURCE_NOT_ADMITTED)
    record = sender[1]
    passage.note("rewrite", record.entry, f"{source} stands for {record.customer_address} of {domain.source.name}.")
    packet = ip.parse(
        passage.frame.type,
        _with_addresses(passage.frame.payload, record.customer_address, destination_record.customer_address),
    )
    packet = _with_checksum(packet, source.packed + destination.packed)
    return Origin(domain, record.vsid, passage.frame.source, None, passage.interface.mtu), packet


def leave(passage: Passage, domain: Domain, packet: Packet, record: Record) -> Packet:
    """The packet with provider addresses in place of customer addresses."""
    source = domain.records.get(packet.source)
    if source is None or source.encapsulation != "rewrite":
        passage.note("rewrite", domain.entry, f"{packet.source} has no rewrite record to be sent as.")
        raise dropped(DropReason.REWRITE_NO_SOURCE)
    words = (
        f"{packet.source} becomes {source.provider_address} and {packet.destination} becomes {record.provider_address}."
    )
    passage.note("rewrite", source.entry, words)
    data = _with_addresses(packet.data, source.provider_address, record.provider_address)
    rewritten = replace(packet, data=data, source=source.provider_address, destination=record.provider_address)
    return _with_checksum(rewritten, packet.source.packed + packet.destination.packed)


def _with_addresses(data: bytes, source: Address, destination: Address) -> bytes:
    new = source.packed + destination.packed
    if source.version == 6:
        return data[:8] + new + data[40:]
    (current,) = struct.unpack_from("!H", data, 10)
    return data[:10] + struct.pack("!H", updated(current, data[12:20], new)) + new + data[20:]


def _with_checksum(packet: Packet, old_addresses: bytes) -> Packet:
    """The packet's transport checksum follows its addresses; a UDP checksum of zero means none and stays (RFC 768)."""
    offset = CHECKSUM_OFFSETS.get(packet.protocol)
    if packet.fragment_offset or offset is None or (packet.protocol == ICMPV6 and packet.version == 4):
        return packet
    at = packet.transport + offset
    if packet.length < at + 2:
        return packet
    (current,) = struct.unpack_from("!H", packet.data, at)
    if packet.protocol == UDP and current == 0:
        return packet
    new = updated(current, old_addresses, packet.source.packed + packet.destination.packed)
    if packet.protocol == UDP and new == 0:
        new = 0xFFFF
    return replace(packet, data=packet.data[:at] + struct.pack("!H", new) + packet.data[at + 2 :])
