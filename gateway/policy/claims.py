"""What belongs to one routing domain alone: its name, its VSIDs, its attachments and its rewritten provider addresses.

The caller keeps one `Claims` of all domains, so that a change of one domain is checked against the others without
going through them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from gateway.configuration import Port
from gateway.policy.faults import Fault
from gateway.policy.model import NetworkConnection, RoutingDomain

Claim = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Held:
    name: str
    alone: frozenset[Claim]
    encapsulated: frozenset[str]


class Claims:
    """The claims of any number of domains, by domain id."""

    def __init__(self, ports: Mapping[str, Port], domains: Iterable[RoutingDomain] = ()) -> None:
        self._ports = ports
        self._held: dict[str, _Held] = {}
        self._holder: dict[Claim, str] = {}
        self._encapsulated: dict[str, set[str]] = {}
        for domain in domains:
            self.put(domain)

    def put(self, domain: RoutingDomain) -> None:
        """Take up the claims of a domain in place of those it had."""
        self.remove(domain.id)
        alone = frozenset(claim for claim, _ in _claims(domain, self._ports))
        self._hold(domain.id, _Held(domain.name, alone, _encapsulated(domain)))

    def remove(self, domain_id: str) -> None:
        """Forgets a domain; nothing happens if it is not known."""
        held = self._held.pop(domain_id, _Held("", frozenset(), frozenset()))
        for claim in held.alone:
            if self._holder.get(claim) == domain_id:
                del self._holder[claim]
        for address in held.encapsulated:
            self._encapsulated[address].discard(domain_id)
            if not self._encapsulated[address]:
                del self._encapsulated[address]

    def without(self, domain_ids: Iterable[str]) -> Self:
        """Return the claims of all other domains, as a copy."""
        left_out = set(domain_ids)
        rest = type(self)(self._ports)
        for domain_id, held in self._held.items():
            if domain_id not in left_out:
                rest._hold(domain_id, held)
        return rest

    def _hold(self, domain_id: str, held: _Held) -> None:
        self._held[domain_id] = held
        self._holder.update(dict.fromkeys(held.alone, domain_id))
        for address in held.encapsulated:
            self._encapsulated.setdefault(address, set()).add(domain_id)

    def faults(self, domain: RoutingDomain) -> Iterator[Fault]:
        """Tell what the domain claims twice, or what another domain holds; what it held itself until now is its own."""
        own: set[Claim] = set()
        for claim, pointer in _claims(domain, self._ports):
            holder = self._holder.get(claim, domain.id)
            if holder != domain.id:
                yield Fault(pointer, f"{' '.join(claim)} belongs to routing domain {self._held[holder].name} too")
            elif claim in own:
                yield Fault(pointer, f"{' '.join(claim)} is given twice in this routing domain")
            own.add(claim)
        yield from self._encapsulation_faults(domain, own)

    def _encapsulation_faults(self, domain: RoutingDomain, own: set[Claim]) -> Iterator[Fault]:
        """Find provider addresses that rewritten packets, told by them alone, share with tunnels."""
        encapsulated = _encapsulated(domain)
        for index, record in enumerate(domain.lookup_records):
            address = record.provider_address
            if record.encapsulation == "rewrite":
                holders = self._encapsulated.get(address, set()) - {domain.id}
                clash = address in encapsulated or bool(holders)
            else:
                clash = self._holder.get(_rewritten(address), domain.id) != domain.id
            if clash:
                yield Fault(
                    f"/lookup_records/{index}/provider_address",
                    f"{address} is the provider address of a rewrite record and of an encapsulated one",
                )


def _encapsulated(domain: RoutingDomain) -> frozenset[str]:
    return frozenset(record.provider_address for record in domain.lookup_records if record.encapsulation != "rewrite")


def _rewritten(address: str) -> Claim:
    return ("rewritten provider address", address)


def _claims(domain: RoutingDomain, ports: Mapping[str, Port]) -> Iterator[tuple[Claim, str]]:
    """Tell what the domain claims for itself, with the pointer to where."""
    yield ("name", domain.name), "/name"
    for index, subnet in enumerate(domain.virtual_subnets):
        yield ("virtual subnet", str(subnet.vsid)), f"/virtual_subnets/{index}/vsid"
    for index, connection in enumerate(domain.network_connections):
        if isinstance(connection, NetworkConnection) and connection.port in ports:
            field = "vlan" if connection.vlan else "port"
            yield _attachment(connection, ports[connection.port]), f"/network_connections/{index}/{field}"
    for index, record in enumerate(domain.lookup_records):
        if record.encapsulation == "rewrite":
            yield _rewritten(record.provider_address), f"/lookup_records/{index}/provider_address"


def _attachment(connection: NetworkConnection, port: Port) -> Claim:
    return ("interface", port.interface, "VLAN", str(connection.vlan or port.vlan))
