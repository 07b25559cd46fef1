"""Packets of machines that leave under another address: answers of frontends, and what is outbound."""

from gateway.datapath.model import icmp_errors, lookup, ordering
from gateway.datapath.model.balancing import Member, PublicAddress, Rule
from gateway.datapath.model.course import Course, of_connection, of_later_fragment, translated
from gateway.datapath.model.ip import TCP, UDP, Packet
from gateway.datapath.model.lending import Outbound
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.rewriting import Between, End, destination_end, source_end
from gateway.datapath.model.translation import (
    OUTBOUND,
    OUTBOUND_SECONDS,
    Key,
    Translation,
    View,
    Way,
    balanced_key,
    outbound_key,
    way_by,
)
from gateway.datapath.model.verdict import DropReason, dropped


def from_overlay(passage: Passage, origin: Origin, packet: Packet) -> Course | None:
    """The course of a packet that is translated, None where it is routed as it is; raises the drop of others."""
    is_unrouted = lookup.is_unrouted(passage, origin.domain, packet.destination)
    if packet.is_icmp_error:
        course = icmp_errors.from_overlay(passage, origin, packet, is_unrouted=is_unrouted)
    else:
        course = _of_connection(passage, origin, packet)
    if course is not None:
        return course
    if not is_unrouted:
        _remember_ordinary(passage, origin, packet)
        return None
    passage.note("route", origin.domain.entry, f"{origin.domain.source.name} has no route to {packet.destination}.")
    return None if packet.is_icmp_error else _unrouted(passage, origin, packet)


def _may_answer(origin: Origin, packet: Packet) -> bool:
    """Whether the packet is of a machine and a protocol that rules lead to."""
    return origin.domain.services.leads_to(packet.source, packet.protocol)


def _remember_ordinary(passage: Passage, origin: Origin, packet: Packet) -> None:
    """Later fragments of a machine that may answer for a frontend have to know that their first one did not."""
    if packet.is_first_fragment and _may_answer(origin, packet):
        passage.state.translations.remember_ordinary_first(origin.domain, packet, passage.now)


def _of_connection(passage: Passage, origin: Origin, packet: Packet) -> Course | None:
    if not packet.fragment_offset and not _may_answer(origin, packet):
        return None
    ordering.join_overtaken(passage, origin, packet, by_internet=False)
    if packet.fragment_offset:
        return _of_later_fragment(passage, origin, packet)
    found = _answering(passage, origin, packet)
    if found is None:
        return None
    rule, member, entry = found
    entry.touch(packet, passage.now, is_answer=True)
    passage.note("balance", rule.entry, f"{member.address} answers on a connection of the rule {rule.name}.")
    return _answer(passage, origin, packet, rule)


def _of_later_fragment(passage: Passage, origin: Origin, packet: Packet) -> Course | None:
    """The course of the packet's first fragment; None where that was not translated, as it cannot have been."""
    first = passage.state.translations.first_of(origin.domain, packet, passage.now)
    if first is not None:
        return of_later_fragment(passage, origin, packet, first)
    if _may_answer(origin, packet):
        raise ordering.overtaken(passage, origin, packet, origin.domain.entry, by_internet=False)
    return None


def _answering(passage: Passage, origin: Origin, packet: Packet) -> tuple[Rule, Member, Translation] | None:
    domain = origin.domain
    candidates = domain.services.rules_of_member(packet.source, packet.protocol, packet.source_port)
    for rule, member in candidates:
        entry = passage.state.translations.live(balanced_key(domain, rule, destination_end(packet)), passage.now)
        if entry is not None and entry.is_direct_to(member):
            return rule, member, entry
    return None


def _answer(passage: Passage, origin: Origin, packet: Packet, rule: Rule) -> Course:
    view = View(rule.entry, (source_end(packet), destination_end(packet)), by_internet=rule.frontend.is_public)
    sent = End(rule.frontend.address, rule.port), destination_end(packet)
    return of_connection(passage, origin, packet, way_by(rule), view, lambda: sent)


