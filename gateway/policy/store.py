"""The policy of one gateway on disk: numbered, durable transactions in one SQLite file.

A commit writes the domains that it changes and no others, so the state of a revision is the latest document of each
domain up to it. Secrets in it are encrypted with a key that lies in a file beside it. Calls are to be serialised by
the caller. All errors are StoreErrors that say how to mend them.
"""

import os
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from gateway.policy.document import parse_domain_json, parse_json, to_json
from gateway.policy.faults import PolicyFaults
from gateway.policy.model import Host, Policy, RoutingDomain
from gateway.policy.sealing import KEY_FILE, Seal, sync_directory
from gateway.policy.snapshot import Acknowledged, Changes, Owned, Snapshot, Transaction
from gateway.policy.store_errors import RevisionConflict, RevisionUnknown, StoreError, corrupted, translated

KEPT_REVISIONS = 1000
_FORMAT = 2
_WITHOUT_SECRETS = 1  # a format that is read, and left for the present one
_SCHEMA = (
    """CREATE TABLE revisions (revision INTEGER PRIMARY KEY, time REAL NOT NULL, author TEXT NOT NULL,
       idempotency_key TEXT, request_digest BLOB NOT NULL) STRICT""",
    """CREATE UNIQUE INDEX revisions_by_key ON revisions (author, idempotency_key)
       WHERE idempotency_key IS NOT NULL""",
    """CREATE TABLE domains (domain_id TEXT NOT NULL, revision INTEGER NOT NULL, position INTEGER NOT NULL,
       owner TEXT NOT NULL, name TEXT NOT NULL, document BLOB, UNIQUE (domain_id, revision)) STRICT""",
    "CREATE INDEX domains_by_revision ON domains (revision)",
    """CREATE TABLE hosts (owner TEXT NOT NULL, revision INTEGER NOT NULL, document BLOB NOT NULL,
       UNIQUE (owner, revision)) STRICT""",
    f"PRAGMA user_version = {_FORMAT}",
)
_DOMAINS_AT = """
SELECT domain_id, owner, document FROM domains AS one WHERE document IS NOT NULL AND revision =
    (SELECT MAX(revision) FROM domains AS other WHERE other.domain_id = one.domain_id AND other.revision <= ?)
ORDER BY position"""
_HOSTS_AT = """
SELECT owner, document FROM hosts AS one WHERE revision =
    (SELECT MAX(revision) FROM hosts AS other WHERE other.owner = one.owner AND other.revision <= ?)
ORDER BY owner"""
# Of what changed after :before and up to :oldest, the newest state belongs to revision :oldest, older ones to none.
_PRUNING = (
    *(
        f"""DELETE FROM {table} WHERE {key} IN
                (SELECT {key} FROM {table} WHERE revision > :before AND revision <= :oldest)
            AND revision < (SELECT MAX(revision) FROM {table} AS other
                            WHERE other.{key} = {table}.{key} AND other.revision <= :oldest)"""
        for table, key in (("domains", "domain_id"), ("hosts", "owner"))
    ),
    "DELETE FROM domains WHERE document IS NULL AND revision > :before AND revision <= :oldest",
    "DELETE FROM revisions WHERE revision < :oldest",
)


