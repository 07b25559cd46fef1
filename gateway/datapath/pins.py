"""Where the datapath lives in bpffs, and how it changes there without ever being half visible.

    PIN_DIR/current/{maps,programs,identity}   the datapath in use
    PIN_DIR/staged/…                           one that is being made, or the one that was just replaced
    PIN_DIR/links/IFINDEX                      the XDP links

What is made lies in `staged` until it is whole; rename(2) puts it in place, or exchanges it with what it replaces. So
`staged` never holds what is needed after a restart, and `current` is always whole.
"""

import ctypes
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.datapath.libbpf import BpfError, check, library

Checkpoint = Callable[[str], None]

_BPFFS = Path("/sys/fs/bpf")
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)


class PinsBusyError(Exception):
    """Another process holds the lock of the pinned datapath."""


class PinDirectory:
    """The pinned datapath's directory, held by this process alone. Made by `hold`."""

    def __init__(self, path: Path, checkpoint: Checkpoint) -> None:
        self.path, self.checkpoint = path, checkpoint
        self.current, self.staged, self.links = path / "current", path / "staged", path / "links"

    @classmethod
    @contextmanager
    def hold(cls, path: Path, lock_file: Path, checkpoint: Checkpoint = lambda _: None) -> Iterator["PinDirectory"]:
        """Hold `path` (in bpffs, mounted if need be) under an exclusive flock on `lock_file` (on another file system).

        `checkpoint` is called with the name of each step just taken. Raises PinsBusyError if another process holds it.
        """
        with _locked(lock_file):
            _require_bpffs(path)
            pins = cls(path, checkpoint)
            pins.links.mkdir(parents=True, exist_ok=True)
            yield pins

    def establish(self) -> None:
        """Make `staged` the current datapath; there must be none yet."""
        self.staged.rename(self.current)
        self.checkpoint("established")

    def exchange(self) -> None:
        """Make `staged` the current datapath and the current one `staged`, in one step."""
        arguments = (_AT_FDCWD, os.fsencode(self.staged), _AT_FDCWD, os.fsencode(self.current), _RENAME_EXCHANGE)
        if _libc.renameat2(*arguments):
            raise BpfError(ctypes.get_errno(), f"exchanging {self.staged} with {self.current}")
        self.checkpoint("exchanged")

    def discard_staged(self) -> None:
        """Remove whatever is staged."""
        if self.staged.exists():
            shutil.rmtree(self.staged)
            self.checkpoint("discarded")

    def withdraw(self) -> None:
        """Remove the current datapath; what is attached runs on until detached."""
        self.discard_staged()
        self.current.rename(self.staged)
        self.checkpoint("withdrawn")
        self.discard_staged()


def pin(fd: int, path: Path) -> None:
    """Pin a map, program or link."""
    check(library.bpf_obj_pin(fd, os.fsencode(path)), f"pinning {path}")


def open_pin(path: Path) -> int:
    """Open what is pinned and return its file descriptor."""
    return check(library.bpf_obj_get(os.fsencode(path)), f"opening the pin {path}")


@contextmanager
def _locked(lock_file: Path) -> Iterator[None]:
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise PinsBusyError(
                f"{lock_file} is locked by process {file.read().strip()}: stop that daemon first"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _require_bpffs(path: Path) -> None:
    kind = _file_system(path)
    if kind != "bpf" and path.is_relative_to(_BPFFS):
        if _libc.mount(b"bpf", os.fsencode(_BPFFS), b"bpf", 0, None):
            raise BpfError(ctypes.get_errno(), f"mounting a BPF file system at {_BPFFS}")
    elif kind != "bpf":
        raise NotADirectoryError(f"{path} lies in {kind}, not in a BPF file system: mount -t bpf bpf {path.parent}")


def _file_system(path: Path) -> str:
    """Return the type of the file system that holds `path`, which need not exist."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    holding = [
        (len(Path(at).parts), order, kind)
        for order, (_, at, kind, *_) in enumerate(mounts)
        if path.is_relative_to(at.encode().decode("unicode_escape"))
    ]
    return max(holding)[2]
