"""Work in a network namespace other than the process's own.

A thread enters (setns(2) is by thread) and ends with the call: no other work is ever done in the wrong namespace.

- `run_in` calls any function there.
- `socket_in` makes a socket there. It stays in that namespace whichever thread uses it, so a prober makes its sockets
  by this and then uses them from its own event loop.
- `command_in` is the command line that starts a process there.
"""

import ctypes
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")

_OF_THIS_THREAD = "/proc/thread-self/ns/net"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)  # os.setns and os.unshare are Python 3.12's


def run_in(namespace: str, function: Callable[[], Result]) -> Result:
    """Call a function in the network namespace with this path. Raises OSError if it cannot be entered."""

    def enter_and_call() -> Result:
        enter(namespace)
        return function()

    return _in_a_thread(enter_and_call)


def run_in_new(function: Callable[[], Result]) -> Result:
    """Call a function in a new network namespace, which ends with the call unless the function keeps it."""

    def leave_and_call() -> Result:
        _check(
            _libc.unshare(_CLONE_NEWNET),
            "a new network namespace",
            "the gateway needs CAP_SYS_ADMIN, its service no RestrictNamespaces=",
        )
        return function()

    return _in_a_thread(leave_and_call)


def socket_in(
    namespace: str, family: socket.AddressFamily | int, kind: socket.SocketKind | int, protocol: int = 0
) -> socket.socket:
    """Make a socket in the network namespace with this path. Raises OSError."""
    return run_in(namespace, lambda: socket.socket(family, kind, protocol))


def command_in(namespace: str, *command: str) -> list[str]:
    """Return the command line that runs a command there: nsenter execs, so its process id is the command's."""
    return ["nsenter", f"--net={namespace}", "--", *command]


def enter(namespace: str) -> None:
    """Move the calling thread, which must be one of your own, into the namespace with this path. Raises OSError."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def visiting(descriptor: int) -> Iterator[None]:
    """Move the calling thread, one of your own, into a descriptor's namespace and at the end back. Raises OSError."""
    here = os.open(_OF_THIS_THREAD, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(descriptor)
        try:
            yield
        finally:
            _enter(here)
    finally:
        os.close(here)


def _enter(descriptor: int) -> None:
    mend = "is it a network namespace, and have we CAP_SYS_ADMIN?"
    _check(_libc.setns(descriptor, _CLONE_NEWNET), "entering a network namespace", mend)


def _in_a_thread(function: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="namespace") as pool:
        return pool.submit(function).result()


def _check(result: int, what: str, mend: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)}; {mend}", what)
