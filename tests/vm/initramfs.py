"""A root file system for an emulated machine, in the kernel's own format: what this machine has, at the same places."""

import itertools
import re
import stat
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

_ALIGNMENT = 4
_TRAILER = "TRAILER!!!"


class Initramfs:
    """An archive that is written file by file ("newc", see the kernel's driver-api/early-userspace/buffer-format)."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._numbers = itertools.count(1)
        self._written: set[Path] = set()

    def directory(self, path: Path) -> None:
        if path.name and path not in self._written:
            self.directory(path.parent)
            self._entry(path, stat.S_IFDIR | 0o755)

    def file(self, path: Path, content: bytes, executable: bool = False, modified: float | None = None) -> None:
        if path not in self._written:
            self.directory(path.parent)
            self._entry(path, stat.S_IFREG | (0o755 if executable else 0o644), content, modified)

    def link(self, path: Path, target: str) -> None:
        self.directory(path.parent)
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def copy(self, path: Path) -> None:
        """Copy a file of this machine, or a tree of them, to the same place, with its age: Python's caches go by it."""
        place = path.parent.resolve() / path.name
        if path.is_dir():
            for each in sorted(path.iterdir()):
                self.copy(each)
        elif path.exists():
            status = path.stat()
            self.file(place, path.read_bytes(), bool(status.st_mode & stat.S_IXUSR), status.st_mtime)

    def copy_programs(self, paths: Iterable[Path]) -> None:
        """Copy programs and shared objects with all that they are linked to."""
        programs = list(paths)
        listing = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
        libraries = {Path(name) for name in re.findall(r"(/\S+) \(0x", listing)}
        for path in (*programs, *sorted(libraries)):
            self.copy(path)

    def close(self) -> None:
        self._entry(Path(_TRAILER), 0)

    def _entry(self, path: Path, mode: int, content: bytes = b"", modified: float | None = None) -> None:
        self._written.add(path)
        name = str(path).lstrip("/").encode() + b"\0"
        changed = int(time.time() if modified is None else modified)
        fields = (next(self._numbers), mode, 0, 0, 1, changed, len(content), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        for part in (header, content):
            self._output.write(part + bytes(-len(part) % _ALIGNMENT))
