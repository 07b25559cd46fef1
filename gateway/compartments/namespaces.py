"""Names for network namespaces in /run/netns, where `ip netns` finds them."""

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

DIRECTORY = Path("/run/netns")
OF_THIS_THREAD = Path("/proc/thread-self/ns/net")

_MS_BIND, _MS_REC, _MS_SHARED = 1 << 12, 1 << 14, 1 << 20
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


def prepare() -> None:
    """Make the directory, shared among mount namespaces as `ip netns add` does, so that a removal reaches them all."""
    DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    try:
        _mount("", DIRECTORY, _MS_SHARED | _MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: it is no mount point yet
            raise
        _mount(str(DIRECTORY), DIRECTORY, _MS_BIND | _MS_REC)
        _mount("", DIRECTORY, _MS_SHARED | _MS_REC)


def names() -> Iterator[str]:
    """Yield the names in the directory."""
    if DIRECTORY.exists():
        yield from (entry.name for entry in DIRECTORY.iterdir())


def path(name: str) -> str:
    """Return where a namespace of this name is."""
    return str(DIRECTORY / name)


def identity(name: str) -> int | None:
    """Return the inode of the namespace with this name, or None if there is no namespace behind the name."""
    try:
        status = (DIRECTORY / name).stat()
    except FileNotFoundError:
        return None
    return status.st_ino if status.st_dev == OF_THIS_THREAD.stat().st_dev else None


def keep(name: str) -> int:
    """Give the calling thread's namespace a name, under which it stays when the thread ends; return its inode.

    What a daemon left there that was killed between the two steps, an empty file, is taken over.
    """
    file = DIRECTORY / name
    file.touch(mode=0o444)
    _mount(str(OF_THIS_THREAD), file, _MS_BIND)
    return file.stat().st_ino


def forget(name: str) -> None:
    """Take a name away, if it is there. The namespace ends with the last process and socket in it."""
    file = DIRECTORY / name
    if _libc.umount2(os.fsencode(file), _MNT_DETACH) and ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        raise _error(file)
    file.unlink(missing_ok=True)


def _mount(source: str, target: Path, flags: int) -> None:
    if _libc.mount(source.encode(), os.fsencode(target), b"none", flags, None):
        raise _error(target)


def _error(file: Path) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{os.strerror(code)}; namespaces are named by mounts: the gateway needs CAP_SYS_ADMIN", file)
