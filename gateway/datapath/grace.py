"""Wait until no BPF program that began before still runs."""

import ctypes
import errno
import os

_SYS_MEMBARRIER = {"x86_64": 324, "aarch64": 283}[os.uname().machine]
_MEMBARRIER_CMD_GLOBAL = 1
_libc = ctypes.CDLL(None, use_errno=True)


def grace() -> None:
    """Return after an RCU grace period: what a packet read before this call is read by no packet any more.

    membarrier(2) of all CPUs is synchronize_rcu() in the kernel, and XDP programs run within RCU read sections.
    """
    if _libc.syscall(ctypes.c_long(_SYS_MEMBARRIER), _MEMBARRIER_CMD_GLOBAL, 0, 0):
        code = ctypes.get_errno()
        mend = "; boot without nohz_full" if code == errno.EINVAL else ""
        raise OSError(code, f"waiting for running BPF programs with membarrier: {os.strerror(code)}{mend}")
