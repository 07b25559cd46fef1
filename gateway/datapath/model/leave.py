"""The way out: hairpins, access lists, MTU, and the frame that leaves."""

from ipaddress import ip_address

from gateway.datapath.model import ethernet, mss, neighbours, rewrite, tunnels
from gateway.datapath.model.access_lists import Side
from gateway.datapath.model.answers import TIME_EXCEEDED, TOO_BIG, refused
from gateway.datapath.model.checksum import store
from gateway.datapath.model.course import Course
from gateway.datapath.model.ethernet import Frame
from gateway.datapath.model.ip import Address, Packet
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.rewriting import lacks_checksum
from gateway.datapath.model.routes import Exit, Record, Turn
from gateway.datapath.model.surroundings import UnderlayHop
from gateway.datapath.model.tunnels import Tunnel
from gateway.datapath.model.verdict import Action, DecidedError, DropReason, dropped

VXLAN_FIRST_SOURCE_PORT = 49152


def leave(
    passage: Passage, origin: Origin, course: Course, target: Record | Exit, flow_hash: int, *, is_routed: bool = True
) -> DecidedError:
    """The frame that leaves; raises the drop of what may not or cannot."""
    _refuse_expired(passage, origin, course)
    if is_routed and not course.is_translated:
        _refuse_hairpin(passage, origin, target)
    packet = course.settle()
    _ask_access_lists(passage, origin, course.viewed, target)
    if isinstance(target, Exit):
        _protect_hosts(passage, packet, target)
    limit = _limit(passage, target)
    if limit is not None and packet.length > limit:
        passage.note("leave", _entry(target), f"Its {packet.length} bytes exceed the {limit} that fit there.")
        raise refused(passage, origin, course.came, DropReason.TOO_BIG, TOO_BIG, mtu=limit)
    leaving = _send(passage, origin, packet, target, flow_hash)
    _refuse_cut_off(passage, course, packet)
    return leaving


def turn(passage: Passage, origin: Origin, course: Course, target: Turn) -> tuple[Origin, Packet]:
    """What would leave to the Internet, as it comes in from there; raises the drop of what may not leave.

    It is no hop: the gateway stays one router on the way.
    """
    _refuse_expired(passage, origin, course)
    packet = course.settle()
    _ask_access_lists(passage, origin, course.viewed, target)
    _refuse_cut_off(passage, course, packet)
    internet = passage.domain = course.domain
    passage.note("admit", internet.entry, f"It comes in as a packet of {packet.source} from the Internet.")
    return Origin(internet, None, origin.source_mac, None, origin.limit, turned=(origin, course.came)), packet


def _refuse_expired(passage: Passage, origin: Origin, course: Course) -> None:
    if course.came.ttl <= 1:
        passage.note("route", "", f"Its TTL is {course.came.ttl}.")
        raise refused(passage, origin, course.came, DropReason.TTL_EXCEEDED, TIME_EXCEEDED)


def _refuse_cut_off(passage: Passage, course: Course, packet: Packet) -> None:
    if packet.data != course.came.data and lacks_checksum(packet):
        passage.note("translate", "", "It is cut off before its checksum, which would have to follow.")
        raise dropped(DropReason.MALFORMED)


def _send(passage: Passage, origin: Origin, packet: Packet, target: Record | Exit, flow_hash: int) -> DecidedError:
    if isinstance(target, Exit):
        return _to_external(passage, origin, packet, target)
    if target.encapsulation == "rewrite":
        return _to_rewrite(passage, origin, packet, target)
    return _to_overlay(passage, origin, packet, target, flow_hash)


def _entry(target: Record | Exit) -> str:
    return target.entry if isinstance(target, Record) else target.connection.entry


def _refuse_hairpin(passage: Passage, origin: Origin, target: Record | Exit) -> None:
    here = passage.attachment
    if isinstance(target, Record):
        is_hairpin = target.vsid == origin.vsid and target.mac == origin.source_mac
    else:
        connection = target.connection
        is_hairpin = not origin.is_overlay and (connection.interface, connection.vlan) == (here.interface, here.vlan)
    if is_hairpin:
        passage.note("route", "", "It would go back to where it came from.")
        raise dropped(DropReason.HAIRPIN)


def _ask_access_lists(passage: Passage, origin: Origin, packet: Packet, target: Record | Exit | Turn) -> None:
    domain = origin.domain
    if not any(access_list.list.applies_to for access_list in domain.access_lists):
        return
    sender = receiver = Side()
    if origin.is_overlay:
        sender = Side(origin.vsid, packet.source if packet.source in domain.records else None)
    if isinstance(target, Record):
        receiver = Side(target.vsid, None if target.customer_address.is_unspecified else target.customer_address)
    if _is_probe(passage, origin, packet, target):
        passage.note("access lists", domain.entry, "It is a probe's, of which no list is asked.")
        return
    opinion = passage.state.connections.ask(domain, packet, sender, receiver, passage.now)
    passage.note("access lists", opinion.entry, opinion.words)
    if opinion.denied is not None:
        raise dropped(opinion.denied)


def _is_probe(passage: Passage, origin: Origin, packet: Packet, target: Record | Exit | Turn) -> bool:
    """Whether it is between the compartment, by one of the gateway's own addresses there, and what it probes."""
    inside = origin.domain.inside
    if inside is None:
        return False
    if target == inside.exit:
        return packet.destination in inside.addresses
    comes_from_it = passage.interface.name == inside.exit.connection.interface
    return comes_from_it and packet.source in inside.addresses


