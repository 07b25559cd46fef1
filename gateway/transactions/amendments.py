"""What single writes make of a snapshot: pure functions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from gateway.configuration import Port
from gateway.policy import held_secrets
from gateway.policy.faults import Fault
from gateway.policy.model import Host, LookupRecord, Policy, RoutingDomain
from gateway.policy.snapshot import Changes, Owned, Snapshot, Transaction
from gateway.policy.validation import port_faults
from gateway.transactions.terms import ConflictError, NotFoundError


def domain_of(snapshot: Snapshot, domain_id: str, owner: str | None = None) -> RoutingDomain:
    """Return a routing domain. Raises NotFoundError, and ConflictError if it is not this owner's."""
    owned = snapshot.domains.get(domain_id)
    if owned is None:
        raise NotFoundError(f"there is no routing domain {domain_id}")
    if owner not in (None, owned.owner):
        raise ConflictError(f"routing domain {owned.domain.name} belongs to {owned.owner}: change it there")
    return owned.domain


def domains_of(snapshot: Snapshot) -> dict[str, RoutingDomain]:
    """Return the routing domains, by id."""
    return {at: owned.domain for at, owned in snapshot.domains.items()}


def part_of(snapshot: Snapshot, owner: str) -> Policy:
    """Return what came in through one owner."""
    domains = tuple(owned.domain for owned in snapshot.domains.values() if owned.owner == owner)
    return Policy(snapshot.hosts.get(owner, ()), domains)


def with_part(snapshot: Snapshot, owner: str, policy: Policy) -> Changes:
    """Return the changes that make `policy` what came in through this owner."""
    others = {at: owned for at, owned in snapshot.domains.items() if owned.owner != owner}
    wanted = {domain.id: Owned(owner, domain) for domain in policy.routing_domains}
    hosts = _without_empty({**snapshot.hosts, owner: policy.hosts})
    return snapshot.changes_to(Snapshot(snapshot.revision, others | wanted, hosts))


def with_held_secrets(snapshot: Snapshot, policy: Policy) -> Policy:
    """Return the policy with the secrets that its placeholders stand for."""
    domains = tuple(
        held_secrets.with_held_secrets(domain, owned.domain if (owned := snapshot.domains.get(domain.id)) else None)
        for domain in policy.routing_domains
    )
    return replace(policy, routing_domains=domains)


def foreign_faults(snapshot: Snapshot, owner: str, policy: Policy) -> Iterator[Fault]:
    """Yield a fault for every routing domain and host of `policy` that belongs to another owner."""
    for index, domain in enumerate(policy.routing_domains):
        owned = snapshot.domains.get(domain.id)
        if owned is not None and owned.owner != owner:
            yield Fault(f"/routing_domains/{index}/id", f"routing domain {domain.id} belongs to {owned.owner}")
    holders = {host.id: holder for holder, hosts in snapshot.hosts.items() if holder != owner for host in hosts}
    for index, host in enumerate(policy.hosts):
        if host.id in holders:
            yield Fault(f"/hosts/{index}/id", f"host {host.id} belongs to {holders[host.id]}")


def with_record(domain: RoutingDomain, record: LookupRecord) -> RoutingDomain:
    """Return the domain with this record as its last.

    Of two records that contradict each other validation names the later one as the fault.
    """
    others = _records_beside(domain, record.vsid, record.customer_address)
    return replace(domain, lookup_records=(*others, record))


def without_record(domain: RoutingDomain, vsid: int, customer_address: str) -> RoutingDomain:
    """Return the domain without the record of (VSID, customer address). Raises NotFoundError."""
    others = _records_beside(domain, vsid, customer_address)
    if len(others) == len(domain.lookup_records):
        raise NotFoundError(f"routing domain {domain.name} has no record of {customer_address} in VSID {vsid}")
    return replace(domain, lookup_records=others)


def relative_to_last_record(domain: RoutingDomain, faults: Iterable[Fault]) -> Iterator[Fault]:
    """Yield the faults of a domain as seen from its last record; those elsewhere in the domain keep their pointers."""
    at = f"/lookup_records/{len(domain.lookup_records) - 1}/"
    for fault in faults:
        yield replace(fault, pointer=fault.pointer[len(at) - 1 :]) if fault.pointer.startswith(at) else fault


def after(snapshot: Snapshot, changes: Changes, revision: int) -> Snapshot:
    """Return the state after a transaction; domains keep their places, new ones come last."""
    domains = dict(snapshot.domains)
    for domain_id, owned in changes.domains.items():
        if owned is None:
            domains.pop(domain_id, None)
        else:
            domains[domain_id] = owned
    return Snapshot(revision, domains, _without_empty({**snapshot.hosts, **changes.hosts}))


def last_changes(snapshot: Snapshot, history: Sequence[Transaction]) -> dict[str, int]:
    """Return for each routing domain the revision that last changed it; the snapshot's own where no kept one did."""
    by_name = {name: entry.revision for entry in reversed(history) for name in entry.changed}
    return {at: by_name.get(owned.domain.name, snapshot.revision) for at, owned in snapshot.domains.items()}


def unfit_domains(policy: Policy, ports: Mapping[str, Port]) -> dict[str, str]:
    """Find the routing domains whose connections and public addresses these ports cannot carry, and say why."""
    found = {}
    for domain in policy.routing_domains:
        fault = next(iter(port_faults(domain, ports)), None)
        if fault is not None:
            found[domain.id] = f"{fault}: the ports were others when this was accepted; correct the one or the other"
    return found


def _records_beside(domain: RoutingDomain, vsid: int, customer_address: str) -> tuple[LookupRecord, ...]:
    place = (vsid, customer_address)
    return tuple(record for record in domain.lookup_records if (record.vsid, record.customer_address) != place)


def _without_empty(hosts: Mapping[str, tuple[Host, ...]]) -> dict[str, tuple[Host, ...]]:
    return {owner: of_owner for owner, of_owner in hosts.items() if of_owner}
