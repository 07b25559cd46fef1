"""The store: what was acknowledged is there, whatever happens to the process or to the disk."""

import dataclasses
import json
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.document import parse_json
from gateway.policy.model import Host, LookupRecord, Policy, RoutingDomain, VirtualSubnet
from gateway.policy.snapshot import Acknowledged, Changes, Owned
from gateway.policy.store import KEPT_REVISIONS, Store
from gateway.policy.store_errors import RevisionConflict, RevisionUnknown, StoreCorrupted, StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    yield store
    store.close()


@pytest.fixture
def policy(document: dict[str, Any]) -> Policy:
    return parse_json(json.dumps(document).encode())


def domain(number: int, **fields: Any) -> RoutingDomain:
    return RoutingDomain(id=f"00000000-0000-0000-0000-{number:012}", name=f"tenant{number}", **fields)


def put(*domains: RoutingDomain, owner: str = "native") -> Changes:
    return Changes({one.id: Owned(owner, one) for one in domains})


def test_a_new_store_is_empty_and_private(store: Store, path: Path) -> None:
    assert store.revision() == 0
    assert store.load().policy() == Policy()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store.commit(put(domain(1)), "native")
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_what_was_committed_is_there_after_reopening(store: Store, path: Path, policy: Policy) -> None:
    changes = dataclasses.replace(put(*policy.routing_domains), hosts={"native": policy.hosts})
    assert store.commit(changes, "native") == 1
    store.close()
    again = Store(path).load()
    assert (again.revision, again.policy()) == (1, policy)
    assert {owned.owner for owned in again.domains.values()} == {"native"}


def test_a_transaction_changes_what_it_names_and_no_more(store: Store) -> None:
    store.commit(put(domain(1), domain(2), domain(3), owner="a"), "a")
    store.commit(Changes({domain(1).id: None, **put(domain(2, tenant="new"), owner="b").domains}), "b")
    assert store.load().domains == {
        domain(2).id: Owned("b", domain(2, tenant="new")),
        domain(3).id: Owned("a", domain(3)),
    }


def test_domains_keep_the_order_they_came_in(store: Store) -> None:
    store.commit(put(domain(3), domain(1)), "a")
    store.commit(put(domain(2), domain(3, tenant="changed")), "a")
    assert [one.name for one in store.load().policy().routing_domains] == ["tenant3", "tenant1", "tenant2"]


def test_hosts_of_one_owner_are_replaced_without_those_of_another(store: Store) -> None:
    store.commit(Changes(hosts={"a": (Host("h1"), Host("h2"))}), "a")
    store.commit(Changes(hosts={"b": (Host("h3"),)}), "b")
    store.commit(Changes(hosts={"a": (Host("h4"),)}), "a")
    assert store.load().policy().hosts == (Host("h4"), Host("h3"))


def test_every_kept_revision_can_be_loaded_and_rolled_back_to(store: Store) -> None:
    store.commit(put(domain(1), domain(2), owner="a"), "a")
    store.commit(Changes({domain(1).id: None, **put(domain(3), owner="b").domains}, {"b": (Host("h"),)}), "b")
    store.commit(put(domain(2, tenant="changed"), owner="a"), "a")
    first = store.load(1)
    assert store.load(0).policy() == Policy()
    store.commit(store.load().changes_to(first), "operator")
    assert (store.load().domains, store.load().hosts) == (first.domains, first.hosts)
    assert store.revision() == 4


def test_another_writers_revision_is_a_conflict_and_changes_nothing(store: Store) -> None:
    store.commit(put(domain(1)), "a", expected_revision=0)
    with pytest.raises(RevisionConflict, match="revision 0 was expected and 1 is the last"):
        store.commit(put(domain(2)), "b", expected_revision=0)
    assert store.revision() == 1
    assert list(store.load().domains) == [domain(1).id]


def test_an_idempotency_key_is_remembered_for_its_author(store: Store) -> None:
    store.commit(put(domain(1)), "a", idempotency_key="k", request_digest=b"digest")
    assert store.idempotent("a", "k") == Acknowledged(b"digest", 1)
    assert store.idempotent("b", "k") is None
    assert store.commit(put(domain(2)), "b", idempotency_key="k") == 2


def test_history_tells_who_changed_what_newest_first(store: Store) -> None:
    store.commit(put(domain(1), domain(2)), "a")
    store.commit(Changes({domain(1).id: None, domain(9).id: None}), "b")
    second, first = store.history()
    assert (second.revision, second.author, second.changed, second.removed) == (2, "b", (), ("tenant1",))
    assert (first.revision, first.author, first.changed, first.removed) == (1, "a", ("tenant1", "tenant2"), ())
    assert first.time <= second.time
    assert [entry.revision for entry in store.history(limit=1)] == [2]


def rows(path: Path) -> int:
    with sqlite3.connect(path) as database:
        return int(database.execute("SELECT COUNT(*) FROM domains").fetchone()[0])


