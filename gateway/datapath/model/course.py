"""A packet as it came, as routes and access lists see it, and how it becomes what is sent."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ip import Packet
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.rewriting import Between, End, rewritten, seen_as, with_quote
from gateway.datapath.model.translation import First, View, Way
from gateway.datapath.model.verdict import DropReason, dropped


@dataclass(frozen=True, slots=True)
class Course:
    """What is to be routed by the routes of `domain`. `viewed` is between a client and a machine behind a frontend.

    `settle` makes what is sent once the way there is known: only then is a connection made, and a port taken.
    """

    came: Packet
    viewed: Packet
    domain: Domain
    is_translated: bool
    settle: Callable[[], Packet]


def untranslated(packet: Packet, domain: Domain) -> Course:
    return Course(packet, packet, domain, is_translated=False, settle=lambda: packet)


def translated(passage: Passage, origin: Origin, packet: Packet, view: View, sent: Between) -> Course:
    """The course of a packet that nothing is remembered of."""

    def settle() -> Packet:
        passage.note("translate", view.entry, _changes(packet, sent))
        return rewritten(packet, *sent)

    return _translated(passage, origin, packet, view, settle)


def of_later_fragment(passage: Passage, origin: Origin, packet: Packet, first: First) -> Course | None:
    """The course that the packet's first fragment took, None where that was not translated.

    Raises the drop where it can be taken no more: nothing of a packet goes another way than the rest.
    """
    followed = first.followed
    if followed is None:
        return None
    if not followed.way.stands(origin.domain.services):
        passage.note("balance", "", "The rule or the machine that the first fragment of the packet went by is gone.")
        raise dropped(DropReason.FRAGMENT_UNMATCHED)
    return translated(passage, origin, packet, followed.view, followed.sent)


def of_connection(
    passage: Passage, origin: Origin, packet: Packet, way: Way, view: View, connect: Callable[[], Between]
) -> Course:
    """The course of a packet of a connection; `connect` brings it about. Later fragments will follow the first."""

    def settle() -> Packet:
        sent = connect()
        if packet.more_fragments:
            passage.state.translations.remember_first(origin.domain, packet, way, view, sent, passage.now)
        passage.note("translate", view.entry, _changes(packet, sent))
        return rewritten(packet, *sent)

    return _translated(passage, origin, packet, view, settle)


def _translated(passage: Passage, origin: Origin, packet: Packet, view: View, settle: Callable[[], Packet]) -> Course:
    domain = _routes(passage, origin, view.by_internet)
    return Course(packet, seen_as(packet, *view.ends), domain, is_translated=True, settle=settle)


def translated_error(
    passage: Passage,
    origin: Origin,
    packet: Packet,
    view: View,
    sent: Between,
    quote: Packet,
    viewed_quote: Between,
    sent_quote: Between,
) -> Course:
    """The course of an ICMP error, the packet that it quotes translated back."""

    def settle() -> Packet:
        passage.note("translate", view.entry, f"{_changes(packet, sent)} Quoted: {_changes(quote, sent_quote)}")
        return with_quote(rewritten(packet, *sent), rewritten(quote, *sent_quote))

    return Course(
        came=packet,
        viewed=with_quote(rewritten(packet, *view.ends), rewritten(quote, *viewed_quote)),
        domain=_routes(passage, origin, view.by_internet),
        is_translated=True,
        settle=settle,
    )


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