def _unrouted(passage: Passage, origin: Origin, packet: Packet) -> Course | None:
    rule = _only_rule(origin, packet)
    if rule is not None:
        passage.note("balance", rule.entry, f"Nothing is remembered of it; only the rule {rule.name} leads there.")
        return _answer(passage, origin, packet, rule)
    public = origin.domain.services.senders.get(packet.source)
    if public is not None:
        return _from_public_address(passage, origin, packet, public)
    outbound = origin.domain.services.outbound_of(origin.vsid, packet.source)
    return None if outbound is None else _outbound(passage, origin, packet, outbound)


def _only_rule(origin: Origin, packet: Packet) -> Rule | None:
    """The public rule that leads to the port that the packet comes from, if there is exactly one."""
    if packet.fragment_offset:
        return None
    leading = origin.domain.services.rules_of_member(packet.source, packet.protocol, packet.source_port)
    rules = [rule for rule, _ in leading if rule.frontend.is_public]
    return rules[0] if len(rules) == 1 else None


def _from_public_address(passage: Passage, origin: Origin, packet: Packet, public: PublicAddress) -> Course:
    _remember_ordinary(passage, origin, packet)
    passage.note("translate", public.entry, f"{packet.source} reaches the Internet as {public.address}.")
    view = View(public.entry, (source_end(packet), destination_end(packet)), by_internet=True)
    sent = End(public.address, packet.source_port), destination_end(packet)
    return translated(passage, origin, packet, view, sent)


def _outbound(passage: Passage, origin: Origin, packet: Packet, outbound: Outbound) -> Course:
    if packet.fragment_offset:
        raise ordering.overtaken(passage, origin, packet, outbound.entry, by_internet=False)
    if packet.protocol not in (TCP, UDP) and not packet.asks_for_echo:
        passage.note("translate", outbound.entry, "It has no ports by which an answer would find back.")
        raise dropped(DropReason.NOT_TRANSLATABLE)
    ordering.join_overtaken(passage, origin, packet, by_internet=False)
    passage.note("translate", outbound.entry, outbound.words)
    ends = source_end(packet), destination_end(packet)
    key = outbound_key(origin.domain, outbound, ends[0], packet.protocol, ends[1])
    _forget_unless_lent(passage, outbound, key)

    def connect() -> Between:
        entry = passage.state.translations.live(key, passage.now) or _begin(passage, origin, outbound, key)
        entry.touch(packet, passage.now, is_answer=False)
        remote = End(packet.destination, entry.nat_port if packet.is_echo else packet.destination_port)
        return End(outbound.address, entry.nat_port), remote

    way = Way(outbound.address, OUTBOUND, outbound.vsid, customers=outbound.customers)
    view = View(outbound.entry, ends, by_internet=True)
    return of_connection(passage, origin, packet, way, view, connect)


def _forget_unless_lent(passage: Passage, outbound: Outbound, key: Key) -> None:
    """A connection whose port is not lent there any more begins anew."""
    entry = passage.state.translations.entries.get(key)
    if entry is not None and not outbound.lends(entry.nat_port):
        passage.note("translate", outbound.entry, f"Its port {entry.nat_port} is not lent here any more.")
        del passage.state.translations.entries[key]


def _begin(passage: Passage, origin: Origin, outbound: Outbound, key: Key) -> Translation:
    translations = passage.state.translations
    port = translations.free_port(origin.domain, key, passage.now, outbound.blocks)
    if port is None:
        passage.note("translate", outbound.entry, "All ports that may stand for the machine's are taken.")
        raise dropped(DropReason.NAT_EXHAUSTED)
    entry = Translation(key, None, port, OUTBOUND_SECONDS[key.protocol], passage.now)
    translations.entries[key] = entry
    return entry
