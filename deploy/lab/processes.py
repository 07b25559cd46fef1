"""The processes of a lab: started in namespaces, written down, waited for, ended by id."""

import ctypes
import errno
import os
import select
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.lab.errors import ProcessError
from deploy.lab.namespaces import enter

POLL_SECONDS = 0.01
PATIENCE_SECONDS = 60  # most take less than one; emulated machines take twenty times as long
SYS_PIDFD_GETFD = 438  # on all machines; neither Python nor Debian 12's C library names it
LISTENING = "0A"


@dataclass(frozen=True, slots=True)
class Process:
    """`started` is the kernel's start time, which tells a process from a later one of the same id."""

    name: str
    pid: int
    started: str

    @classmethod
    def of(cls, name: str, pid: int) -> "Process":
        return cls(name, pid, _start_time(pid) or "")

    def runs(self) -> bool:
        return bool(self.started) and _start_time(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Processes:
    """All processes of one lab; its directory holds the list of them and their logs."""

    directory: Path

    @property
    def _list(self) -> Path:
        return self.directory / "processes"

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def start(self, name: str, namespace: str, *command: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a process in a session of its own, so that an interrupt at the terminal leaves it to `end_all`."""
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                enter(namespace, *command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        return self.record(name, child.pid)

    def record(self, name: str, pid: int) -> Process:
        process = Process.of(name, pid)
        with self._list.open("a") as text:
            text.write(f"{process.name} {process.pid} {process.started}\n")
        return process

    def find(self, name: str) -> Process:
        """Return the newest one of that name."""
        return [process for process in self if process.name == name][-1]

    def __iter__(self) -> Iterator[Process]:
        if self._list.exists():
            for line in self._list.read_text().splitlines():
                name, pid, started = line.split()
                yield Process(name, int(pid), started)

    def wait(
        self, process: Process, condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Wait until the process meets the condition. Errors: ProcessError when it dies or the time is over."""

        def met() -> bool:
            if condition():
                return True
            if not process.runs():
                raise ProcessError(f"{process.name} ended before it {what}: {self._last_words(process)}")
            return False

        try:
            wait_until(met, f"{process.name} {what}", seconds)
        except TimeoutError as error:
            raise ProcessError(f"{error}: {self._last_words(process)}") from error

    def end_all(self) -> None:
        for process in reversed(list(self)):
            end(process)
        self._list.unlink(missing_ok=True)

    def _last_words(self, process: Process) -> str:
        return self.log(process.name).read_text(errors="replace")[-2000:].strip() or "its log is empty"


class Readiness:
    """The socket that a service manager names to a daemon (sd_notify(3)), which says READY=1 there."""

    def __init__(self, address: Path) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def __enter__(self) -> "Readiness":
        self.address.unlink(missing_ok=True)
        self._socket.bind(str(self.address))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def said(self) -> bool:
        try:
            return "READY=1" in self._socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return False


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something that tells nobody when it happens. Errors: TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(POLL_SECONDS)


def end(process: Process, first: signal.Signals = signal.SIGTERM, seconds: float = 10) -> None:
    """End a process and wait until it is gone; what does not end in time is killed."""
    if not process.runs():
        return
    with suppress(ProcessLookupError):  # it has ended by itself meanwhile
        handle = os.pidfd_open(process.pid)
        try:
            signal.pidfd_send_signal(handle, first)
            if not select.select([handle], [], [], seconds)[0]:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [])
        finally:
            os.close(handle)


def sockets_of(process: Process) -> Iterator[socket.socket]:
    """Yield the sockets of a process, to be set as it cannot be told to; each for the turn of the loop."""
    libc, handle = ctypes.CDLL(None, use_errno=True), os.pidfd_open(process.pid)
    try:
        for number in [int(entry.name) for entry in Path(f"/proc/{process.pid}/fd").iterdir()]:
            descriptor = libc.syscall(SYS_PIDFD_GETFD, handle, number, 0)
            if descriptor < 0:
                if ctypes.get_errno() == errno.EBADF:
                    continue  # closed meanwhile
                raise ProcessError(f"a file of {process.name}: {os.strerror(ctypes.get_errno())}")
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                continue
            with socket.socket(fileno=descriptor) as one:
                yield one
    finally:
        os.close(handle)


def listens(process: Process, port: int) -> bool:
    """Tell whether a TCP socket of the process's namespace listens on that port."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                return True
    return False


def _start_time(pid: int) -> str | None:
    """Return the kernel's start time of a process, None when it has ended, reaped or not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]
