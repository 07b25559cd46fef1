"""Work of this thread inside a network namespace: the kernel takes interface numbers to be those of the caller's."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.lab.namespaces import NAMESPACES

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    here, there = (os.open(path, os.O_RDONLY) for path in ("/proc/thread-self/ns/net", NAMESPACES / namespace))
    try:
        _enter(there)
        try:
            yield
        finally:
            _enter(here)
    finally:
        os.close(here)
        os.close(there)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns: entering a network namespace")