def test_only_the_kept_revisions_are_kept(path: Path) -> None:
    store = Store(path, kept_revisions=3)
    store.commit(put(domain(1), domain(2), domain(3)), "a")
    store.commit(Changes({domain(3).id: None}), "a")
    for number in range(5):
        store.commit(put(domain(1, tenant=str(number))), "a")
    assert [entry.revision for entry in store.history()] == [7, 6, 5]
    assert [store.load(revision).domains[domain(1).id].domain.tenant for revision in (5, 6, 7)] == ["2", "3", "4"]
    assert list(store.load(5).domains) == [domain(1).id, domain(2).id]
    with pytest.raises(RevisionUnknown, match="revision 4 is not kept: revisions 5 to 7 are"):
        store.load(4)
    with pytest.raises(RevisionUnknown):
        store.load(8)
    assert rows(path) == 4


def test_fewer_revisions_are_kept_when_told_so_later(path: Path) -> None:
    store = Store(path)
    for number in range(5):
        store.commit(put(domain(1, tenant=str(number))), "a")
    store.close()
    assert [entry.revision for entry in Store(path, kept_revisions=2).history()] == [5, 4]
    assert rows(path) == 2


def commit_until_killed(path: Path, acknowledged: int) -> None:
    """Write the number of every revision to the file descriptor after it is acknowledged."""
    store = Store(path)
    while True:
        revision = store.revision() + 1
        changes = put(domain(revision % 3, tenant=str(revision)), domain(7, tenant=str(revision)))
        os.write(acknowledged, b"%d\n" % store.commit(changes, "child"))


def kill_after(path: Path, transactions: int, spin_seconds: float) -> int:
    """Return the last revision that a child acknowledged before it was killed; 0 if none."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            commit_until_killed(path, writing)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as lines:
        seen = [lines.readline() for _ in range(transactions)]
        until = time.perf_counter() + spin_seconds
        while time.perf_counter() < until:
            pass
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        seen += lines.readlines()
    return int(seen[-1]) if seen else 0


def test_kill_at_any_moment_loses_no_acknowledged_revision(path: Path) -> None:
    chance = random.Random(4096)
    last = 0
    for turn in range(40):
        acknowledged = kill_after(path, chance.randrange(8) if turn % 2 else 0, chance.random() * 0.02)
        store = Store(path)
        found = store.revision()
        assert max(last, acknowledged) <= found <= max(last, acknowledged) + 1
        for revision in range(max(1, found - KEPT_REVISIONS + 1), found + 1):
            assert store.load(revision).domains[domain(7).id].domain.tenant == str(revision)
        store.close()
        last = found
    assert last > 40


FILL = """
import sys
from pathlib import Path
from gateway.policy.model import RoutingDomain
from gateway.policy.snapshot import Changes, Owned
from gateway.policy.store import KEPT_REVISIONS, Store
from gateway.policy.store_errors import StoreFull
import os
path = Path(sys.argv[1]) / "policy.db"
store, revision = Store(path), 0
try:
    while True:
        options = {"random": os.urandom(20_000).hex()}
        domain = RoutingDomain(id="00000000-0000-0000-0000-000000000001", name="n", dhcp_options=options)
        revision = store.commit(Changes({domain.id: Owned("a", domain)}), "a")
except StoreFull as full:
    assert "policy.db: no space left" in str(full), full
held = store.load()
assert held.revision == revision > 3, held.revision
store.close()
store = Store(path)
assert store.load() == held
print("refused after", revision)
"""


def test_a_full_disk_refuses_the_transaction_and_keeps_the_last(tmp_path: Path) -> None:
    unshare = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are not allowed here: no small file system can be made without root")
    mount_and_run = 'mount -t tmpfs -o size=1m none "$1" && shift && exec "$@"'
    command = [sys.executable, "-c", FILL, str(tmp_path)]
    done = subprocess.run(
        [*unshare, "sh", "-c", mount_and_run, "sh", str(tmp_path), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused after")


def test_a_file_that_is_no_database_is_named_with_its_mend(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be looked at as one" * 10)
    with pytest.raises(StoreCorrupted, match=rf"{path}: the policy store is damaged: .*restore the file from a backup"):
        Store(path)


def test_a_damaged_document_is_found_when_it_is_read(store: Store, path: Path) -> None:
    records = tuple(
        LookupRecord(6001, f"10.1.{n >> 8}.{n & 255}", "10-10-10-10-10-10", "192.168.1.1") for n in range(999)
    )
    store.commit(put(domain(1, virtual_subnets=(VirtualSubnet(6001, ("10.1.0.0/16",)),), lookup_records=records)), "a")
    store.close()
    with closing(sqlite3.connect(path)) as database:
        ((document,),) = database.execute("SELECT document FROM domains")
        database.execute("UPDATE domains SET document = ?", (document[:100] + bytes(100) + document[200:],))
        database.commit()
    damaged = Store(path)
    with pytest.raises(StoreCorrupted, match="routing domain 00000000-0000-0000-0000-000000000001"):
        damaged.load()
    damaged.close()


def test_a_truncated_store_is_corrupted(store: Store, path: Path) -> None:
    for number in range(50):
        store.commit(put(domain(number)), "a")
    store.close()
    os.truncate(path, 8192)
    with pytest.raises(StoreCorrupted):
        Store(path).load()


def test_a_store_of_another_format_is_left_alone(store: Store, path: Path) -> None:
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="has format 99, and this release reads formats 1 to 2"):
        Store(path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere/policy.db: No such file or directory: make its directory"):
        Store(tmp_path / "nowhere" / "policy.db")
