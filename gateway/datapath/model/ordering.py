"""Fragments that overtake their first one: Linux puts them in order, in a compartment of the domain's."""

from gateway.datapath.model import ethernet, ip, lookup
from gateway.datapath.model.checksum import store
from gateway.datapath.model.connections import FRAGMENT_SECONDS
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ethernet import Frame, mac_bytes
from gateway.datapath.model.ip import Packet
from gateway.datapath.model.passage import FRAGMENTS, Arrival, Origin, Passage
from gateway.datapath.model.verdict import Action, DecidedError, DropReason, dropped

IP_TYPES = (ethernet.IPV4, ethernet.IPV6)


def overtaken(passage: Passage, origin: Origin, packet: Packet, entry: str, *, by_internet: bool) -> DecidedError:
    """What becomes of a later fragment whose first one was not seen."""
    passage.note("balance", entry, "The first fragment of the packet was not seen.")
    if not _may_be_put_in_order(passage, origin):
        return dropped(DropReason.FRAGMENT_UNMATCHED)
    return _handed_over(passage, origin, packet, by_internet=by_internet)


def join_overtaken(passage: Passage, origin: Origin, packet: Packet, *, by_internet: bool) -> None:
    """Raise what becomes of any fragment where others between the same ends have overtaken their first one lately.

    Its number may be that of an earlier packet whose way is remembered: that says nothing of this one.
    """
    noted = packet.is_fragment and _arrival(passage, origin.domain, packet) is not None
    if noted and _may_be_put_in_order(passage, origin):
        raise _handed_over(passage, origin, packet, by_internet=by_internet)


def admit(passage: Passage) -> tuple[Origin, Packet]:
    """A fragment that has been put in order, with the origin that it had; raises the drop of all else from there."""
    frame, domain = passage.frame, passage.attachment.domain
    assert domain is not None  # whose leg it is
    passage.domain = domain
    if frame.type not in IP_TYPES:
        raise dropped(DropReason.FRAGMENT_UNMATCHED)
    packet = ip.parse(frame.type, frame.payload)
    arrival = _arrival(passage, domain, packet) if packet.is_fragment else None
    if arrival is None:
        passage.note("order", passage.attachment.entry, "No fragment of it went there to be put in order.")
        raise dropped(DropReason.FRAGMENT_UNMATCHED)
    packet = ip.parse(frame.type, _a_hop_back(packet))
    came_to = passage.internet if arrival.by_internet and passage.internet is not None else domain
    origin = Origin(came_to, arrival.vsid, frame.source, arrival.tunnel, arrival.limit)
    passage.note("order", passage.attachment.entry, "It was put in order, and goes on as it had arrived.")
    if not _is_served(passage, origin, packet):
        passage.domain = origin.domain
        raise dropped(DropReason.FRAGMENT_UNMATCHED)
    return origin, packet


def _arrival(passage: Passage, domain: Domain, packet: Packet) -> Arrival | None:
    seen, arrival = passage.state.arrivals.get((domain.id, packet.source, packet.destination), (passage.now, None))
    return arrival if passage.now - seen <= FRAGMENT_SECONDS else None


def _may_be_put_in_order(passage: Passage, origin: Origin) -> bool:
    if passage.attachment.is_for_fragments or origin.domain.id not in passage.surroundings.fragments_legs:
        return False
    return passage.may_spend(FRAGMENTS, origin.domain)


def _handed_over(passage: Passage, origin: Origin, packet: Packet, *, by_internet: bool) -> DecidedError:
    leg = passage.surroundings.fragments_legs[origin.domain.id]
    if packet.ttl <= 1:
        return dropped(DropReason.TTL_EXCEEDED)
    if packet.length > passage.surroundings.interfaces[leg.interface].mtu:
        return dropped(DropReason.TOO_BIG)
    if not packet.fragment_offset:
        passage.state.translations.forget_first(origin.domain, packet)
    arrival = Arrival(origin.vsid, origin.tunnel, by_internet, origin.limit)
    passage.state.arrivals[origin.domain.id, packet.source, packet.destination] = passage.now, arrival
    passage.note("order", origin.domain.entry, f"It goes out on {leg.interface}, to be put in order by Linux.")
    kind = ethernet.IPV4 if packet.version == 4 else ethernet.IPV6
    data = _with_congestion_mark(packet)
    frame = Frame(mac_bytes(leg.mac), passage.surroundings.router_mac, b"", kind, data).build()
    return DecidedError(Action.ORDERED, interface=leg.interface, frame=frame)


def _is_served(passage: Passage, origin: Origin, packet: Packet) -> bool:
    """Whether it is for a service of the domain whose leg it came back by, or may be of one."""
    if origin.domain is passage.internet:
        return passage.owners.get(packet.destination) is passage.attachment.domain
    services = origin.domain.services
    if packet.destination in services.internal():
        return True
    return (
        origin.tunnel is not None
        and bool(services)
        and (
            packet.fragment_offset != 0
            or services.translates(packet.source)
            or lookup.is_unrouted(passage, origin.domain, packet.destination)
        )
    )


def _with_congestion_mark(packet: Packet) -> bytes:
    data = bytearray(packet.data)
    if packet.version == 4:
        store(data, 1, bytes([packet.traffic_class]), 10)
    else:
        data[0] = 6 << 4 | packet.traffic_class >> 4
        data[1] = packet.traffic_class << 4 & 0xF0 | data[1] & 0x0F
    return bytes(data)


def _a_hop_back(packet: Packet) -> bytes:
    """Linux has counted a hop that is not over yet."""
    data = bytearray(packet.data)
    if packet.version == 4:
        store(data, 8, bytes([packet.ttl + 1]), 10)
    else:
        data[7] = packet.ttl + 1
    return bytes(data)
