"""What a routing domain holds outside its own table, in the directory that all packets meet first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gateway.configuration import GatewayConfiguration
from gateway.policy.model import RoutingDomain
from gateway.programming.directory_block import Directory, PortEntry, RewriteEntry
from gateway.programming.routes import PortName, connection_port, routed_records

PortFacts: TypeAlias = Callable[[str, int], tuple[int, int]]  # (interface, VLAN) -> (port number, interface index or 0)


@dataclass(frozen=True, slots=True)
class Holdings:
    """VSIDs, external ports, rewritten addresses (PA, CA, VSID), and the endpoints (PA, encapsulation) it sends to."""

    vsids: frozenset[int] = frozenset()
    ports: frozenset[PortName] = frozenset()
    rewrites: frozenset[tuple[str, str, int]] = frozenset()
    endpoints: frozenset[tuple[str, str]] = frozenset()

    def without(self, other: "Holdings") -> "Holdings":
        """Return what the other does not hold."""
        return Holdings(
            self.vsids - other.vsids, self.ports - other.ports, self.rewrites - other.rewrites, self.endpoints
        )

    def joined(self, other: "Holdings") -> "Holdings":
        """Return what either holds."""
        return Holdings(
            self.vsids | other.vsids,
            self.ports | other.ports,
            self.rewrites | other.rewrites,
            self.endpoints | other.endpoints,
        )


NOTHING = Holdings()


def holdings_of(domain: RoutingDomain, port_vlans: dict[str, int]) -> Holdings:
    """Work out what a domain's policy holds."""
    return Holdings(
        vsids=frozenset(subnet.vsid for subnet in domain.virtual_subnets),
        ports=frozenset(connection_port(connection, port_vlans) for connection in domain.network_connections),
        rewrites=frozenset(
            (record.provider_address, record.customer_address, record.vsid)
            for record in routed_records(domain)
            if record.encapsulation == "rewrite"
        ),
        endpoints=frozenset((record.provider_address, record.encapsulation) for record in domain.lookup_records),
    )


def conflict(wanted: Holdings, held: Mapping[str, Holdings]) -> str | None:
    """Say what another domain, by RDID, still holds of what is wanted."""
    for rdid, other in held.items():
        if wanted.vsids & other.vsids:
            return f"VSID {min(wanted.vsids & other.vsids)} is still held by routing domain {rdid}, which could not be programmed"
        if wanted.ports & other.ports:
            port, vlan = min(wanted.ports & other.ports)
            return f"port {port} VLAN {vlan} is still held by routing domain {rdid}, which could not be programmed"
    return None


def steps(before: Mapping[str, Holdings], after: Mapping[str, Holdings]) -> dict[str, Holdings]:
    """Return what each domain holds while tables are switched: old and new, but nothing that two domains would share."""
    between = {}
    for rdid in before.keys() | after.keys():
        own = before.get(rdid, NOTHING).joined(after.get(rdid, NOTHING))
        for other in before.keys() | after.keys():
            if other != rdid:
                own = own.without(before.get(other, NOTHING).joined(after.get(other, NOTHING)))
        between[rdid] = own
    return between


def directory_of(
    holdings: Mapping[str, Holdings], numbers: Mapping[str, int], configuration: GatewayConfiguration, facts: PortFacts
) -> Directory:
    """Lay out who holds what, for the interfaces that are there."""
    interfaces = {port.name: port.interface for port in configuration.ports}
    bound = {(interfaces[name], vlan): numbers[rdid] for rdid, each in holdings.items() for name, vlan in each.ports}
    provider = {(port.interface, port.vlan) for port in configuration.ports if port.role == "provider"}
    entries = []
    for interface, vlan in sorted(provider | bound.keys()):
        number, index = facts(interface, vlan)
        if index:
            entries.append(
                PortEntry(number, index, vlan, (interface, vlan) in provider, bound.get((interface, vlan), 0))
            )
    rewrites = [
        RewriteEntry(address, customer, numbers[rdid], vsid)
        for rdid, each in holdings.items()
        for address, customer, vsid in each.rewrites
    ]
    return Directory(
        ports=tuple(entries),
        vsids=tuple(sorted((vsid, numbers[rdid]) for rdid, each in holdings.items() for vsid in each.vsids)),
        provider_addresses=tuple(sorted(configuration.provider_addresses())),
        rewrites=tuple(sorted(rewrites, key=lambda entry: entry.provider_address)),
        router_mac=configuration.router_mac,
        dscp_uniform=configuration.datapath.dscp == "uniform",
    )
