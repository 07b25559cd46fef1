"""Compartments as the layers read them: their legs, interfaces of the gateway, and the tunnels that end there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from gateway.compartments.specification import Compartment, Leg, key_for_fragments
from gateway.configuration import Port
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ip import Address
from gateway.datapath.model.routes import Exit, exit_to
from gateway.datapath.model.surroundings import Attachment, Interface
from gateway.policy.connections import IpsecConnection
from gateway.policy.public import default_local_address


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a tunnel, and the way to the compartment where the tunnel ends."""

    entry: str
    tunnel: str
    exit: Exit


@dataclass(frozen=True, slots=True)
class TunnelState:
    """Whether a tunnel carries packets now, and a sentence of it."""

    carries: bool
    words: str


Steering = Mapping[Address, Mapping[Address, Peer]]  # by the gateway's end, by the peer
TunnelStates = Mapping[tuple[str, str], TunnelState]  # by RDID and name


def interfaces_of_legs(compartments: Mapping[str, Compartment], router_mac: str) -> dict[str, Interface]:
    """The ends on the gateway's side, by name; frames that come in by them are addressed to the router."""
    return {
        leg.interface: Interface(leg.interface, router_mac, each.specification.mtu)
        for each in compartments.values()
        for leg in (each.inside, each.outside)
        if leg is not None
    }


def attachments_of_legs(
    domains: Iterable[Domain], internet: Domain | None, compartments: Mapping[str, Compartment]
) -> dict[tuple[str, int], Attachment]:
    """What comes by the inside is the domain's, what comes by the outside the Internet's."""
    found = {}
    for domain in domains:
        if ordering := compartments.get(key_for_fragments(domain.id)):
            name = ordering.inside.interface
            found[name, 0] = Attachment(name, 0, domain.entry, False, domain, (), is_leg=True, is_for_fragments=True)
        compartment = compartments.get(domain.id)
        if compartment is None:
            continue
        for leg, whose in ((compartment.inside, domain), (compartment.outside, internet)):
            if leg is not None and whose is not None:
                found[leg.interface, 0] = Attachment(leg.interface, 0, domain.entry, False, whose, (), is_leg=True)
    return found


def legs_for_fragments(compartments: Mapping[str, Compartment]) -> dict[str, Leg]:
    """The ways to where fragments are put in order, by RDID."""
    return {
        each.specification.routing_domain: each.inside
        for each in compartments.values()
        if each.specification.for_fragments
    }


def steering_of(
    domains: Iterable[Domain], compartments: Mapping[str, Compartment], ports: Iterable[Port]
) -> dict[Address, dict[Address, Peer]]:
    """To whom peers belong, of the tunnels that may be used."""
    named = {port.name: port for port in ports}
    found: dict[Address, dict[Address, Peer]] = {}
    for domain in domains:
        compartment = compartments.get(domain.id)
        leg = compartment.outside if compartment else None
        for index, connection in enumerate(domain.source.network_connections):
            if leg is None or not isinstance(connection, IpsecConnection) or not connection.enabled:
                continue
            own = connection.local_address or default_local_address(connection.remote_address, named)
            if own is not None:
                entry = f"{domain.entry}/network_connections/{index}"
                peer = Peer(entry, connection.name, exit_to(leg, domain.source.name, entry))
                found.setdefault(ip_address(own), {})[ip_address(connection.remote_address)] = peer
    return found
