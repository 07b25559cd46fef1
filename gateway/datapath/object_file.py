"""A compiled BPF object on its way into the kernel: sizes, constants and shared maps are set, then it is loaded."""

import ctypes
import errno
import hashlib
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy

from gateway.datapath import libbpf
from gateway.datapath.layout import Layout, raw_btf
from gateway.datapath.libbpf import BpfError, check, check_pointer, library
from gateway.datapath.map_definition import MapDefinition, MapType
from gateway.datapath.maps import Map
from gateway.datapath.pins import Checkpoint, pin

_LOG_BYTES = 16 << 20  # per program. Kernels before 6.4 end with ENOSPC when it is longer; unused pages cost nothing
_LOG_LINES_SHOWN = 12
KERNEL_NAME_LENGTH = 15


class LoadError(BpfError):
    """The object could not be opened, prepared or loaded; nothing that ran before has changed."""


class ObjectFile:
    """An opened object: `maps` and `programs` are libbpf handles by name; a section `.data.mine` is the map `mine`."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self._handle = path, handle
        self._layout = Layout(raw_btf(check_pointer(library.bpf_object__btf(handle), f"reading the BTF of {path}")))
        maps = libbpf.iterate(library.bpf_object__next_map, handle)
        programs = libbpf.iterate(library.bpf_object__next_program, handle)
        self.maps: dict[str, int] = {_map_name(map_): map_ for map_ in maps}
        self.programs: dict[str, int] = {library.bpf_program__name(program).decode(): program for program in programs}
        if len({name[:KERNEL_NAME_LENGTH] for name in self.programs}) != len(self.programs):
            raise LoadError(errno.EINVAL, f"{path}: two programs share their first {KERNEL_NAME_LENGTH} characters")

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["ObjectFile"]:
        """Open an object; what was loaded and not pinned is gone when the context ends."""
        handle = library.bpf_object__open_file(os.fsencode(path), None)
        if not handle:
            raise LoadError(ctypes.get_errno(), f"opening {path}", "is it a BPF object? build it again")
        try:
            yield cls(path, handle)
        finally:
            library.bpf_object__close(handle)

    def definition(self, name: str) -> MapDefinition:
        """Return the layout of a map as the object defines it."""
        map_ = self.maps[name]
        key, value = library.bpf_map__btf_key_type_id(map_), library.bpf_map__btf_value_type_id(map_)
        return MapDefinition(
            type=library.bpf_map__type(map_),
            flags=library.bpf_map__map_flags(map_),
            key_size=library.bpf_map__key_size(map_),
            value_size=library.bpf_map__value_size(map_),
            key=self._layout.dtype(key) if key else None,
            value=self._layout.dtype(value) if value else None,
        )

    def set_sizes(self, sizes: Mapping[str, int]) -> None:
        """Set the max_entries of maps."""
        for name, entries in sizes.items():
            attempted = f"{self.path}: giving map {name} {entries} entries"
            check(library.bpf_map__set_max_entries(self._map(name), entries), attempted)

    def set_constants(self, rodata: Mapping[str, Any]) -> None:
        """Set `const volatile` variables by name."""
        if not rodata:
            return
        size = ctypes.c_size_t()
        map_ = self._map("rodata")
        address = library.bpf_map__initial_value(map_, ctypes.byref(size))
        memory = numpy.ctypeslib.as_array((ctypes.c_uint8 * size.value).from_address(address))
        section = memory.view(self._layout.dtype(library.bpf_map__btf_value_type_id(map_)))[0]
        for name, value in rodata.items():
            if name not in (section.dtype.names or ()):
                raise LoadError(errno.ENOENT, f"{self.path}: setting the constant {name}")
            section[name] = value

    def share(self, map_: Map) -> None:
        """Let the programs use an existing map instead of a new one."""
        attempted = f"{self.path}: sharing map {map_.name}"
        if map_.type == MapType.PROG_ARRAY or map_.name.startswith("rodata"):
            raise LoadError(errno.EINVAL, attempted, "program arrays and constants belong to one version")
        handle = self._map(map_.name)
        difference = map_.definition().difference(self.definition(map_.name))
        if difference:
            raise LoadError(errno.EINVAL, attempted, f"{difference}; let it be made anew")
        check(library.bpf_map__reuse_fd(handle, map_.fd), attempted)

    def load(self) -> None:
        """Make the maps and have the programs verified."""
        with mmap.mmap(-1, _LOG_BYTES * len(self.programs), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as logs:
            address = ctypes.addressof(ctypes.c_char.from_buffer(logs))
            for number, program in enumerate(self.programs.values()):
                library.bpf_program__set_log_buf(program, address + number * _LOG_BYTES, _LOG_BYTES)
            result = library.bpf_object__load(self._handle)
            if result < 0:
                raise LoadError(-result, f"loading {self.path}: {self._verdict(logs)}")

    def pin(self, directory: Path, checkpoint: Checkpoint) -> None:
        """Pin all maps and programs below `directory`."""
        for kind, handles, descriptor in (
            ("maps", self.maps, library.bpf_map__fd),
            ("programs", self.programs, library.bpf_program__fd),
        ):
            (directory / kind).mkdir(parents=True)
            for name, handle in handles.items():
                pin(descriptor(handle), directory / kind / name)
                checkpoint(f"pinned {name}")

    def _map(self, name: str) -> int:
        if name not in self.maps:
            raise LoadError(errno.ENOENT, f"{self.path}: map {name}", f"it has {', '.join(self.maps)}")
        return self.maps[name]

    def _verdict(self, logs: mmap.mmap) -> str:
        """Say which program the verifier refused, after how many instructions, and quote the end of its log.

        libbpf closes everything after a failure, so that only the log tells which program it was.
        """
        for number, name in enumerate(self.programs):
            start = number * _LOG_BYTES
            log = logs[start : logs.find(b"\0", start)].decode(errors="replace")
            if log:
                processed = re.findall(r"^processed (\d+) insns", log, re.MULTILINE)
                count = f"{processed[-1]} instructions" if processed else "an unknown number of instructions"
                last_lines = "\n".join(log.splitlines()[-_LOG_LINES_SHOWN:])
                return f"the verifier refused program {name} after {count}:\n{last_lines}\n"
        return "making its maps (libbpf names the map on standard error)"


def identity(path: Path, rodata: Mapping[str, Any]) -> str:
    """Name one version of the datapath, by the object's bytes and the constants it was loaded with."""
    constants = repr(sorted((name, str(value)) for name, value in rodata.items()))
    return hashlib.sha256(path.read_bytes() + constants.encode()).hexdigest()[:32]


def _map_name(map_: int) -> str:
    name: str = library.bpf_map__name(map_).decode()
    if library.bpf_map__is_internal(map_):  # "datapath.rodata", ".data.mine"; bpffs refuses dots
        name = name.partition(".")[2].removeprefix("data.").replace(".", "_")
    return name
