"""What belongs to one routing domain alone: its name, VSIDs, attachments, outside addresses and rewritten addresses.

The caller keeps one `Claims` of all domains, so that a change of one domain is checked against the others without
going through them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from gateway.configuration import Port
from gateway.policy.connections import IpsecConnection
from gateway.policy.faults import Fault
from gateway.policy.frontend_checks import frontends
from gateway.policy.lending import ports_of, shared_addresses, shared_ports
from gateway.policy.model import Host, NetworkConnection, RoutingDomain
from gateway.policy.public import default_local_address, port_of

Claim = tuple[str, ...]
_REWRITTEN, _PUBLIC = "rewritten provider address", "public address"
_PORTS, _SHARED, _END = "ports of public address", "shared public address", "end of tunnels"
_OPPOSITE = {_SHARED: _END, _END: _SHARED}
_CLASHES = {
    _REWRITTEN: "is the provider address of a rewrite record and of an encapsulated one",
    _PUBLIC: "is a frontend's or a machine's public address and the local address of a network connection",
}
_HOW_TO_SHARE = (
    "to share it, both use it for outbound NAT alone, and give `ports` in every outbound_nat of its frontend"
)


@dataclass(frozen=True, slots=True)
class _Held:
    """`alone` is one domain's; what is `shared` by domains is no domain's alone."""

    name: str
    alone: frozenset[Claim]
    shared: frozenset[Claim]


class Claims:
    """The claims of any number of domains, by domain id, and the provider addresses of hosts."""

    def __init__(self, ports: Mapping[str, Port], domains: Iterable[RoutingDomain] = ()) -> None:
        self._ports = ports
        self._held: dict[str, _Held] = {}
        self._holder: dict[Claim, str] = {}
        self._sharers: dict[Claim, set[str]] = {}
        self._host_addresses: frozenset[str] = frozenset()
        for domain in domains:
            self.put(domain)

    def put(self, domain: RoutingDomain) -> None:
        """Take up the claims of a domain in place of those it had."""
        self.remove(domain.id)
        alone = frozenset((*(claim for claim, _ in _claims(domain, self._ports)), *_blocks(domain)))
        self._hold(domain.id, _Held(domain.name, alone, _shared(domain, self._ports)))

    def put_hosts(self, hosts: Iterable[Host]) -> None:
        """Take up the provider addresses of hosts in place of all there were."""
        self._host_addresses = frozenset(entry.address for host in hosts for entry in host.provider_addresses)

    def add_hosts(self, hosts: Iterable[Host]) -> None:
        """Take up the provider addresses of more hosts."""
        self._host_addresses |= {entry.address for host in hosts for entry in host.provider_addresses}

    def remove(self, domain_id: str) -> None:
        """Forgets a domain; nothing happens if it is not known."""
        held = self._held.pop(domain_id, _Held("", frozenset(), frozenset()))
        for claim in held.alone:
            if self._holder.get(claim) == domain_id:
                del self._holder[claim]
        for claim in held.shared:
            self._sharers[claim].discard(domain_id)
            if not self._sharers[claim]:
                del self._sharers[claim]

    def without(self, domain_ids: Iterable[str]) -> Self:
        """Return the claims of all other domains, as a copy."""
        left_out = set(domain_ids)
        rest = type(self)(self._ports)
        rest._host_addresses = self._host_addresses
        for domain_id, held in self._held.items():
            if domain_id not in left_out:
                rest._hold(domain_id, held)
        return rest

    def _hold(self, domain_id: str, held: _Held) -> None:
        self._held[domain_id] = held
        self._holder.update(dict.fromkeys(held.alone, domain_id))
        for claim in held.shared:
            self._sharers.setdefault(claim, set()).add(domain_id)

    def is_provider_address(self, address: str) -> bool:
        """Tell whether it is a provider address of the gateway, of a host, or of a record of any domain taken up."""
        of_gateway = (port.own_addresses() for port in self._ports.values() if port.role == "provider")
        claim = (_REWRITTEN, address)
        return (
            address in self._host_addresses
            or claim in self._sharers
            or claim in self._holder
            or any(address in own for own in of_gateway)
        )

    def is_own_address(self, address: str) -> bool:
        """Tell whether it is an external port's own address, or a public address of any domain taken up."""
        of_gateway = (port.own_addresses() for port in self._ports.values() if port.role == "external")
        is_public = (_PUBLIC, address) in self._holder or (_SHARED, address) in self._sharers
        return is_public or any(address in own for own in of_gateway)

    def faults(self, domain: RoutingDomain) -> Iterator[Fault]:
        """Tell what the domain claims twice, or what another domain holds; what it held itself until now is its own."""
        own: set[Claim] = set()
        own_shared = _shared(domain, self._ports)
        for claim, pointer in _claims(domain, self._ports):
            holder = self._holder.get(claim, domain.id)
            if holder != domain.id:
                yield Fault(pointer, f"{' '.join(claim)} belongs to routing domain {self._held[holder].name} too")
            elif claim in own:
                yield Fault(pointer, f"{' '.join(claim)} is given twice in this routing domain")
            if claim in own_shared or self._sharers.get(claim, set()) - {domain.id}:
                yield self._clash(claim, pointer, domain)
            own.add(claim)
        lost = {claim for claim in own_shared if self._is_lost(claim, own_shared, domain.id)}
        if lost:
            shared = _shared_claims(domain, self._ports)
            yield from (self._clash(claim, at, domain) for claim, at in shared if claim in lost)
        yield from self._port_faults(domain)

    def _is_lost(self, claim: Claim, own_shared: frozenset[Claim], domain_id: str) -> bool:
        opposite = (_OPPOSITE.get(claim[0], ""), *claim[1:])
        shared_otherwise = opposite in own_shared or self._sharers.get(opposite, set()) - {domain_id}
        return self._holder.get(claim, domain_id) != domain_id or bool(shared_otherwise)

    def _clash(self, claim: Claim, pointer: str, domain: RoutingDomain) -> Fault:
        kind, address = claim
        is_shared = kind == _PUBLIC and address in shared_addresses(domain)
        sharers = {self._holder.get(claim, domain.id)} if is_shared else self._sharers.get((_SHARED, address), set())
        others = sorted(self._held[other].name for other in sharers - {domain.id})
        if kind == _PUBLIC and others:
            return Fault(pointer, f"{address} belongs to routing domain {' and '.join(others)} too: {_HOW_TO_SHARE}")
        if is_shared:
            return Fault(pointer, f"{' '.join(claim)} is given twice in this routing domain")
        return Fault(pointer, f"{address} {_CLASHES.get(kind, _CLASHES[_PUBLIC])}")

    def _port_faults(self, domain: RoutingDomain) -> Iterator[Fault]:
        """Find ports that another domain lends too."""
        for pointer, address, blocks in shared_ports(domain):
            both: dict[str, int] = {}
            for block in range(16):
                holder = self._holder.get((_PORTS, address, str(block)), domain.id)
                if blocks >> block & 1 and holder != domain.id:
                    both[holder] = both.get(holder, 0) | 1 << block
            for holder, overlap in both.items():
                detail = f"{ports_of(overlap)} of {address} belong to routing domain {self._held[holder].name} too"
                yield Fault(pointer, f"{detail}, not to {domain.name} alone: give each domain ports of its own")


