"""Packets to an address that the gateway has for a routing domain: balanced, or answers to what it translated."""

from gateway.datapath.model import icmp_errors, ordering
from gateway.datapath.model.answers import echo_reply, not_served
from gateway.datapath.model.balancing import Frontend, Member, PublicAddress, Rule
from gateway.datapath.model.course import Course, of_connection, of_later_fragment, translated
from gateway.datapath.model.ip import Packet
from gateway.datapath.model.mss import SYN
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.rewriting import Between, End, destination_end, source_end
from gateway.datapath.model.translation import (
    Translation,
    View,
    balanced_key,
    remembered_member,
    remote_hash,
    way_by,
)
from gateway.datapath.model.verdict import DropReason, dropped

ACK = 0x10


def to_public_address(passage: Passage, origin: Origin, packet: Packet, public: PublicAddress) -> Course:
    """All packets of all protocols go to the one machine."""
    passage.note("frontend", public.entry, f"{public.address} belongs to {public.customer_address} alone.")
    if packet.is_icmp_error:
        return icmp_errors.to_public_address(passage, origin, packet, public)
    ends = source_end(packet), End(public.customer_address, packet.destination_port)
    return translated(passage, origin, packet, View(public.entry, ends), ends)


def to_frontend(passage: Passage, origin: Origin, packet: Packet, frontend: Frontend) -> Course:
    """Raises the gateway's answer, or the drop of what is not served."""
    passage.note("frontend", frontend.entry, f"{frontend.address} is the frontend {frontend.name}.")
    if packet.is_echo_request:
        raise dropped(DropReason.LOCAL_NOT_SERVED) if origin.is_rewrite else echo_reply(passage, origin, packet)
    if packet.is_icmp_error:
        return icmp_errors.to_frontend(passage, origin, packet, frontend)
    if packet.destination not in passage.sharers:
        ordering.join_overtaken(passage, origin, packet, by_internet=frontend.is_public)
    if packet.fragment_offset:
        first = passage.state.translations.first_of(origin.domain, packet, passage.now)
        course = of_later_fragment(passage, origin, packet, first) if first else None
        if course is None:
            raise ordering.overtaken(passage, origin, packet, frontend.entry, by_internet=frontend.is_public)
        return course
    rule = origin.domain.services.rules.get((frontend.address, packet.protocol, packet.destination_port))
    if rule is not None:
        return _to_member(passage, origin, packet, rule)
    return _to_client(passage, origin, packet, frontend)


def _not_served(passage: Passage, origin: Origin, packet: Packet, frontend: Frontend) -> Exception:
    passage.note("balance", frontend.entry, f"Nothing is served at port {packet.destination_port} for it.")
    return not_served(passage, origin, packet)


def _to_member(passage: Passage, origin: Origin, packet: Packet, rule: Rule) -> Course:
    client = source_end(packet)
    passage.note("balance", rule.entry, f"Port {rule.port} is that of the rule {rule.name}.")
    entry = passage.state.translations.live(balanced_key(origin.domain, rule, client), passage.now)
    kept = _kept_member(passage, packet, rule, entry)
    member = kept or _choose(passage, packet, rule)
    machine = End(member.address, rule.member_port)

    def connect() -> Between:
        connection = entry if entry and kept else _begin(passage, origin, packet, rule, member, entry)
        connection.touch(packet, passage.now, is_answer=False)
        port = connection.nat_port
        return (
            End(rule.frontend.address, port) if port else client,
            destination_end(packet) if rule.is_floating else machine,
        )

    return of_connection(passage, origin, packet, way_by(rule, member), View(rule.entry, (client, machine)), connect)


