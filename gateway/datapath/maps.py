"""BPF maps: single entries, batches, per-CPU values, and shared memory of mmapable arrays."""

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy
import numpy.typing

from gateway.datapath.layout import Layout
from gateway.datapath.libbpf import BatchOptions, BpfError, MapInfo, check, library, object_info
from gateway.datapath.map_definition import MapDefinition, MapType

Buffer: TypeAlias = bytes | numpy.typing.NDArray[Any]
Bytes: TypeAlias = numpy.typing.NDArray[numpy.uint8]

BATCH = 65_536
_BATCH_BYTES = 16 << 20
_ENOTSUPP = 524  # the kernel's own number for a map type without batch operations
_PAGE = mmap.PAGESIZE
_PER_CPU = (MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH)


class MapError(BpfError):
    """An operation on a map failed; the message names the map and the operation."""


def _row(data: bytes) -> Bytes:
    return numpy.frombuffer(data, numpy.uint8).reshape(1, -1)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def possible_cpus() -> int:
    """Count the CPUs that per-CPU maps have values for."""
    return check(library.libbpf_num_possible_cpus(), "counting possible CPUs")


class Map:
    """An open map. Keys and values are bytes of exactly `key_size` and `value_size`; failures are MapError."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd, self.name = fd, name
        info = object_info(fd, MapInfo, f"map {name}: reading its description")
        self.id: int = info.id
        self.type: int = info.type
        self.flags: int = info.map_flags
        self.key_size: int = info.key_size
        self.value_size: int = info.value_size
        self.max_entries: int = info.max_entries
        self._btf = (info.btf_id, info.btf_key_type_id, info.btf_value_type_id)
        per_cpu = self.type in _PER_CPU
        self._stride = _round_up(self.value_size, 8)
        self.entry_size = self._stride * possible_cpus() if per_cpu else self.value_size
        self._memory: Bytes | None = None

    @classmethod
    def from_pin(cls, path: Path) -> "Map":
        """Open a pinned map; its name is the file's."""
        return cls(check(library.bpf_obj_get(os.fsencode(path)), f"opening the pinned map {path}"), path.name)

    def close(self) -> None:
        """Give back the file descriptor; mapped memory stays valid."""
        os.close(self.fd)

    def definition(self) -> MapDefinition:
        """Return the layout with which the map was made."""
        btf_id, key, value = self._btf
        layout = self.layout() if btf_id else None
        return MapDefinition(
            type=self.type,
            flags=self.flags,
            key_size=self.key_size,
            value_size=self.value_size,
            key=layout.dtype(key) if layout and key else None,
            value=layout.dtype(value) if layout and value else None,
        )

    def layout(self) -> Layout:
        """Return the types of the object that the map was made for; it must carry BTF."""
        return Layout.of_kernel(self._btf[0])

    def lookup(self, key: bytes) -> bytes | None:
        """Return the value of a key (per-CPU: all CPUs' values, each rounded up to 8 bytes), None if absent."""
        self._require(key, self.key_size, "key")
        value = ctypes.create_string_buffer(self.entry_size)
        result = library.bpf_map_lookup_elem(self.fd, key, value)
        if result == -errno.ENOENT:
            return None
        self._check(result, "looking up", key)
        return value.raw

    def lookup_percpu(self, key: bytes, dtype: numpy.typing.DTypeLike = numpy.uint64) -> numpy.typing.NDArray[Any]:
        """Return the values of a key in a per-CPU map, one element of `dtype` per CPU; zero where the key is absent."""
        found = self.lookup(key) or bytes(self.entry_size)
        return self._by_cpu(numpy.frombuffer(found, numpy.uint8)).view(dtype)[0, :, 0]

    def read_percpu(self, dtype: numpy.typing.DTypeLike = numpy.uint64) -> numpy.typing.NDArray[Any]:
        """Return all values of a per-CPU array map, shape (max_entries, CPUs), in a few system calls."""
        return self._by_cpu(self.entries()[1]).view(dtype)[:, :, 0]

    def sum_percpu(self, dtype: numpy.typing.DTypeLike = numpy.uint64) -> numpy.typing.NDArray[Any]:
        """Add up what the CPUs counted in a per-CPU array map; `dtype` consists of 64-bit counters. One per entry."""
        sums = [self._by_cpu(values).view(numpy.uint64).sum(axis=1) for _, values in self._batches()]
        return numpy.concatenate(sums).view(dtype)[:, 0]

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Set a value: flags 0 any, 1 only if absent (EEXIST), 2 only if present (ENOENT)."""
        self._require(key, self.key_size, "key")
        self._require(value, self.entry_size, "value")
        self._check(library.bpf_map_update_elem(self.fd, key, value, flags), "updating", key)

    def delete(self, key: bytes) -> bool:
        """Remove a key; False if it was absent."""
        self._require(key, self.key_size, "key")
        result = library.bpf_map_delete_elem(self.fd, key)
        if result == -errno.ENOENT:
            return False
        self._check(result, "deleting", key)
        return True

    def update_many(self, keys: Buffer, values: Buffer, flags: int = 0) -> None:
        """Set many values, in slices; not atomic. On an error the entries before the named one are in place."""
        key_bytes, value_bytes = self._rows(keys, self.key_size, "keys"), self._rows(values, self.entry_size, "values")
        if len(key_bytes) != len(value_bytes):
            raise ValueError(f"map {self.name}: {len(key_bytes)} keys for {len(value_bytes)} values")
        options = BatchOptions(elem_flags=flags)
        for first in range(0, len(key_bytes), BATCH):
            key_slice, value_slice = key_bytes[first : first + BATCH], value_bytes[first : first + BATCH]
            count = ctypes.c_uint32(len(key_slice))
            result = library.bpf_map_update_batch(
                self.fd, key_slice.ctypes.data, value_slice.ctypes.data, ctypes.byref(count), ctypes.byref(options)
            )
            self._check_batch(result, "updating", key_slice, count.value, first)

    def delete_many(self, keys: Buffer) -> None:
        """Remove many keys, all of which must be present, in slices; not atomic."""
        key_bytes = self._rows(keys, self.key_size, "keys")
        for first in range(0, len(key_bytes), BATCH):
            key_slice = key_bytes[first : first + BATCH]
            count = ctypes.c_uint32(len(key_slice))
            result = library.bpf_map_delete_batch(self.fd, key_slice.ctypes.data, ctypes.byref(count), None)
            self._check_batch(result, "deleting", key_slice, count.value, first)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over all entries; one that comes or goes meanwhile may be missed."""
        keys, values = self.entries()
        return ((key.tobytes(), value.tobytes()) for key, value in zip(keys, values, strict=True))

    def entries(self) -> tuple[Bytes, Bytes]:
        """Return all keys (n, key_size) and values (n, value bytes), by batch where the map type can."""
        slices = list(self._batches())
        keys = [key for key, _ in slices] or [numpy.empty((0, self.key_size), numpy.uint8)]
        values = [value for _, value in slices] or [numpy.empty((0, self.entry_size), numpy.uint8)]
        return numpy.concatenate(keys), numpy.concatenate(values)

    def mmap(self) -> Bytes:
        """Return the memory of an array map made with BPF_F_MMAPABLE, shared with the programs; mapped once for all."""
        if self._memory is None:
            length = _round_up(self.max_entries * self._stride, _PAGE)
            try:
                memory = mmap.mmap(self.fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            except OSError as error:
                raise MapError(error.errno or 0, f"map {self.name}: mapping {length} bytes") from error
            self._memory = numpy.frombuffer(memory, numpy.uint8)[: self.max_entries * self._stride]
        return self._memory

    def records(self, dtype: numpy.typing.DTypeLike) -> numpy.typing.NDArray[Any]:
        """`mmap()` as records: one per entry if `dtype` is the value's, or the memory cut into smaller ones."""
        dtype, memory = numpy.dtype(dtype), self.mmap()
        if dtype.itemsize == self.value_size:
            return numpy.ndarray((self.max_entries,), dtype, memory, strides=(self._stride,))
        return memory.view(dtype)

    def _batches(self) -> Iterator[tuple[Bytes, Bytes]]:
        size = max(1, min(self.max_entries, BATCH, _BATCH_BYTES // max(1, self.entry_size)))
        start, position = None, ctypes.create_string_buffer(max(self.key_size, 8))
        while True:
            keys = numpy.empty((size, self.key_size), numpy.uint8)
            values = numpy.empty((size, self.entry_size), numpy.uint8)
            count = ctypes.c_uint32(size)
            result = library.bpf_map_lookup_batch(
                self.fd, start, position, keys.ctypes.data, values.ctypes.data, ctypes.byref(count), None
            )
            if result == -errno.ENOSPC:  # a bucket of the hash table holds more than a batch
                size *= 2
                continue
            if result == -_ENOTSUPP:
                yield from self._one_by_one()
                return
            if result != -errno.ENOENT:
                self._check(result, "reading", b"")
            yield keys[: count.value], values[: count.value]
            if result:
                return
            start = position

    def _one_by_one(self) -> Iterator[tuple[Bytes, Bytes]]:
        key, following = None, ctypes.create_string_buffer(self.key_size)
        while (result := library.bpf_map_get_next_key(self.fd, key, following)) == 0:
            key = following.raw
            value = self.lookup(key)
            if value is not None:
                yield (_row(key), _row(value))
        if result != -errno.ENOENT:
            self._check(result, "reading", b"")

    def _by_cpu(self, values: Bytes) -> Bytes:
        """Shape values as (entries, CPUs, value_size), without the padding to 8 bytes."""
        if self.type not in _PER_CPU:
            raise TypeError(f"map {self.name} has no per-CPU values")
        return numpy.ascontiguousarray(values.reshape(-1, possible_cpus(), self._stride)[:, :, : self.value_size])

    def _rows(self, data: Buffer, size: int, what: str) -> Bytes:
        rows = numpy.frombuffer(data, numpy.uint8) if isinstance(data, bytes) else numpy.ascontiguousarray(data)
        if rows.nbytes % size:
            raise ValueError(f"map {self.name}: {what} of {rows.nbytes} bytes are no multiple of {size}")
        return rows.reshape(-1).view(numpy.uint8).reshape(-1, size)

    def _require(self, data: bytes, size: int, what: str) -> None:
        if len(data) != size:
            raise ValueError(f"map {self.name}: a {what} has {size} bytes, not {len(data)}")

    def _check(self, result: int, action: str, key: bytes) -> None:
        if result < 0:
            full = result in (-errno.E2BIG, -errno.ENOSPC)
            mend = f"it holds at most {self.max_entries} entries" if full else ""
            raise MapError(-result, f"map {self.name}: {action} {key.hex() or 'entries'}", mend)

    def _check_batch(self, result: int, action: str, keys: Bytes, done: int, first: int) -> None:
        if result < 0:
            key = keys[done].tobytes() if done < len(keys) else b""
            self._check(result, f"{action} entry {first + done}, key", key)
