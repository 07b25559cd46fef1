"""The one writer of policy.

*Accepted* and *programmed* are two facts. A write returns once it is accepted: durable, under the number in its
Receipt. The programming follows on a thread of its own, in the order of the numbers.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.configuration import Port
from gateway.policy import validation
from gateway.policy.claims import Claims
from gateway.policy.faults import Fault, PolicyFaults
from gateway.policy.held_secrets import with_held_secrets
from gateway.policy.model import LookupRecord, Policy, RoutingDomain
from gateway.policy.snapshot import Changes, Owned, Snapshot, Transaction
from gateway.policy.store import KEPT_REVISIONS, Store
from gateway.policy.store_errors import StoreError
from gateway.transactions import amendments
from gateway.transactions.terms import KeyReusedError, Receipt, Terms
from gateway.transactions.worker import Programmed, ProgrammingWorker, Programs


@dataclass(frozen=True, slots=True)
class Held:
    """What is accepted, whole. `changed_at` is the revision that last changed each routing domain."""

    snapshot: Snapshot
    policy: Policy
    changed_at: Mapping[str, int]


class Transactions:
    """All changes of policy, one after another. Raises StoreError from every method while the store is unusable."""

    def __init__(self, store_path: Path, programmer: Programs, ports: Mapping[str, Port]) -> None:
        self._path = store_path
        self._ports = ports
        self._worker = ProgrammingWorker(programmer)
        self._writer = threading.RLock()
        self._store: Store | StoreError = StoreError(f"{store_path}: not opened yet: wait for the gateway to start")
        self._held = Held(Snapshot(0, {}, {}), Policy(), {})
        self._claims = Claims(ports)
        self._unfit: dict[str, str] = {}  # accepted when the configuration had other ports, and why not now
        self._lost: str | None = None

    def start(self, forwarding: Collection[str] = ()) -> None:
        """Load what was accepted last and begin to program it. `forwarding`: the domains that the datapath holds.

        An unusable store does not end the gateway, nor does one that was lost, which knows of no policy at all: what
        is programmed forwards on, and `store_fault` tells.
        """
        try:
            store = Store(self._path)
            snapshot = store.load()
            history = store.history(limit=KEPT_REVISIONS)
        except StoreError as error:
            self._store = error
            return
        self._store = store
        self._held = Held(snapshot, snapshot.policy(), amendments.last_changes(snapshot, history))
        self._claims = Claims(self._ports, self._held.policy.routing_domains)
        self._claims.put_hosts(self._held.policy.hosts)
        self._unfit = amendments.unfit_domains(self._held.policy, self._ports)
        if forwarding and not snapshot.revision:
            self._lost = (
                f"{self._path}: the policy store is new, but the datapath holds {len(forwarding):,} routing domains, "
                "which forward on: push the policy, or restore the file from a backup and start the gateway again"
            )
        else:
            self._program(None)

    def stop(self) -> None:
        """Let the revision under way be programmed, then close the store."""
        with self._writer:
            self._worker.stop()
            if isinstance(self._store, Store):
                self._store.close()

    @property
    def held(self) -> Held:
        """What is accepted at this moment."""
        return self._held

    @property
    def programmed(self) -> Programmed:
        """How far the programming has come."""
        return self._worker.state

    @property
    def store_fault(self) -> str | None:
        """Why the datapath does not follow the store: it cannot be read or written, or it was lost."""
        return str(self._store) if isinstance(self._store, StoreError) else self._lost

    def policy(self, owner: str | None = None, revision: int | None = None) -> tuple[int, Policy]:
        """Return revision and policy, the present ones or those of a kept revision; of one owner only, if given."""
        snapshot = self._held.snapshot
        store = self._usable()
        if revision is not None:
            with self._writer:
                snapshot = store.load(revision)
        return snapshot.revision, snapshot.policy() if owner is None else amendments.part_of(snapshot, owner)

    def domain(self, domain_id: str) -> tuple[int, RoutingDomain]:
        """Return a routing domain, and the revision that last changed it. Raises NotFoundError."""
        self._usable()
        held = self._held
        domain = amendments.domain_of(held.snapshot, domain_id)
        return held.changed_at[domain_id], domain

    def history(self, limit: int) -> list[Transaction]:
        """Return the last transactions, newest first."""
        with self._writer:
            return self._usable().history(limit)

    def settled(self) -> Future[None]:
        """Return what is done once all that is accepted now was tried on the datapath."""
        return self._worker.outcome(self._held.snapshot.revision)

    def outcome(self, receipt: Receipt) -> Future[None]:
        """Return what is done once the revision was tried on the datapath; `is_programmed` then tells how it went."""
        return self._worker.outcome(receipt.revision)

    def errors(self, receipt: Receipt) -> dict[str, str]:
        """Return those routing domains of the write that could not be programmed, and why."""
        return {domain: why for domain, why in self.programmed.errors.items() if domain in receipt.domains}

    def is_programmed(self, receipt: Receipt) -> bool:
        """Tell whether the datapath, read back, holds all that the write is about."""
        state = self.programmed
        reached = state.reached >= receipt.revision and self._lost is None
        return reached and state.failure is None and not self.errors(receipt)

    def faults(self, owner: str, policy: Policy) -> list[Fault]:
        """Find all faults of what `replace` would do; pointers are relative to `policy`."""
        with self._writer:
            snapshot = self._held.snapshot
            beside = self._claims.without(at for at, owned in snapshot.domains.items() if owned.owner == owner)
        beside.put_hosts(host for holder, hosts in snapshot.hosts.items() if holder != owner for host in hosts)
        complete = amendments.with_held_secrets(snapshot, policy)
        return [
            *amendments.foreign_faults(snapshot, owner, policy),
            *validation.faults(complete, self._ports, beside, amendments.domains_of(snapshot)),
        ]

    def domain_faults(self, domain: RoutingDomain) -> list[Fault]:
        """Find all faults of what `put_domain` would do; pointers are relative to `domain`."""
        with self._writer:
            owned = self._held.snapshot.domains.get(domain.id)
            held = owned.domain if owned else None
            complete = with_held_secrets(domain, held)
            return validation.domain_faults(complete, self._ports, self._claims, held)

    def replace(self, terms: Terms, policy: Policy) -> Receipt:
        """Replace the routing domains and hosts of the owner, no others'. Raises PolicyFaults."""

        def changes(held: Held) -> Changes:
            terms.require(held.snapshot.revision)
            _refuse(self.faults(terms.owner, policy))
            return amendments.with_part(held.snapshot, terms.owner, amendments.with_held_secrets(held.snapshot, policy))

        return self._write(terms, changes, frozenset(domain.id for domain in policy.routing_domains))

    def put_domain(self, terms: Terms, domain: RoutingDomain) -> Receipt:
        """Add or replace one routing domain. Raises PolicyFaults, and ConflictError if it is another owner's."""

        def changes(held: Held) -> Changes:
            terms.require(held.changed_at.get(domain.id))
            before = None
            if domain.id in held.snapshot.domains:
                before = amendments.domain_of(held.snapshot, domain.id, terms.owner)
            _refuse(self.domain_faults(domain))
            return _changed(held, terms, with_held_secrets(domain, before))

        return self._write(terms, changes, frozenset({domain.id}))

    def delete_domain(self, terms: Terms, domain_id: str) -> Receipt:
        """Remove one routing domain. Raises NotFoundError, ConflictError."""

        def changes(held: Held) -> Changes:
            terms.require(held.changed_at.get(domain_id))
            amendments.domain_of(held.snapshot, domain_id, terms.owner)
            return Changes({domain_id: None})

        return self._write(terms, changes, frozenset({domain_id}))

    def put_record(self, terms: Terms, domain_id: str, record: LookupRecord) -> Receipt:
        """Add or replace the record of (VSID, customer address). Raises NotFoundError, ConflictError, PolicyFaults.

        Pointers of faults are relative to the record, except those of faults elsewhere in its domain.
        """

        def changes(held: Held) -> Changes:
            terms.require(held.changed_at.get(domain_id))
            domain = amendments.domain_of(held.snapshot, domain_id, terms.owner)
            if record in domain.lookup_records:
                return Changes()
            changed = amendments.with_record(domain, record)
            _refuse(amendments.relative_to_last_record(changed, self.domain_faults(changed)))
            return _changed(held, terms, changed)

        return self._write(terms, changes, frozenset({domain_id}))

    def delete_record(self, terms: Terms, domain_id: str, vsid: int, customer_address: str) -> Receipt:
        """Remove the record of (VSID, customer address). Raises NotFoundError, ConflictError, PolicyFaults."""

        def changes(held: Held) -> Changes:
            terms.require(held.changed_at.get(domain_id))
            domain = amendments.domain_of(held.snapshot, domain_id, terms.owner)
            changed = amendments.without_record(domain, vsid, customer_address)
            _refuse(self.domain_faults(changed))
            return _changed(held, terms, changed)

        return self._write(terms, changes, frozenset({domain_id}))

    def rollback(self, terms: Terms, revision: int) -> Receipt:
        """Make a kept revision, all owners' parts, the present one. Raises RevisionUnknown, PolicyFaults."""

        def changes(held: Held) -> Changes:
            terms.require(held.snapshot.revision)
            wanted = self._usable().load(revision)
            # The ports may be others than they were then; certificates may have expired, which is no reason to refuse.
            _refuse(validation.faults(wanted.policy(), self._ports, held=amendments.domains_of(wanted)))
            return held.snapshot.changes_to(wanted)

        return self._write(terms, changes, frozenset())

    def _write(self, terms: Terms, changes_of: Callable[[Held], Changes], named: frozenset[str]) -> Receipt:
        """Make one transaction; `named` are the routing domains that it is about, changed or not."""
        with self._writer:
            store = self._usable()
            acknowledged = self._acknowledged(store, terms)
            if acknowledged is not None:
                return Receipt(acknowledged, named)
            revision = self._held.snapshot.revision
            changes = changes_of(self._held)
            touched = frozenset(changes.domains)
            if touched or changes.hosts or terms.key:
                revision = store.commit(changes, terms.owner, revision, terms.key, terms.digest)
                self._accept(revision, changes)
                # The addresses of hosts matter to every routing domain that has a record on them.
                self._program(None if changes.hosts or self._lost else touched)
                self._lost = None
            elif self.programmed.failure or named & self.programmed.errors.keys():
                self._program(None)
            return Receipt(revision, named | touched)

    def _acknowledged(self, store: Store, terms: Terms) -> int | None:
        known = store.idempotent(terms.owner, terms.key) if terms.key else None
        if known is None:
            return None
        if known.request_digest != terms.digest:
            raise KeyReusedError(f"{terms.key!r} was sent with another request, which made revision {known.revision}")
        return known.revision

    def _accept(self, revision: int, changes: Changes) -> None:
        changed_at = dict(self._held.changed_at)
        for domain_id, owned in changes.domains.items():
            self._unfit.pop(domain_id, None)
            if owned is None:
                changed_at.pop(domain_id, None)
                self._claims.remove(domain_id)
            else:
                changed_at[domain_id] = revision
                self._claims.put(owned.domain)
        snapshot = amendments.after(self._held.snapshot, changes, revision)
        self._held = Held(snapshot, snapshot.policy(), changed_at)
        if changes.hosts:
            self._claims.put_hosts(self._held.policy.hosts)

    def _program(self, changed: frozenset[str] | None) -> None:
        """Hand over what is accepted; a domain that does not fit the ports must not keep all others from it."""
        policy, unfit = self._held.policy, dict(self._unfit)
        if unfit:
            policy = replace(policy, routing_domains=tuple(d for d in policy.routing_domains if d.id not in unfit))
        self._worker.submit(self._held.snapshot.revision, policy, changed, unfit)

    def _usable(self) -> Store:
        if isinstance(self._store, StoreError):
            raise self._store
        return self._store


def _changed(held: Held, terms: Terms, domain: RoutingDomain) -> Changes:
    before = held.snapshot.domains.get(domain.id)
    return Changes() if before and before.domain == domain else Changes({domain.id: Owned(terms.owner, domain)})


def _refuse(faults: Iterable[Fault]) -> None:
    found: Collection[Fault] = list(faults)
    if found:
        raise PolicyFaults(found)