def _kept_member(passage: Passage, packet: Packet, rule: Rule, entry: Translation | None) -> Member | None:
    """The member that has the connection, None where one is to be chosen."""
    if entry is None:
        return None
    if entry.closing and packet.tcp_flags & (SYN | ACK) == SYN:
        passage.note("balance", rule.pool.entry, "The connection was closing, and a new one begins.")
        return None
    member = remembered_member(rule, entry)
    if member is None or not member.keeps_connections:
        passage.note("balance", rule.pool.entry, "The member that had the connection is gone.")
        return None
    passage.note("balance", rule.pool.entry, f"The connection is one that {member.address} has ({member.state}).")
    return member


def _choose(passage: Passage, packet: Packet, rule: Rule) -> Member:
    chosen = rule.pool.choose(rule.hash(packet))
    if chosen is None:
        passage.note("balance", rule.pool.entry, "No member takes new connections.")
        raise dropped(DropReason.NO_MEMBER)
    slot, member = chosen
    words = f"Slot {slot} of the pool, by the hash of the {rule.distribution.replace('_', '-')}, is {member.address}'s."
    passage.note("balance", rule.pool.entry, words)
    return member


def _begin(
    passage: Passage, origin: Origin, packet: Packet, rule: Rule, member: Member, replaced: Translation | None
) -> Translation:
    """A new connection; one with the same key that it replaces leaves its port to it."""
    translations = passage.state.translations
    key = balanced_key(origin.domain, rule, source_end(packet))
    nat_port: int | None = replaced.nat_port if replaced else 0
    if not nat_port and _needs_port(origin, rule, member):
        nat_port = translations.free_port(origin.domain, key, passage.now)
    if nat_port is None:
        passage.note("translate", rule.frontend.entry, "All ports that may stand for the client's are taken.")
        raise dropped(DropReason.NAT_EXHAUSTED)
    entry = Translation(key, (member.pool, member.number), nat_port, rule.idle_seconds, passage.now)
    translations.entries[key] = entry
    return entry


def _needs_port(origin: Origin, rule: Rule, member: Member) -> bool:
    """Whether the answer would bypass the gateway, and would not be the frontend's then.

    Hosts of a domain in external router mode send all that crosses virtual subnets to the gateway anyway.
    """
    if not origin.is_overlay or rule.is_floating:
        return False
    record = origin.domain.records.get(member.address)
    crosses = record is not None and record.vsid != origin.vsid
    return not (origin.domain.source.routing == "external_router" and crosses)


def _to_client(passage: Passage, origin: Origin, packet: Packet, frontend: Frontend) -> Course:
    """The course of an answer to a connection whose source was translated."""
    domain, port = origin.domain, packet.destination_port
    entry = passage.state.translations.by_nat_port(domain, packet.version, packet.protocol, port, passage.now)
    found = _answered(origin, packet, frontend, entry) if entry else None
    if entry is None or found is None:
        raise _not_served(passage, origin, packet, frontend)
    view, sent = found
    client = entry.key.client
    entry.touch(packet, passage.now, is_answer=True)
    passage.note("balance", frontend.entry, f"Port {port} stands for {client.address} port {client.port}.")
    return of_connection(passage, origin, packet, entry.way, view, lambda: sent)


def _answered(origin: Origin, packet: Packet, frontend: Frontend, entry: Translation) -> tuple[View, Between] | None:
    """The ends of the answer; None where it comes from another than was asked."""
    client = entry.key.client
    if entry.key.frontend != frontend.address:
        return None
    if entry.member is None:
        if not entry.way.stands(origin.domain.services):
            return None
        if remote_hash(source_end(packet), packet.protocol) != entry.key.remote:
            return None
        ends = End(packet.source, client.port if packet.is_echo else packet.source_port), client
        return View(frontend.entry, ends), ends
    rule = origin.domain.services.rules.get((frontend.address, packet.protocol, entry.key.port_or_vsid))
    member = remembered_member(rule, entry) if rule else None
    if rule is None or member is None or source_end(packet) != End(member.address, rule.member_port):
        return None
    return View(frontend.entry, (source_end(packet), client)), (End(frontend.address, rule.port), client)
