"""What the store holds at a revision, and what a transaction changes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from gateway.policy.model import Host, Policy, RoutingDomain


@dataclass(frozen=True, slots=True)
class Owned:
    """A routing domain and who pushed it."""

    owner: str
    domain: RoutingDomain


@dataclass(frozen=True, slots=True)
class Changes:
    """What a transaction changes. Domains by id, None removes one; hosts by owner, all of that owner's."""

    domains: Mapping[str, Owned | None] = field(default_factory=dict)
    hosts: Mapping[str, tuple[Host, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state at a revision; revision 0 is the empty state before the first. Domains are in the order they came."""

    revision: int
    domains: Mapping[str, Owned]
    hosts: Mapping[str, tuple[Host, ...]]

    def policy(self) -> Policy:
        """All of it as one policy document."""
        hosts = tuple(host for of_owner in self.hosts.values() for host in of_owner)
        return Policy(hosts, tuple(owned.domain for owned in self.domains.values()))

    def changes_to(self, other: "Snapshot") -> Changes:
        """Return the changes that make this state that of the other snapshot, as a rollback needs them."""
        ids = dict.fromkeys((*self.domains, *other.domains))
        owners = dict.fromkeys((*self.hosts, *other.hosts))
        return Changes(
            {at: other.domains.get(at) for at in ids if self.domains.get(at) != other.domains.get(at)},
            {at: other.hosts.get(at, ()) for at in owners if self.hosts.get(at) != other.hosts.get(at)},
        )


@dataclass(frozen=True, slots=True)
class Transaction:
    """An entry of the history; `changed` and `removed` are names of routing domains."""

    revision: int
    time: datetime
    author: str
    changed: tuple[str, ...]
    removed: tuple[str, ...]


class Acknowledged(NamedTuple):
    """What was answered under an idempotency key: the digest of that request and the revision that it made."""

    request_digest: bytes
    revision: int
