"""Public addresses that several routing domains lend ports of: the port tells whose a packet from the Internet is."""

from collections.abc import Iterable

from gateway.datapath.model.answers import echo_reply, not_served
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ip import Address, Packet, quoted
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.verdict import DropReason, dropped
from gateway.policy.lending import block_of, ports_of


def owners_of(domains: Iterable[Domain]) -> tuple[dict[Address, Domain], dict[Address, tuple[tuple[Domain, int], ...]]]:
    """Whose each public address is: those of one domain, and those that several share."""
    holders: dict[Address, list[tuple[Domain, int]]] = {}
    for domain in domains:
        for address, blocks in domain.services.public_addresses():
            holders.setdefault(address, []).append((domain, blocks))
    owners = {address: each[0][0] for address, each in holders.items() if len(each) == 1}
    return owners, {address: tuple(each) for address, each in holders.items() if len(each) > 1}


def lender(passage: Passage, origin: Origin, packet: Packet) -> Domain | None:
    """The domain of the port, or of the first fragment; None where the address is not shared.

    Raises the gateway's answer, or the drop of what is nobody's.
    """
    sharers = passage.sharers.get(packet.destination)
    if sharers is None:
        return None
    passage.note("frontend", origin.domain.entry, f"{packet.destination} is shared by its ports.")
    if packet.is_echo_request:
        raise echo_reply(passage, origin, packet)
    if packet.fragment_offset:
        seen = [one for one, _ in sharers if passage.state.translations.first_of(one, packet, passage.now)]
        if len(seen) == 1:
            passage.note("frontend", seen[0].entry, f"{seen[0].source.name} has the first fragment of the packet.")
            return seen[0]
        words = "Several domains have" if seen else "No domain has"
        passage.note("frontend", origin.domain.entry, f"{words} seen a first fragment of the packet.")
        raise dropped(DropReason.FRAGMENT_UNMATCHED)
    port = _port(packet)
    for domain, blocks in sharers:
        if blocks & block_of(port):
            words = f"Port {port} is one of {domain.source.name}'s, {ports_of(blocks)}."
            passage.note("frontend", domain.entry, words)
            return domain
    passage.note("frontend", origin.domain.entry, f"Port {port} is lent by no domain.")
    raise not_served(passage, origin, packet)


def _port(packet: Packet) -> int:
    """The port at the shared address: of what an ICMP error quotes, and of an echo its identifier; 0: none."""
    if not packet.is_icmp_error:
        return packet.destination_port
    quote = quoted(packet)
    return quote.source_port if quote is not None else 0
