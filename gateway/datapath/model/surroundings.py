"""What lies around the datapath: interfaces, attachments and the way to provider addresses."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface

from gateway.compartments.specification import Leg
from gateway.configuration import Port
from gateway.datapath.model.domains import Domain
from gateway.datapath.model.ethernet import mac_bytes
from gateway.datapath.model.ip import Address
from gateway.datapath.model.routes import Connection


@dataclass(frozen=True, slots=True)
class UnderlayHop:
    """How a provider address is reached: from our address `source`; `mtu` counts the bytes of an outer IP packet."""

    interface: str
    vlan: int
    source: str
    destination_mac: str
    mtu: int


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface; `mtu` counts the bytes of an IP packet."""

    name: str
    mac: str
    mtu: int

    @property
    def mac_bytes(self) -> bytes:
        return mac_bytes(self.mac)


@dataclass(frozen=True, slots=True)
class Attachment:
    """An interface, or a VLAN of it. It may carry provider traffic, the connections of one routing domain, or both.

    A compartment's leg is its domain's, or the Internet's, without a connection; by that of one `for_fragments` those
    come back that have been put in order.
    """

    interface: str
    vlan: int
    entry: str
    is_provider: bool
    domain: Domain | None
    connections: tuple[Connection, ...]
    is_leg: bool = False
    is_for_fragments: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The gateway's own configuration as the layers read it; `dscp` is "uniform" or "pipe"."""

    router_mac: bytes
    interfaces: Mapping[str, Interface]
    underlay: Mapping[Address, UnderlayHop | None]
    dscp: str
    provider_addresses: frozenset[Address]
    provider_links: frozenset[tuple[str, int]]
    fragments_legs: Mapping[str, Leg]


def provider_addresses(ports: Iterable[Port]) -> frozenset[Address]:
    return frozenset(ip_interface(text).ip for port in ports if port.role == "provider" for text in port.addresses)


def provider_links(ports: Iterable[Port]) -> frozenset[tuple[str, int]]:
    """The interfaces and VLANs where hosts are."""
    return frozenset((port.interface, port.vlan) for port in ports if port.role == "provider")


def underlay(hops: Mapping[str, UnderlayHop | None]) -> dict[Address, UnderlayHop | None]:
    return {ip_address(address): hop for address, hop in hops.items()}


def attachments(ports: Iterable[Port], domains: Iterable[Domain]) -> dict[tuple[str, int], Attachment]:
    """By (interface, VLAN). An external port without a connection there is no attachment."""
    found: dict[tuple[str, int], Attachment] = {}
    for index, port in enumerate(ports):
        if port.role == "provider":
            key = (port.interface, port.vlan)
            found[key] = Attachment(*key, f"/ports/{index}", True, None, ())
    for domain in domains:
        for connection in domain.connections:
            key = (connection.interface, connection.vlan)
            before = found.get(key)
            found[key] = Attachment(
                *key,
                entry=connection.entry,
                is_provider=before is not None and before.is_provider,
                domain=domain,
                connections=(*(before.connections if before else ()), connection),
            )
    return found
