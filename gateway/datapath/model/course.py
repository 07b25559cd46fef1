"""A packet as it came, as routes and access lists see it, and as it will be sent."""

from dataclasses import dataclass

from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ip import Packet
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.rewriting import End, rewritten, seen_as, with_quote
from gateway.datapath.model.translation import Ends

Between = tuple[End, End]


@dataclass(frozen=True, slots=True)
class Course:
    """What is to be routed by the routes of `domain`. `viewed` is between a client and a machine behind a frontend."""

    came: Packet
    viewed: Packet
    sent: Packet
    domain: Domain
    is_translated: bool


def untranslated(packet: Packet, domain: Domain) -> Course:
    return Course(packet, packet, packet, domain, is_translated=False)


def translated(passage: Passage, origin: Origin, packet: Packet, ends: Ends) -> Course:
    passage.note("translate", ends.entry, _changes(packet, ends.sent))
    return Course(
        came=packet,
        viewed=seen_as(packet, *ends.viewed),
        sent=rewritten(packet, *ends.sent),
        domain=_routes(passage, origin, ends.by_internet),
        is_translated=True,
    )


def translated_error(
    passage: Passage,
    origin: Origin,
    packet: Packet,
    ends: Ends,
    quote: Packet,
    viewed_quote: Between,
    sent_quote: Between,
) -> Course:
    """The course of an ICMP error, the packet that it quotes translated back."""
    passage.note("translate", ends.entry, f"{_changes(packet, ends.sent)} Quoted: {_changes(quote, sent_quote)}")
    return Course(
        came=packet,
        viewed=with_quote(rewritten(packet, *ends.viewed), rewritten(quote, *viewed_quote)),
        sent=with_quote(rewritten(packet, *ends.sent), rewritten(quote, *sent_quote)),
        domain=_routes(passage, origin, ends.by_internet),
        is_translated=True,
    )


def by_internet(passage: Passage, origin: Origin, packet: Packet) -> Course:
    """The course of a packet that needs no translation to leave to the Internet."""
    return Course(packet, packet, packet, _routes(passage, origin, True), is_translated=True)


def _routes(passage: Passage, origin: Origin, is_internet: bool) -> Domain:
    return passage.internet if is_internet and passage.internet is not None else origin.domain


def _changes(packet: Packet, sent: Between) -> str:
    ends = (("source", packet.source, packet.source_port), ("destination", packet.destination, packet.destination_port))
    changed = [
        f"its {name} {_words(End(address, port))} becomes {_words(new)}"
        for (name, address, port), new in zip(ends, sent, strict=True)
        if (address, port) != new
    ]
    return (" and ".join(changed) or "it keeps its addresses").capitalize() + "."


def _words(end: End) -> str:
    address = f"[{end.address}]" if end.address.version == 6 and end.port else str(end.address)
    return f"{address}:{end.port}" if end.port else address