class Store:
    """The store in one file of mode 0600, and `secrets.key` beside it; they are made if they are not there."""

    def __init__(self, path: Path, kept_revisions: int = KEPT_REVISIONS) -> None:
        self.path = path
        self._kept = kept_revisions
        with translated(path):
            _create(path)
            self._seal = Seal(path.with_name(KEY_FILE))
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._open()
        except BaseException:
            self._database.close()
            raise

    def _open(self) -> None:
        with translated(self.path):
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            found = self._database.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, _WITHOUT_SECRETS, _FORMAT):
            raise StoreError(
                f"{self.path}: has format {found}, and this release reads formats {_WITHOUT_SECRETS} to {_FORMAT}: "
                "run the release that wrote it, or move the file away and push the policy again"
            )
        with self._transaction():
            for statement in _SCHEMA if found == 0 else ():
                self._database.execute(statement)
            if found == _WITHOUT_SECRETS:
                self._seal_digests()
            self._prune(self.revision())

    def _seal_digests(self) -> None:
        """Bring a store of the former format to the present one: a digest tells of the secrets in a request."""
        rows = self._database.execute("SELECT revision, request_digest FROM revisions WHERE request_digest != x''")
        for revision, digest in rows.fetchall():
            sealed = self._seal.seal_bytes(digest)
            self._database.execute("UPDATE revisions SET request_digest = ? WHERE revision = ?", (sealed, revision))
        self._database.execute(f"PRAGMA user_version = {_FORMAT}")

    def close(self) -> None:
        """End the connection; the store is not to be used afterwards."""
        self._database.close()

    def revision(self) -> int:
        """Return the number of the last transaction, 0 before the first."""
        return self._kept_range()[1]

    def commit(
        self,
        changes: Changes,
        author: str,
        expected_revision: int | None = None,
        idempotency_key: str | None = None,
        request_digest: bytes = b"",
    ) -> int:
        """Make one transaction of these changes and return its revision once it is safely on disk.

        Raises RevisionConflict if `expected_revision` is given and is not the last one, StoreFull, StoreCorrupted.
        """
        with self._transaction():
            current = self.revision()
            if expected_revision is not None and expected_revision != current:
                raise RevisionConflict(expected_revision, current)
            revision = current + 1
            sealed_digest = self._seal.seal_bytes(request_digest) if request_digest else b""
            entry = (revision, time.time(), author, idempotency_key, sealed_digest)
            self._database.execute("INSERT INTO revisions VALUES (?, ?, ?, ?, ?)", entry)
            for number, (domain_id, owned) in enumerate(changes.domains.items()):
                self._write_domain(domain_id, (revision << 20) + number, revision, owned)
            for owner, hosts in changes.hosts.items():
                row = (owner, revision, self._packed(Policy(hosts=hosts)))
                self._database.execute("INSERT INTO hosts VALUES (?, ?, ?)", row)
            self._prune(revision)
        return revision

    def _write_domain(self, domain_id: str, position: int, revision: int, owned: Owned | None) -> None:
        """Write one domain, which keeps its position among the others for as long as it exists."""
        before = self._database.execute(
            "SELECT position, owner, name, document IS NOT NULL FROM domains WHERE domain_id = ? "
            "ORDER BY revision DESC LIMIT 1",
            (domain_id,),
        ).fetchone()
        if before and before[3]:
            position = before[0]
        if owned:
            self._insert_domain(
                domain_id, revision, position, owned.owner, owned.domain.name, self._packed(owned.domain)
            )
        elif before and before[3]:
            self._insert_domain(domain_id, revision, position, before[1], before[2], None)

    def _insert_domain(self, *row: str | int | bytes | None) -> None:
        self._database.execute("INSERT INTO domains VALUES (?, ?, ?, ?, ?, ?)", row)

    def load(self, revision: int | None = None) -> Snapshot:
        """Return the state at a revision, the last one unless given. Raises RevisionUnknown, StoreCorrupted."""
        oldest, newest = self._kept_range()
        wanted = newest if revision is None else revision
        if not oldest <= wanted <= newest:
            raise RevisionUnknown(wanted, oldest, newest)
        with translated(self.path):
            domains = self._database.execute(_DOMAINS_AT, (wanted,)).fetchall()
            hosts = self._database.execute(_HOSTS_AT, (wanted,)).fetchall()
        return Snapshot(
            wanted,
            {domain_id: Owned(owner, self._domain(domain_id, packed)) for domain_id, owner, packed in domains},
            {owner: of_owner for owner, packed in hosts if (of_owner := self._hosts(owner, packed))},
        )

    def _domain(self, domain_id: str, packed: bytes) -> RoutingDomain:
        with self._readable(f"routing domain {domain_id}"):
            return parse_domain_json(zlib.decompress(packed), unseal=self._seal.unseal)

    def _hosts(self, owner: str, packed: bytes) -> tuple[Host, ...]:
        with self._readable(f"the hosts of {owner}"):
            return parse_json(zlib.decompress(packed)).hosts

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except (zlib.error, PolicyFaults) as error:
            raise corrupted(self.path, f"{what} cannot be read ({error})") from error

    def history(self, limit: int = 100) -> list[Transaction]:
        """Return the last transactions, newest first."""
        with translated(self.path):
            entries = self._database.execute(
                "SELECT revision, time, author FROM revisions ORDER BY revision DESC LIMIT ?", (limit,)
            ).fetchall()
            return [
                Transaction(
                    revision,
                    datetime.fromtimestamp(seconds, UTC),
                    author,
                    self._names(revision, "document IS NOT NULL"),
                    self._names(revision, "document IS NULL"),
                )
                for revision, seconds, author in entries
            ]

    def _names(self, revision: int, condition: str) -> tuple[str, ...]:
        rows = self._database.execute(f"SELECT name FROM domains WHERE revision = ? AND {condition}", (revision,))
        return tuple(name for (name,) in rows)

    def idempotent(self, author: str, key: str) -> Acknowledged | None:
        """Tell what this author was answered under this key, as long as the revision is kept; None if nothing."""
        with translated(self.path):
            row = self._database.execute(
                "SELECT request_digest, revision FROM revisions WHERE author = ? AND idempotency_key = ?", (author, key)
            ).fetchone()
        if row is None:
            return None
        sealed_digest, revision = row
        return Acknowledged(self._seal.unseal_bytes(sealed_digest) if sealed_digest else b"", revision)

    def _kept_range(self) -> tuple[int, int]:
        """Return the oldest and the newest revision that can be loaded. The empty state goes with revision 1."""
        with translated(self.path):
            oldest, newest = self._database.execute("SELECT MIN(revision), MAX(revision) FROM revisions").fetchone()
        return (0, newest or 0) if oldest in (None, 1) else (oldest, newest)

    def _prune(self, revision: int) -> None:
        bounds = {"before": self._kept_range()[0], "oldest": revision - self._kept + 1}
        if bounds["oldest"] > bounds["before"]:
            for statement in _PRUNING:
                self._database.execute(statement, bounds)

    def _packed(self, value: Policy | RoutingDomain) -> bytes:
        return zlib.compress(to_json(value, seal=self._seal.seal), 1)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with translated(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")


def _create(path: Path) -> None:
    """Make the file, readable by its owner alone, and its name durable."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    sync_directory(path.parent)
