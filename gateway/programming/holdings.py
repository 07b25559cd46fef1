"""What a routing domain holds outside its own table, in the directory that all packets meet first."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from gateway.configuration import GatewayConfiguration
from gateway.policy.internet import INTERNET
from gateway.policy.model import RoutingDomain
from gateway.programming.directory_block import Directory, PortEntry, RewriteEntry
from gateway.programming.planned_services import PublicAddress
from gateway.programming.routes import Neighbour, PortName, connection_port, routed_records

HostNumber: TypeAlias = Callable[[str], int]
PortFacts: TypeAlias = Callable[[str, int], tuple[int, int]]  # (interface, VLAN) -> (port number, interface index or 0)


@dataclass(frozen=True, slots=True)
class Holdings:
    """VSIDs, external ports, rewritten addresses (PA, CA, VSID). `fragments`: which of the ports give fragments back.

    `public`: addresses outside, or some ports of them; they lie in the Internet's table.
    `endpoints` (PA, encapsulation) it sends to and `sources` (PA) that may send for it are common to all domains.
    """

    vsids: frozenset[int] = frozenset()
    ports: frozenset[PortName] = frozenset()
    rewrites: frozenset[tuple[str, str, int]] = frozenset()
    endpoints: frozenset[tuple[str, str]] = frozenset()
    sources: frozenset[str] = frozenset()
    public: frozenset[PublicAddress] = frozenset()
    fragments: frozenset[PortName] = frozenset()

    def unshared(self) -> tuple[frozenset[int], frozenset[PortName], frozenset[tuple[str, str, int]]]:
        """Return what only one domain can have in the directory."""
        return self.vsids, self.ports, self.rewrites

    def shared_with(self, other: "Holdings") -> "Holdings":
        """Return what both hold of that which only one domain can have."""
        return Holdings(
            vsids=self.vsids & other.vsids,
            ports=self.ports & other.ports,
            rewrites=self.rewrites & other.rewrites,
            fragments=self.fragments & other.fragments,
        )


NOTHING = Holdings()


def holdings_of(
    domain: RoutingDomain,
    port_vlans: dict[str, int],
    sources: frozenset[str],
    legs: Iterable[PortName] = (),
    public: frozenset[PublicAddress] = frozenset(),
    fragments: Neighbour | None = None,
) -> Holdings:
    """Work out what a domain's policy holds. `legs`: ports of compartments that are its."""
    fragments_ports = frozenset([fragments[0]] if fragments else [])
    return Holdings(
        vsids=frozenset(subnet.vsid for subnet in domain.virtual_subnets),
        ports=frozenset(connection_port(connection, port_vlans) for connection in domain.l3_connections())
        | frozenset(legs)
        | fragments_ports,
        rewrites=frozenset(
            (record.provider_address, record.customer_address, record.vsid)
            for record in routed_records(domain)
            if record.encapsulation == "rewrite"
        ),
        endpoints=frozenset((record.provider_address, record.encapsulation) for record in domain.lookup_records),
        sources=sources,
        public=public,
        fragments=fragments_ports,
    )


def conflict(wanted: Holdings, held: Mapping[str, Holdings]) -> str | None:
    """Say what another domain, by RDID, still holds of what is wanted."""
    for rdid, other in held.items():
        if wanted.vsids & other.vsids:
            return (
                f"VSID {min(wanted.vsids & other.vsids)} is still held by domain {rdid}, which could not be programmed"
            )
        if wanted.ports & other.ports:
            port, vlan = min(wanted.ports & other.ports)
            return f"port {port} VLAN {vlan} is still held by routing domain {rdid}, which could not be programmed"
        public = set(_in_both(wanted.public, other.public))
        if public:
            return f"{min(public)} is still held by routing domain {rdid}, which could not be programmed"
    return None


def _in_both(wanted: Iterable[PublicAddress], held: Iterable[PublicAddress]) -> Iterator[str]:
    of_address = {address: blocks for address, _, blocks in held}
    for address, _, blocks in wanted:
        if address in of_address and (not (both := of_address[address]) or not blocks or both & blocks):
            yield address


def between(before: Mapping[str, Holdings], after: Mapping[str, Holdings]) -> dict[str, Holdings]:
    """Return what these domains hold while their tables are switched: of what only one can have, what each keeps.

    What is new is not found before its table is there, and what goes is withdrawn before: either way a packet for it
    meets no table that does not know it.
    """
    return {
        rdid: replace(old.shared_with(new), sources=old.sources | new.sources)
        for rdid in before.keys() | after.keys()
        for old, new in [(before.get(rdid, NOTHING), after.get(rdid, NOTHING))]
    }


def directory_of(
    holdings: Mapping[str, Holdings],
    numbers: Mapping[str, int],
    configuration: GatewayConfiguration,
    interfaces: Mapping[str, str],
    facts: PortFacts,
    host: HostNumber,
) -> Directory:
    """Lay out who holds what, for the interfaces that are there. `interfaces`: by the names of ports."""
    bound = {(interfaces[name], vlan): numbers[rdid] for rdid, each in holdings.items() for name, vlan in each.ports}
    fragments = {(interfaces[name], vlan) for each in holdings.values() for name, vlan in each.fragments}
    provider = {(port.interface, port.vlan) for port in configuration.ports if port.role == "provider"}
    entries = []
    for interface, vlan in sorted(provider | bound.keys()):
        number, index = facts(interface, vlan)
        if index:
            at = interface, vlan
            entries.append(PortEntry(number, index, vlan, at in provider, bound.get(at, 0), at in fragments))
    rewrites = [
        RewriteEntry(address, customer, numbers[rdid], vsid)
        for rdid, each in holdings.items()
        for address, customer, vsid in each.rewrites
    ]
    return Directory(
        ports=tuple(entries),
        vsids=tuple(sorted((vsid, numbers[rdid]) for rdid, each in holdings.items() for vsid in each.vsids)),
        hosts=tuple(
            sorted(
                (address, host(address)) for address in frozenset().union(*(each.sources for each in holdings.values()))
            )
        ),
        provider_addresses=tuple(sorted(configuration.provider_addresses())),
        rewrites=tuple(sorted(rewrites, key=lambda entry: entry.provider_address)),
        router_mac=configuration.router_mac,
        dscp_uniform=configuration.datapath.dscp == "uniform",
        internet=numbers.get(INTERNET, 0) if INTERNET in holdings else 0,
    )
