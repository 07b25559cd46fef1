"""Which routing domain a packet belongs to: decided once, by where it came in."""

from gateway.datapath.model import ethernet, ip, neighbours, rewrite, tunnels
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ip import Packet
from gateway.datapath.model.passage import Origin, Passage
from gateway.datapath.model.tunnels import Tunnel
from gateway.datapath.model.verdict import DropReason, dropped, passed

VLAN_TYPES = (ethernet.VLAN, ethernet.PROVIDER_BRIDGING)
IP_TYPES = (ethernet.IPV4, ethernet.IPV6)


def admit(passage: Passage) -> tuple[Origin, Packet]:
    """The packet and its origin; raises what becomes of every other frame."""
    if passage.attachment.is_provider:
        outer = tunnels.parse_outer(passage.frame)
        if outer is not None:
            tunnel = tunnels.decapsulate(outer, passage.surroundings.provider_addresses)
            if tunnel is not None:
                return _from_overlay(passage, tunnel)
            if outer.destination in passage.surroundings.provider_addresses:
                return rewrite.admit(passage, outer.source, outer.destination)
    if passage.attachment.domain is None:
        passage.note("port", passage.attachment.entry, "Not a tunnel packet for us: it goes up to Linux untouched.")
        raise passed()
    return _from_external(passage, passage.attachment.domain)


def _from_overlay(passage: Passage, tunnel: Tunnel) -> tuple[Origin, Packet]:
    passage.note(
        "decapsulate",
        "",
        f"{tunnel.encapsulation.upper()} from {tunnel.source} to {tunnel.destination} with VSID {tunnel.vsid}.",
    )
    domain = next((domain for domain in passage.domains if tunnel.vsid in domain.subnets), None)
    if domain is None:
        passage.note("admit", "", f"VSID {tunnel.vsid} belongs to no routing domain.")
        raise dropped(DropReason.UNKNOWN_VSID)
    passage.domain = domain
    entry = domain.subnets[tunnel.vsid].entry
    if tunnel.source not in domain.admitted:
        passage.note("admit", domain.entry, f"{tunnel.source} is no provider address of {domain.source.name}'s hosts.")
        raise dropped(DropReason.SOURCE_NOT_ADMITTED)
    passage.note(
        "admit", entry, f"VSID {tunnel.vsid} belongs to {domain.source.name}, and {tunnel.source} is admitted."
    )
    inner = tunnel.inner
    origin = Origin(domain, tunnel.vsid, inner[6:12], tunnel, passage.interface.mtu - tunnel.overhead)
    return origin, _inner_packet(passage, origin, tunnel)


def _inner_packet(passage: Passage, origin: Origin, tunnel: Tunnel) -> Packet:
    inner = tunnel.inner
    kind, payload = int.from_bytes(inner[12:14]), inner[14:]
    if kind == ethernet.ARP:
        raise neighbours.overlay_arp(passage, origin, payload)
    if kind == ethernet.IPV6 and neighbours.is_solicitation(payload):
        raise neighbours.overlay_solicitation(passage, origin, payload)
    if kind in VLAN_TYPES:
        raise dropped(DropReason.INNER_VLAN)
    if inner[0] & 1:
        raise dropped(DropReason.BROADCAST)
    if inner[:6] != passage.surroundings.router_mac:
        passage.note(
            "admit", "", f"The inner frame is for {ethernet.mac_text(inner[:6])}, which is not the router's MAC."
        )
        raise dropped(DropReason.NOT_ROUTER_MAC)
    if kind not in IP_TYPES:
        raise dropped(DropReason.NOT_IP)
    return ip.parse(kind, payload)


def _from_external(passage: Passage, domain: Domain) -> tuple[Origin, Packet]:
    frame = passage.frame
    passage.domain = domain
    origin = Origin(domain, None, frame.source, None, passage.interface.mtu)
    if frame.type == ethernet.ARP:
        raise neighbours.external_arp(passage, origin)
    if frame.type == ethernet.IPV6 and neighbours.is_discovery(frame.payload):
        raise neighbours.external_discovery(passage, origin)
    if frame.destination != passage.interface.mac_bytes or frame.type not in IP_TYPES:
        passage.note("port", passage.attachment.entry, "Not an IP packet for our MAC: it goes up to Linux untouched.")
        raise passed()
    passage.note("admit", passage.attachment.entry, f"The connection here belongs to {domain.source.name}.")
    return origin, ip.parse(frame.type, frame.payload)
