"""Wait until no BPF program that began before still runs.

XDP and tc programs run with softirqs disabled, and a CPU that has them disabled runs no other thread (PREEMPT_RT is
another matter). So a thread that has been on every CPU since knows that all of them have ended. That takes some 50 us
per CPU; membarrier(2), synchronize_rcu() in the kernel, takes 10 to 40 ms: it is the way where the other is barred.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ONLINE = Path("/sys/devices/system/cpu/online")
_REALTIME = Path("/sys/kernel/realtime")
_SYS_MEMBARRIER = {"x86_64": 324, "aarch64": 283}[os.uname().machine]
_MEMBARRIER_CMD_GLOBAL = 1
_libc = ctypes.CDLL(None, use_errno=True)


def grace() -> None:
    """Return when what a packet read before this call is read by no packet any more."""
    if _REALTIME.exists() or not _visit_every_cpu():
        _membarrier()


def _visit_every_cpu() -> bool:
    """Run on each CPU for a moment; False if this process may not run on all of them."""
    with _restored_scheduling():
        for cpu in _cpus(_ONLINE.read_text()):
            try:
                os.sched_setaffinity(0, {cpu})
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                return False
    return True


@contextmanager
def _restored_scheduling() -> Iterator[None]:
    """Let this thread go before all ordinary ones, where that is permitted, and put it back afterwards."""
    affinity, policy, priority = os.sched_getaffinity(0), os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setaffinity(0, affinity)
        with suppress(PermissionError):
            os.sched_setscheduler(0, policy, priority)


def _cpus(ranges: str) -> Iterator[int]:
    """Expand the kernel's "0-3,8"."""
    for part in ranges.strip().split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _membarrier() -> None:
    if _libc.syscall(ctypes.c_long(_SYS_MEMBARRIER), _MEMBARRIER_CMD_GLOBAL, 0, 0):
        code = ctypes.get_errno()
        mend = "; let the gateway run on all CPUs, or boot without nohz_full" if code == errno.EINVAL else ""
        raise OSError(code, f"waiting for running BPF programs with membarrier: {os.strerror(code)}{mend}")