def _protect_hosts(passage: Passage, packet: Packet, target: Exit) -> None:
    """Hosts take what comes from their network for what a host or gateway says.

    Where CorpNet is on the same link, no tenant may send a tunnel of its own making, nor anything to a provider
    address, since a rewritten packet has no other mark.
    """
    connection = target.connection
    if (connection.interface, connection.vlan) not in passage.surroundings.provider_links:
        return
    if tunnels.is_tunnel(packet):
        words = "It is a tunnel, which hosts on that link would take for another host's."
    elif _is_provider_address(passage, packet.destination):
        words = f"{packet.destination} is a provider address: hosts on that link would take it for rewritten."
    else:
        return
    passage.note("leave", connection.entry, words)
    raise dropped(DropReason.MARTIAN_DESTINATION)


def _is_provider_address(passage: Passage, address: Address) -> bool:
    own = passage.surroundings.provider_addresses
    return address in own or any(address in domain.admitted for domain in passage.domains)


def _limit(passage: Passage, target: Record | Exit) -> int | None:
    """The longest IP packet that may leave there; None while the way is not resolved."""
    if isinstance(target, Exit):
        return passage.surroundings.interfaces[target.connection.interface].mtu
    hop = passage.surroundings.underlay.get(target.provider_address)
    if hop is None:
        return None
    if target.encapsulation == "rewrite":
        return hop.mtu
    return hop.mtu - tunnels.overhead(target.encapsulation, target.provider_address.version)


def _underlay_hop(passage: Passage, record: Record) -> UnderlayHop:
    hop = passage.surroundings.underlay.get(record.provider_address)
    if hop is None:
        passage.note("leave", record.entry, f"The provider network's way to {record.provider_address} is not resolved.")
        raise dropped(DropReason.UNDERLAY_UNRESOLVED)
    return hop


def _routed(origin: Origin, packet: Packet, egress_limit: int) -> bytes:
    """The packet's bytes one hop further: TTL, congestion mark and MSS."""
    data = bytearray(packet.data)
    if packet.version == 4:
        if data[1] != packet.traffic_class:
            store(data, 1, bytes([packet.traffic_class]), 10)
        store(data, 8, bytes([packet.ttl - 1]), 10)
    else:
        data[0] = 6 << 4 | packet.traffic_class >> 4
        data[1] = packet.traffic_class << 4 & 0xF0 | data[1] & 0x0F
        data[7] = packet.ttl - 1
    mss.clamp(data, packet, min(origin.limit, egress_limit))
    return bytes(data)


def _forwarded(
    passage: Passage, interface: str, vlan: int, destination_mac: bytes, kind: int, data: bytes
) -> DecidedError:
    source_mac = passage.surroundings.interfaces[interface].mac_bytes
    frame = Frame(destination_mac, source_mac, ethernet.tag(vlan), kind, data).build()
    return DecidedError(Action.FORWARDED, interface=interface, frame=frame)


def _ethernet_type(packet: Packet) -> int:
    return ethernet.IPV4 if packet.version == 4 else ethernet.IPV6


def _to_external(passage: Passage, origin: Origin, packet: Packet, target: Exit) -> DecidedError:
    connection = target.connection
    neighbour = target.next_hop or packet.destination
    mac = neighbours.external_mac(passage, target, neighbour)
    limit = passage.surroundings.interfaces[connection.interface].mtu
    way = connection.name if target.mac else f"{neighbour} at {ethernet.mac_text(mac)}"
    passage.note("leave", connection.entry, f"It leaves on {connection.interface} to {way}.")
    data = _routed(origin, packet, limit)
    return _forwarded(passage, connection.interface, connection.vlan, mac, _ethernet_type(packet), data)


def _to_rewrite(passage: Passage, origin: Origin, packet: Packet, record: Record) -> DecidedError:
    packet = rewrite.leave(passage, origin.domain, packet, record)
    hop = _underlay_hop(passage, record)
    passage.note("leave", record.entry, f"It leaves on {hop.interface} to {record.provider_address}.")
    data = _routed(origin, packet, hop.mtu)
    return _forwarded(
        passage, hop.interface, hop.vlan, ethernet.mac_bytes(hop.destination_mac), _ethernet_type(packet), data
    )


def _to_overlay(passage: Passage, origin: Origin, packet: Packet, record: Record, flow_hash: int) -> DecidedError:
    hop = _underlay_hop(passage, record)
    overhead = tunnels.overhead(record.encapsulation, record.provider_address.version)
    data = _routed(origin, packet, hop.mtu - overhead)
    inner = Frame(record.mac, passage.surroundings.router_mac, b"", _ethernet_type(packet), data).build()
    is_nvgre = record.encapsulation == "nvgre"
    tunnel = Tunnel(
        encapsulation=record.encapsulation,
        source=ip_address(hop.source),
        destination=record.provider_address,
        traffic_class=_outer_traffic_class(passage, packet),
        entropy=flow_hash & 0xFF if is_nvgre else VXLAN_FIRST_SOURCE_PORT + (flow_hash & 0x3FFF),
        vsid=record.vsid,
        inner=inner,
    )
    kind, outer = tunnels.encapsulate(tunnel, flow_label=flow_hash & 0xFFFFF)
    words = f"{record.encapsulation.upper()} with VSID {record.vsid} from {hop.source} to {record.provider_address}."
    passage.note("encapsulate", record.entry, words)
    passage.note("leave", "", f"It leaves on {hop.interface} to {hop.destination_mac}.")
    return _forwarded(passage, hop.interface, hop.vlan, ethernet.mac_bytes(hop.destination_mac), kind, outer)


def _outer_traffic_class(passage: Passage, packet: Packet) -> int:
    """ECN is copied (RFC 6040, section 4.1); DSCP too in the uniform model (RFC 2983)."""
    if passage.surroundings.dscp == "uniform":
        return packet.traffic_class
    return packet.traffic_class & 0x03
