"""The next hops to the peers of tunnels: asked for before IKE needs them.

The datapath asks by the first packet that lacks a neighbour, and that packet is lost. IKE would send it again, but only
after a second.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from socket import AF_PACKET, SOCK_RAW, socket

import structlog

from gateway.datapath.model import arp, discovery, ethernet
from gateway.datapath.model.arp import Arp
from gateway.datapath.model.ethernet import Frame
from gateway.policy.addresses import family
from gateway.policy.model import RoutingDomain
from gateway.programming.ports import Asker, Ports
from gateway.programming.routes import External, PortName, covering, routes_of

log = structlog.get_logger(__name__)
_LOOK_EVERY_S = 0.0005  # nobody tells when the datapath has learned a neighbour


@dataclass(frozen=True, slots=True)
class NextHop:
    """A neighbour on a port, and our address that asks for it."""

    port: PortName
    address: str
    source: str


def next_hops(internet: RoutingDomain, port_vlans: Mapping[str, int], peers: Iterable[str]) -> frozenset[NextHop]:
    """Return all next hops to these addresses; of equal ones each flow takes one."""
    routes = routes_of(internet, dict(port_vlans))
    found = ((peer, covering(routes, peer)) for peer in peers)
    return frozenset(
        NextHop(hop.port, hop.gateway or peer, hop.source)
        for peer, route in found
        if route is not None
        for hop in route.hops
        if isinstance(hop, External) and hop.source
    )


def find(ports: Ports, wanted: Mapping[NextHop, int], seconds: float) -> None:
    """Ask for those that the datapath does not know; return when it does, at the latest after so many seconds.

    `wanted`: the number of each one's port.
    """
    unknown = _unknown(ports, wanted)
    for hop, why in ask({hop: ports.asker(number) for hop, number in unknown.items()}).items():
        log.warning("next_hop_not_asked", port=hop.port[0], address=hop.address, why=why)  # IKE's own packets will ask
    deadline = time.monotonic() + seconds
    while unknown := _unknown(ports, unknown):
        if time.monotonic() > deadline:
            log.warning("next_hop_silent", addresses=sorted(hop.address for hop in unknown))
            return
        time.sleep(_LOOK_EVERY_S)


def _unknown(ports: Ports, hops: Mapping[NextHop, int]) -> dict[NextHop, int]:
    return {hop: number for hop, number in hops.items() if not ports.knows(number, hop.address)}


def ask(hops: Mapping[NextHop, Asker]) -> dict[NextHop, str]:
    """Ask where these are; return those that could not be asked for, with what Linux said."""
    if not hops:
        return {}
    try:
        with socket(AF_PACKET, SOCK_RAW) as links:
            return dict(_failing(links, hops))
    except OSError as error:
        return dict.fromkeys(hops, str(error))


def _failing(links: socket, hops: Mapping[NextHop, Asker]) -> Iterator[tuple[NextHop, str]]:
    for hop, asker in hops.items():
        try:
            links.sendto(question(asker, hop), (asker.interface, 0))
        except OSError as error:  # the interface is down or gone
            yield hop, str(error)


def question(asker: Asker, hop: NextHop) -> bytes:
    """Return the frame that asks: as the datapath's own, ARP (RFC 826) or neighbour discovery (RFC 4861)."""
    tag = ethernet.tag(asker.vlan)
    if family(hop.address) == 4:
        source, target = IPv4Address(hop.source), IPv4Address(hop.address)
        request = Arp(arp.REQUEST, asker.mac, source, bytes(6), target).build()
        return Frame(ethernet.BROADCAST, asker.mac, tag, ethernet.ARP, request).build()
    six = IPv6Address(hop.address)
    destination = discovery.multicast_mac(discovery.solicited_node(six))
    solicitation = discovery.solicitation(IPv6Address(hop.source), six, asker.mac)
    return Frame(destination, asker.mac, tag, ethernet.IPV6, solicitation).build()
