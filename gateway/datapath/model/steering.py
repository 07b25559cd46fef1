"""IKE and ESP to the ends of tunnels: by the peer's address to the compartment that expects it (RFC 7296, RFC 4303)."""

from gateway.datapath.model.answers import not_served
from gateway.datapath.model.ip import UDP, Address, Packet, quoted
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.routes import Exit

ESP = 50
IKE_PORTS = (500, 4500)


def of_peer(passage: Passage, origin: Origin, packet: Packet) -> Exit | None:
    """The way of what belongs to a tunnel; None for all that is not for an end of one, or for the router there.

    Raises the drop of what nobody expects.
    """
    peers = passage.steering.get(packet.destination) if origin.domain is passage.internet else None
    if peers is None:
        return None
    address = _peer_of(packet)
    peer = peers.get(address) if address else None
    if peer is not None:
        words = f"IKE and ESP of its peer belong to the tunnel {peer.tunnel}: to {peer.exit.connection.name}."
        passage.note("steer", peer.entry, words)
        return peer.exit
    if packet.destination in origin.domain.local:
        return None
    passage.note("steer", origin.domain.entry, f"{packet.destination} is an end of tunnels, and none expects it.")
    raise not_served(passage, origin, packet)


def _peer_of(packet: Packet) -> Address | None:
    """Who sent IKE or ESP, or was sent what an ICMP error is about: a router on the way is nobody's peer."""
    is_ike = packet.protocol == UDP and (packet.fragment_offset or packet.destination_port in IKE_PORTS)
    if is_ike or packet.protocol == ESP:
        return packet.source
    quote = quoted(packet) if packet.is_icmp_error else None
    if quote is None or quote.source != packet.destination:
        return None
    was_ike = quote.protocol == UDP and quote.source_port in IKE_PORTS
    return quote.destination if was_ike or quote.protocol == ESP else None
