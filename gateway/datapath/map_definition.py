"""What a map is to the programs that use it, and whether another version of them could use it too."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

import numpy

Dtype: TypeAlias = numpy.dtype[Any]

_RDONLY_PROG = 1 << 7


class MapType(IntEnum):
    """The map types of linux/bpf.h that are treated specially."""

    PROG_ARRAY = 3
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_PERCPU_HASH = 10
    DEVMAP = 14
    DEVMAP_HASH = 25


@dataclass(frozen=True, slots=True)
class MapDefinition:
    """What must be equal for a program to use a map; `key` and `value` are None where the map carries no BTF."""

    type: int
    flags: int
    key_size: int
    value_size: int
    key: Dtype | None
    value: Dtype | None

    def difference(self, wanted: "MapDefinition") -> str | None:
        """Say what of this map is not as wanted, or None."""
        if self.type != wanted.type:
            return f"type is {self.type}, wanted {wanted.type}"
        if self._own_flags() != wanted._own_flags():
            return f"flags are {self.flags:#x}, wanted {wanted.flags:#x}"
        return _difference("key", self.key_size, wanted.key_size, self.key, wanted.key) or _difference(
            "value", self.value_size, wanted.value_size, self.value, wanted.value
        )

    def _own_flags(self) -> int:
        kernel_adds = _RDONLY_PROG if self.type in (MapType.DEVMAP, MapType.DEVMAP_HASH) else 0
        return self.flags & ~kernel_adds


def _difference(what: str, have: int, want: int, dtype: Dtype | None, wanted: Dtype | None) -> str | None:
    if dtype is not None and wanted is not None:
        return _dtype_difference(what, dtype, wanted)
    return f"{what} has {have} bytes, wanted {want}" if have != want else None


def _dtype_difference(what: str, have: Dtype, want: Dtype) -> str | None:
    """Name the first field that differs, by its path."""
    if have == want:
        return None
    if have.fields is None or want.fields is None:
        return f"{what} is {have}, wanted {want}"
    for name in [*want.fields, *(set(have.fields) - set(want.fields))]:
        if name not in have.fields or name not in want.fields:
            return f"{what}.{name} is {'new' if name in want.fields else 'gone'}"
        (dtype, offset), (wanted, wanted_offset) = have.fields[name][:2], want.fields[name][:2]
        if offset != wanted_offset:
            return f"{what}.{name} lies at byte {offset}, wanted {wanted_offset}"
        if dtype != wanted:
            return _dtype_difference(f"{what}.{name}", dtype, wanted)
    return f"{what} has {have.itemsize} bytes, wanted {want.itemsize}"
