"""ICMP errors about packets that were translated: each goes to the machine whose packet it quotes as that sent it."""

from gateway.datapath.model.balancing import Frontend, Member, PublicAddress, Rule
from gateway.datapath.model.course import Course, translated, translated_error
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ip import Packet, quoted
from gateway.datapath.model.lending import Outbound
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.rewriting import Between, End, destination_end, source_end
from gateway.datapath.model.translation import (
    Translation,
    View,
    balanced_key,
    outbound_key,
    remembered_member,
    remote_hash,
)
from gateway.datapath.model.verdict import DropReason, dropped


def to_frontend(passage: Passage, origin: Origin, packet: Packet, frontend: Frontend) -> Course:
    """Raises the drop of an error that is about no connection."""
    quote = quoted(packet)
    course = None
    if quote is not None and quote.source == frontend.address:
        rule = origin.domain.services.rules.get((quote.source, quote.protocol, quote.source_port))
        about = _about_answer(passage, origin, packet, quote, rule) if rule else None
        course = about if rule else _about_nat_port(passage, origin, packet, quote, frontend)
    if course is None:
        passage.note("balance", frontend.entry, "The ICMP error is about no connection of this frontend.")
        raise dropped(DropReason.VIP_NOT_SERVED)
    return course


def _about_answer(passage: Passage, origin: Origin, packet: Packet, quote: Packet, rule: Rule) -> Course | None:
    """About what a machine answered to its client, as the frontend."""
    client = destination_end(quote)
    entry = passage.state.translations.live(balanced_key(origin.domain, rule, client), passage.now)
    member = remembered_member(rule, entry) if entry else None
    if entry is None or member is None:
        return None
    machine = End(member.address, rule.member_port)
    view = View(rule.entry, (End(packet.source, 0), End(member.address, 0)))
    if rule.is_floating:
        came = End(packet.source, 0), End(packet.destination, 0)
        as_quoted = source_end(quote), client
        return translated_error(passage, origin, packet, view, came, quote, (machine, client), as_quoted)
    asked = End(rule.frontend.address, entry.nat_port) if entry.nat_port else client
    return translated_error(passage, origin, packet, view, view.ends, quote, (machine, client), (machine, asked))


def _about_nat_port(
    passage: Passage, origin: Origin, packet: Packet, quote: Packet, frontend: Frontend
) -> Course | None:
    """About what left with a port of the frontend in place of its own."""
    domain, now = origin.domain, passage.now
    entry = passage.state.translations.by_nat_port(domain, quote.version, quote.protocol, quote.source_port, now)
    if entry is None or entry.key.frontend != frontend.address:
        return None
    if entry.member is not None:
        return _about_question_inside(passage, origin, packet, quote, entry)
    client = entry.key.client
    if not entry.way.stands(domain.services):
        return None
    if remote_hash(destination_end(quote), quote.protocol) != entry.key.remote:
        return None
    between = client, End(quote.destination, client.port if quote.is_echo else quote.destination_port)
    outer = End(packet.source, 0), End(client.address, 0)
    return translated_error(passage, origin, packet, View(frontend.entry, outer), outer, quote, between, between)


def _about_question_inside(
    passage: Passage, origin: Origin, packet: Packet, quote: Packet, entry: Translation
) -> Course | None:
    """About what a client inside sent to a frontend and the gateway, as the frontend, to a member."""
    rule = origin.domain.services.rules.get((quote.source, quote.protocol, entry.key.port_or_vsid))
    member = remembered_member(rule, entry) if rule else None
    machine = destination_end(quote)
    if rule is None or member is None or machine != End(member.address, rule.member_port):
        return None
    client, to_client = entry.key.client, End(entry.key.client.address, 0)
    view = View(rule.entry, (End(packet.source, 0), to_client))
    sent = _error_source(packet, rule, member), to_client
    asked = client, End(rule.frontend.address, rule.port)
    return translated_error(passage, origin, packet, view, sent, quote, (client, machine), asked)


