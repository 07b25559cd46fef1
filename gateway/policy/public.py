"""Addresses on the outside of the gateway: in the networks of external ports that have addresses."""

from collections.abc import Iterator, Mapping

from gateway.configuration import Port
from gateway.policy.addresses import family, network_of, ordinal
from gateway.policy.faults import Fault


def internet_ports(ports: Mapping[str, Port]) -> list[Port]:
    """Return the external ports that have addresses."""
    return [port for port in ports.values() if port.role == "external" and port.addresses]


def port_of(address: str, ports: Mapping[str, Port]) -> Port | None:
    """Return the external port in whose networks a public address lies, None if it lies in none."""
    return next((port for port in internet_ports(ports) if port.network_around(address)), None)


def default_local_address(remote_address: str, ports: Mapping[str, Port]) -> str | None:
    """Return the gateway's end of a tunnel that names none: the own address, of that family, of the only such port.

    None where no external port has one, or where several have.
    """
    wanted = family(remote_address)
    of_ports = [[own for own in port.own_addresses() if family(own) == wanted] for port in internet_ports(ports)]
    candidates = [own for own in of_ports if own]
    return candidates[0][0] if len(candidates) == 1 else None


def public_address_faults(address: str, ports: Mapping[str, Port], pointer: str) -> Iterator[Fault]:
    """Tell why the gateway cannot have this address outside for a routing domain."""
    port = port_of(address, ports)
    network = port.network_around(address) if port else None
    if port is None or network is None:
        known = ", ".join(network_of(entry) for each in internet_ports(ports) for entry in each.addresses)
        detail = f"{address} is in no network of an external port's addresses: the gateway has {known or 'none'}"
        yield Fault(pointer, detail)
    elif address in port.own_addresses():
        yield Fault(pointer, f"{address} is the own address of port {port.name!r}: take another one of its network")
    elif address in port.gateways:
        yield Fault(pointer, f"{address} is a gateway of port {port.name!r}: take another address of its network")
    elif family(address) == 4 and network.length < 31 and ordinal(address) in (network.first, network.last):
        yield Fault(pointer, f"{address} is the network or the broadcast address of port {port.name!r}'s network")