def _claims(domain: RoutingDomain, ports: Mapping[str, Port]) -> Iterator[tuple[Claim, str]]:
    """Tell what the domain claims for itself, with the pointer to where."""
    yield ("name", domain.name), "/name"
    for index, subnet in enumerate(domain.virtual_subnets):
        yield ("virtual subnet", str(subnet.vsid)), f"/virtual_subnets/{index}/vsid"
    for index, connection in enumerate(domain.network_connections):
        at = f"/network_connections/{index}"
        if isinstance(connection, IpsecConnection):
            yield _peer(connection, ports), f"{at}/remote_address"
        elif connection.port in ports:
            field = "vlan" if connection.vlan else "port"
            yield _attachment(connection, ports[connection.port]), f"{at}/{field}"
    for index, record in enumerate(domain.lookup_records):
        if record.encapsulation == "rewrite":
            yield (_REWRITTEN, record.provider_address), f"/lookup_records/{index}/provider_address"
    shared = shared_addresses(domain)
    for pointer, frontend in frontends(domain):
        if frontend.public and frontend.address not in shared:
            yield (_PUBLIC, frontend.address), f"{pointer}/address"
    for index, entry in enumerate(domain.public_addresses):
        yield (_PUBLIC, entry.address), f"/public_addresses/{index}/address"


def _attachment(connection: NetworkConnection, port: Port) -> Claim:
    return ("interface", port.interface, "VLAN", str(connection.vlan or port.vlan))


def _peer(connection: IpsecConnection, ports: Mapping[str, Port]) -> Claim:
    """Packets of IKE and ESP are a domain's by their two addresses."""
    local = connection.local_address or default_local_address(connection.remote_address, ports)
    return ("remote address", connection.remote_address, "at local address", local or "unknown")


def _shared(domain: RoutingDomain, ports: Mapping[str, Port]) -> frozenset[Claim]:
    encapsulated = {record.provider_address for record in domain.lookup_records if record.encapsulation != "rewrite"}
    claims = {(_REWRITTEN, address) for address in encapsulated}
    return frozenset(claims.union(claim for claim, _ in (*_local_ends(domain, ports), *_shared_frontends(domain))))


def _blocks(domain: RoutingDomain) -> Iterator[Claim]:
    """The ports that a domain lends of addresses which others may lend ports of."""
    for address, blocks in shared_addresses(domain).items():
        yield from ((_PORTS, address, str(block)) for block in range(16) if blocks >> block & 1)


def _shared_claims(domain: RoutingDomain, ports: Mapping[str, Port]) -> Iterator[tuple[Claim, str]]:
    """Tell what other domains may share but none may have alone, with the pointer to where."""
    for index, record in enumerate(domain.lookup_records):
        if record.encapsulation != "rewrite":
            yield (_REWRITTEN, record.provider_address), f"/lookup_records/{index}/provider_address"
    yield from _local_ends(domain, ports)
    yield from _shared_frontends(domain)


def _shared_frontends(domain: RoutingDomain) -> Iterator[tuple[Claim, str]]:
    shared = shared_addresses(domain)
    for pointer, frontend in frontends(domain) if shared else ():
        if frontend.address in shared:
            yield from (((kind, frontend.address), f"{pointer}/address") for kind in (_PUBLIC, _SHARED))


def _local_ends(domain: RoutingDomain, ports: Mapping[str, Port]) -> Iterator[tuple[Claim, str]]:
    """The ends of network connections in the networks that public addresses are in."""
    for index, connection in enumerate(domain.network_connections):
        at = f"/network_connections/{index}"
        if isinstance(connection, NetworkConnection):
            for number, entry in enumerate(connection.local_addresses):
                address = entry.partition("/")[0]
                if port_of(address, ports):
                    yield from (((kind, address), f"{at}/local_addresses/{number}") for kind in (_PUBLIC, _END))
        elif connection.local_address is not None:
            address = connection.local_address
            yield from (((kind, address), f"{at}/local_address") for kind in (_PUBLIC, _END))