def from_overlay(passage: Passage, origin: Origin, packet: Packet, *, is_unrouted: bool) -> Course | None:
    """An error about what a client, or somebody in the Internet, had sent; None where it is about none of these."""
    quote = quoted(packet)
    if quote is None:
        return None
    found = _question(passage, origin.domain, quote)
    if found is not None:
        return _about_question(passage, origin, packet, quote, *found)
    if not is_unrouted:
        return None
    public = origin.domain.services.senders.get(quote.destination)
    if public is not None:
        asked = End(public.address, quote.destination_port)
        return _as_frontend(passage, origin, packet, quote, public, asked)
    return _about_answer_outside(passage, origin, packet, quote)


def _question(passage: Passage, domain: Domain, quote: Packet) -> tuple[Rule, Member] | None:
    candidates = domain.services.rules_of_member(quote.destination, quote.protocol, quote.destination_port)
    for rule, member in candidates:
        entry = passage.state.translations.live(balanced_key(domain, rule, source_end(quote)), passage.now)
        if entry is not None and entry.is_direct_to(member):
            return rule, member
    return None


def _about_question(
    passage: Passage, origin: Origin, packet: Packet, quote: Packet, rule: Rule, member: Member
) -> Course:
    passage.note("balance", rule.entry, f"The ICMP error is about a connection that {member.address} has.")
    destination = End(packet.destination, 0)
    view = View(rule.entry, (End(packet.source, 0), destination), by_internet=rule.frontend.is_public)
    sent = _error_source(packet, rule, member), destination
    viewed_quote = source_end(quote), destination_end(quote)
    asked = destination_end(quote) if rule.is_floating else End(rule.frontend.address, rule.port)
    return translated_error(passage, origin, packet, view, sent, quote, viewed_quote, (source_end(quote), asked))


def _error_source(packet: Packet, rule: Rule, member: Member) -> End:
    """Whom the error comes from: nobody outside is told of a router or a machine inside."""
    is_hidden = packet.source == member.address or rule.frontend.is_public
    return End(rule.frontend.address if is_hidden else packet.source, 0)


def _about_answer_outside(passage: Passage, origin: Origin, packet: Packet, quote: Packet) -> Course | None:
    """About what somebody in the Internet answered to a machine that asked under another address."""
    outbound = origin.domain.services.outbound_of(origin.vsid, quote.destination)
    if outbound is None:
        return None
    client, remote = destination_end(quote), source_end(quote)
    entry = passage.state.translations.live(
        outbound_key(origin.domain, outbound, client, quote.protocol, remote), passage.now
    )
    if entry is None or not outbound.lends(entry.nat_port):
        return None
    return _as_frontend(passage, origin, packet, quote, outbound, End(outbound.address, entry.nat_port))


def _as_frontend(
    passage: Passage, origin: Origin, packet: Packet, quote: Packet, frontend: Outbound | PublicAddress, asked: End
) -> Course:
    """The error leaves to the Internet, about a packet for `asked`."""
    destination = End(packet.destination, 0)
    view = View(frontend.entry, (End(packet.source, 0), destination), by_internet=True)
    sent = End(frontend.address, 0), destination
    viewed_quote = source_end(quote), destination_end(quote)
    sender = End(quote.source, asked.port if quote.is_echo else quote.source_port)
    return translated_error(passage, origin, packet, view, sent, quote, viewed_quote, (sender, asked))


def to_public_address(passage: Passage, origin: Origin, packet: Packet, public: PublicAddress) -> Course:
    outer = End(packet.source, 0), End(public.customer_address, 0)
    view = View(public.entry, outer)
    quote = quoted(packet)
    if quote is None or quote.source != public.address:
        return translated(passage, origin, packet, view, outer)
    between: Between = End(public.customer_address, quote.source_port), destination_end(quote)
    return translated_error(passage, origin, packet, view, outer, quote, between, between)
