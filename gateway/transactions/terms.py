"""The terms on which a write is made, its receipt, and why it may be refused besides faults of the policy."""

from dataclasses import dataclass


class NotFoundError(Exception):
    """The routing domain or record is not there."""


class ConflictError(Exception):
    """The routing domain came in through another plug-in."""


class PreconditionError(Exception):
    """What is to be changed has another revision than the caller expects."""


class KeyReusedError(Exception):
    """An idempotency key came with a request that is not the one it was first used for."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Who writes, and on which terms.

    `expected`: revisions of the resource, as text, one of which it must have; "*" is any. `key` makes the write happen
    once, however often it is sent; `digest` tells whether it is the same request that comes again.
    """

    owner: str
    expected: frozenset[str] | None = None
    key: str | None = None
    digest: bytes = b""

    def require(self, revision: int | None) -> None:
        """Raise PreconditionError unless a resource of this revision (None: it is not there) is what is expected."""
        if self.expected is None or (revision is not None and self.expected & {"*", str(revision)}):
            return
        has = "is not there" if revision is None else f"has revision {revision}"
        raise PreconditionError(f"expected {', '.join(sorted(self.expected))}, but it {has}; read it again and repeat")


@dataclass(frozen=True, slots=True)
class Receipt:
    """An accepted write: its revision, and the routing domains that it is about."""

    revision: int
    domains: frozenset[str]
