"""The numbers by which blocks name what lies outside them: provider addresses and ports."""

from collections.abc import Collection, Iterable, Mapping

from gateway.compartments.specification import Compartment, Leg
from gateway.configuration import GatewayConfiguration
from gateway.policy.model import NetworkConnection, RoutingDomain
from gateway.programming.encoding import mac_bytes
from gateway.programming.endpoints import Endpoints
from gateway.programming.outside import legs_of, port_of_leg
from gateway.programming.ports import Ports
from gateway.programming.routes import PortName, connection_port
from gateway.underlay.network import Link


class Places:
    """Knows the configured ports and the legs of compartments by their names."""

    def __init__(self, ports: Ports, endpoints: Endpoints, configuration: GatewayConfiguration) -> None:
        self._ports = ports
        self._endpoints = endpoints
        self._router_mac = mac_bytes(configuration.router_mac)
        self._configured = {port.name: port.interface for port in configuration.ports}
        self._vlans = {port.name: port.vlan for port in configuration.ports}
        self._legs: dict[str, Leg] = {}

    def endpoint(self, provider_address: str, encapsulation: str, /) -> int:
        """Return the number of a provider address. Raises CapacityError."""
        return self._endpoints.number(provider_address, encapsulation)

    def host(self, provider_address: str) -> int:
        """Return the number of a host that may send. Raises CapacityError."""
        return self._endpoints.number(provider_address, "source")

    def port(self, port: PortName, /) -> int:
        """Return the number of a port that leads out of the overlay. Raises CapacityError."""
        number = self._ports.of_interface(self.interfaces()[port[0]], port[1])
        if port[0] not in self._legs:  # the neighbour behind a leg is known
            self._ports.make_external(number)
        return number

    def connections(self, domains: Iterable[RoutingDomain]) -> dict[int, NetworkConnection]:
        """Return the l3 connections of domains that are programmed, by the numbers of their ports."""
        found = [
            (connection_port(connection, self._vlans), connection)
            for domain in domains
            for connection in domain.l3_connections()
        ]
        return {self._ports.of_interface(self._configured[name], vlan): each for (name, vlan), each in found}

    def port_facts(self, interface: str, vlan: int) -> tuple[int, int]:
        """Return the number of a port, and Linux's index of its interface, 0 while it is not there."""
        return self._ports.of_interface(interface, vlan), self._ports.interface_index(interface)

    def interfaces(self) -> Mapping[str, str]:
        """Return the interfaces by the names of ports."""
        return self._configured | {name: leg.interface for name, leg in self._legs.items()}

    def take_legs(self, compartments: Iterable[Compartment]) -> set[str]:
        """Know the legs of these compartments from now on, besides those known; return the interfaces that are new.

        Linux may not have told of them yet. Frames that come in by them are addressed to the router.
        """
        standing = list(compartments)
        new = {port_of_leg(leg)[0]: (leg, each.specification.mtu) for each in standing for leg in legs_of(each)}
        changed = {name: pair for name, pair in new.items() if self._legs.get(name) != pair[0]}
        self._legs |= {name: leg for name, (leg, _) in new.items()}
        self._ports.address_to({leg.interface: self._router_mac for leg in self._legs.values()})
        self._ports.links_changed(
            {leg.interface: Link(leg.interface, leg.index, b"", mtu, True) for leg, mtu in changed.values()}
        )
        return {leg.interface for leg, _ in changed.values()}

    def forget_legs(self, standing: Collection[str]) -> None:
        """Forget the legs of which no block and no directory names the port; `standing`: those that remain, by name."""
        gone = {name: leg for name, leg in self._legs.items() if name not in standing}
        self._legs = {name: leg for name, leg in self._legs.items() if name in standing}
        self._ports.forget({leg.interface for leg in gone.values()})
