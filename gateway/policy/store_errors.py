"""What can go wrong with the store, and how each is mended."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LEAST_FREE_BYTES = 1 << 20


class StoreError(Exception):
    """The store cannot do what it was asked; the text names the file and the mend. Nothing of it took effect."""


class StoreFull(StoreError):  # noqa: N818 - a state, by its name
    """The file system has no room for the transaction."""


class StoreCorrupted(StoreError):  # noqa: N818 - a state, by its name
    """The file does not hold what was written to it."""


class RevisionConflict(StoreError):  # noqa: N818 - a state, by its name
    """Another transaction came first."""

    def __init__(self, expected: int, current: int) -> None:
        super().__init__(
            f"revision {expected} was expected and {current} is the last: read the policy again and repeat"
        )
        self.expected, self.current = expected, current


class RevisionUnknown(StoreError):  # noqa: N818 - a state, by its name
    """The revision is not kept any more, or not made yet."""

    def __init__(self, revision: int, oldest: int, newest: int) -> None:
        super().__init__(f"revision {revision} is not kept: revisions {oldest} to {newest} are")
        self.revision, self.oldest, self.newest = revision, oldest, newest


def corrupted(path: Path, detail: str) -> StoreCorrupted:
    """Return the error of a store that holds something else than was written."""
    return StoreCorrupted(
        f"{path}: the policy store is damaged: {detail}: "
        f"restore the file from a backup, or move {path}* away and push the policy again"
    )


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the file system into those of the store."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _of_database(path, error) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(path) from error
        raise StoreError(f"{path}: {error.strerror}: make its directory and give the gateway access to it") from error


def _of_database(path: Path, error: sqlite3.DatabaseError) -> StoreError:
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    if name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and _free_bytes(path) < _LEAST_FREE_BYTES):
        return _full(path)
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return corrupted(path, str(error))
    if name.startswith("SQLITE_BUSY"):
        return StoreError(f"{path}: another process writes to the policy store: end it, one gateway owns the store")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return StoreError(f"{path}: {error}: give the gateway write access to the file and to its directory")
    return StoreError(f"{path}: {error} ({name}): see what the kernel's log says of this disk")


def _full(path: Path) -> StoreFull:
    return StoreFull(f"{path}: no space left on its file system: make room in {path.parent}; nothing was changed")


def _free_bytes(path: Path) -> int:
    space = os.statvfs(path.parent)
    return space.f_bavail * space.f_frsize
