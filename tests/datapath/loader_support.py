"""What the loader's tests share: sample objects, a BPF file system, a network namespace with a veth pair, traffic."""

import ctypes
import errno
import os
import signal
import socket
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gateway.datapath.build import build
from gateway.datapath.loader import Datapath

SAMPLE = Path(__file__).parent / "programs" / "sample.bpf.c"
XDP_DROP, XDP_PASS = 1, 2
FRAME = bytes.fromhex("02000000000102000000000288b5") + bytes(50)
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs and makes network namespaces")


def sample(directory: Path, version: int = 1, *defines: str, section: str = "xdp") -> Path:
    """Compile the sample program as one of its versions."""
    name = "-".join((str(version), *defines, section))
    source = directory / name / "sample.bpf.c"
    source.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"#define VERSION {version}", f'#define SECTION "{section}"', *(f"#define {name}" for name in defines)]
    source.write_text("\n".join([*lines, SAMPLE.read_text()]))
    return build(source, source.parent / "sample.bpf.o")


@contextmanager
def mounted_bpffs(directory: Path) -> Iterator[Path]:
    """Mount a BPF file system of its own."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


@contextmanager
def own_network() -> Iterator[None]:
    """Move this thread into a new network namespace with the veth pair e0, e1."""
    with Path("/proc/thread-self/ns/net").open() as before:
        assert _libc.unshare(_CLONE_NEWNET) == 0
        try:
            for names in ("default", "all"):  # no frames but the test's
                Path(f"/proc/sys/net/ipv6/conf/{names}/disable_ipv6").write_text("1")
            ip("link set lo up")
            add_veth_pair()
            yield
        finally:
            assert _libc.setns(before.fileno(), _CLONE_NEWNET) == 0


def add_veth_pair() -> None:
    ip("link add e0 type veth peer name e1")
    ip("link set e0 up")
    ip("link set e1 up")


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def index(name: str) -> int:
    return socket.if_nametoindex(name)


def frames_counted(datapath: Datapath, sent: int | None = None) -> dict[int, int]:
    """How many frames each version of the sample has counted, once the last of `sent` has come through."""
    deadline = time.monotonic() + 10
    while True:
        counts = datapath.maps["received"].read_percpu().sum(axis=1)
        if sent is None or counts.sum() == sent or time.monotonic() > deadline:
            return {version: int(count) for version, count in enumerate(counts) if count}


@contextmanager
def frames_sent(interface: str) -> Iterator[Callable[[], int]]:
    """Send frames from another process for as long as the context lasts; the function stops it and tells how many."""
    stop_read, stop_write = os.pipe()
    count_read, count_write = os.pipe()
    child = os.fork()
    if child == 0:
        with _never_returning():
            _send_until_stopped(interface, stop_read, count_write)
    os.read(count_read, 1)

    def stop() -> int:
        os.write(stop_write, b".")
        return int(os.read(count_read, 32))

    try:
        yield stop
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for fd in (stop_read, stop_write, count_read, count_write):
            os.close(fd)


def _send_until_stopped(interface: str, stop: int, count: int) -> None:
    os.set_blocking(stop, False)
    sent, started, stopped = 0, False, b""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((interface, 0))
        while not stopped:
            try:
                sent += bool(sender.send(FRAME))
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # the veth's queue is full: this frame was not taken
                    raise
            if sent and not started:
                started = bool(os.write(count, b"."))
            with suppress(BlockingIOError):
                stopped = os.read(stop, 1)
    os.write(count, str(sent).encode())


def killed_after(step: int, action: Callable[[Callable[[str], None]], None]) -> bool:
    """Run `action(checkpoint)` in a child that kills itself at checkpoint number `step`; False if it got through."""
    child = os.fork()
    if child == 0:
        remaining = iter(range(step, -1, -1))

        def checkpoint(_: str) -> None:
            if next(remaining) == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        with _never_returning():
            action(checkpoint)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


@contextmanager
def _never_returning() -> Iterator[None]:
    """End a forked child with what it was asked to do: it must not go on as a second pytest."""
    try:
        yield
        os._exit(0)
    finally:
        traceback.print_exc()
        os._exit(1)
