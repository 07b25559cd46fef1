"""ICMP errors about packets that were translated: each goes to the machine whose packet it quotes as that sent it."""

from gateway.datapath.model.balancing import Frontend, Member, PublicAddress, Rule
from gateway.datapath.model.course import Course, translated, translated_error
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ip import Address, Packet, quoted
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.rewriting import End, destination_end, source_end
from gateway.datapath.model.translation import (
    Ends,
    Translation,
    balanced_key,
    remembered_member,
    remote_hash,
)
from gateway.datapath.model.verdict import DropReason, dropped


def to_frontend(passage: Passage, origin: Origin, packet: Packet, frontend: Frontend) -> Course:
    """Raises the drop of an error that is about no connection."""
    quote = quoted(packet)
    course = None
    if quote is not None and quote.source == frontend.address:
        course = _about_answer(passage, origin, packet, quote) or _about_nat_port(passage, origin, packet, quote)
    if course is None:
        passage.note("balance", frontend.entry, "The ICMP error is about no connection of this frontend.")
        raise dropped(DropReason.VIP_NOT_SERVED)
    return course


def _about_answer(passage: Passage, origin: Origin, packet: Packet, quote: Packet) -> Course | None:
    """About what a machine answered to its client, as the frontend."""
    rule = origin.domain.services.rules.get((quote.source, quote.protocol, quote.source_port))
    if rule is None:
        return None
    client = destination_end(quote)
    entry = passage.state.translations.live(balanced_key(origin.domain, rule, client), passage.now)
    member = remembered_member(rule, entry) if entry else None
    if entry is None or member is None:
        return None
    machine = End(member.address, rule.member_port)
    viewed = End(packet.source, 0), End(member.address, 0)
    if rule.is_floating:
        came = End(packet.source, 0), End(packet.destination, 0)
        ends, sent_quote = Ends(rule.entry, viewed, came, by_internet=False), (source_end(quote), client)
    else:
        ends = Ends(rule.entry, viewed, viewed, by_internet=False)
        sent_quote = machine, End(rule.frontend.address, entry.nat_port) if entry.nat_port else client
    return translated_error(passage, origin, packet, ends, quote, (machine, client), sent_quote)


def _about_nat_port(passage: Passage, origin: Origin, packet: Packet, quote: Packet) -> Course | None:
    """About what left with a port of the frontend in place of its own."""
    domain, now = origin.domain, passage.now
    entry = passage.state.translations.by_nat_port(domain, quote.version, quote.protocol, quote.source_port, now)
    if entry is None or entry.key.frontend != quote.source:
        return None
    if entry.member is not None:
        return _about_question_inside(passage, origin, packet, quote, entry)
    client = entry.key.client
    if remote_hash(destination_end(quote), quote.protocol) != entry.key.remote:
        return None
    between = client, End(quote.destination, client.port if quote.is_echo else quote.destination_port)
    outer = End(packet.source, 0), End(client.address, 0)
    frontend = domain.services.frontends[quote.source]
    ends = Ends(frontend.entry, outer, outer, by_internet=False)
    return translated_error(passage, origin, packet, ends, quote, between, between)


def _about_question_inside(
    passage: Passage, origin: Origin, packet: Packet, quote: Packet, entry: Translation
) -> Course | None:
    """About what a client inside sent to a frontend and the gateway, as the frontend, to a member."""
    rule = origin.domain.services.rules.get((quote.source, quote.protocol, entry.key.port))
    member = remembered_member(rule, entry) if rule else None
    if rule is None or member is None or destination_end(quote) != End(member.address, rule.member_port):
        return None
    client = entry.key.client
    to_client = End(client.address, 0)
    ends = Ends(
        rule.entry,
        (End(packet.source, 0), to_client),
        (_error_source(packet, rule, member), to_client),
        by_internet=False,
    )
    asked = client, End(rule.frontend.address, rule.port)
    return translated_error(passage, origin, packet, ends, quote, (client, destination_end(quote)), asked)


def from_overlay(passage: Passage, origin: Origin, packet: Packet) -> Course | None:
    """An error about a client's packet that was balanced; None where it is about none."""
    quote = quoted(packet)
    found = _question(passage, origin.domain, quote) if quote is not None else None
    if quote is None or found is None:
        return None
    rule, member = found
    destination = End(packet.destination, 0)
    ends = Ends(
        rule.entry,
        (End(packet.source, 0), destination),
        (_error_source(packet, rule, member), destination),
        by_internet=rule.frontend.is_public,
    )
    passage.note("balance", rule.entry, f"The ICMP error is about a connection that {member.address} has.")
    viewed = source_end(quote), destination_end(quote)
    asked = source_end(quote), End(rule.frontend.address, rule.port)
    return translated_error(passage, origin, packet, ends, quote, viewed, asked)


def _question(passage: Passage, domain: Domain, quote: Packet) -> tuple[Rule, Member] | None:
    candidates = domain.services.rules_of_member(quote.destination, quote.protocol, quote.destination_port)
    for rule, member in candidates:
        entry = passage.state.translations.live(balanced_key(domain, rule, source_end(quote)), passage.now)
        if entry is not None and entry.is_direct_to(member) and not rule.is_floating:
            return rule, member
    return None


def _error_source(packet: Packet, rule: Rule, member: Member) -> End:
    """Whom the error comes from: nobody outside is told of a router or a machine inside."""
    is_hidden = packet.source == member.address or rule.frontend.is_public
    return End(rule.frontend.address if is_hidden else packet.source, 0)


def to_public_address(passage: Passage, origin: Origin, packet: Packet, public: PublicAddress) -> Course:
    outer = End(packet.source, 0), End(public.customer_address, 0)
    ends = Ends(public.entry, outer, outer, by_internet=False)
    quote = quoted(packet)
    if quote is None or quote.source != public.address:
        return translated(passage, origin, packet, ends)
    between = End(public.customer_address, quote.source_port), destination_end(quote)
    return translated_error(passage, origin, packet, ends, quote, between, between)


def from_public_address(passage: Passage, origin: Origin, packet: Packet, public: PublicAddress) -> Course:
    ends = Ends(
        public.entry, (End(packet.source, 0), End(packet.destination, 0)), _as(packet, public.address), by_internet=True
    )
    quote = quoted(packet)
    if quote is None or quote.destination != public.customer_address:
        return translated(passage, origin, packet, ends)
    viewed = source_end(quote), destination_end(quote)
    asked = source_end(quote), End(public.address, quote.destination_port)
    return translated_error(passage, origin, packet, ends, quote, viewed, asked)


def _as(packet: Packet, source: Address) -> tuple[End, End]:
    return End(source, 0), End(packet.destination, 0)
