"""Structures and enumerations of a BPF object as numpy sees them, read from its BTF (Documentation/bpf/btf.rst).

Integers are native; `__be16`, `__be32` and `__be64` become big-endian fields, so that Python's numbers are stored in
network order by numpy itself. Members of anonymous structs and unions appear in the enclosing structure.
"""

import ctypes
import functools
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeAlias

import numpy

from gateway.datapath.libbpf import check_pointer, library

_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_TRIPLE = struct.Struct("=III")
_SIGNED, _BOOLEAN = 1, 4
_LARGEST_INTEGER = 8
_BIG_ENDIAN = {"__be16": ">u2", "__be32": ">u4", "__be64": ">u8"}


Member: TypeAlias = tuple[str, numpy.dtype[Any], int]


class LayoutError(LookupError):
    """A name that the BTF does not hold, or a type that has no numpy counterpart."""


class Kind(IntEnum):
    VOID = 0
    INT = 1
    POINTER = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FORWARD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNCTION = 12
    FUNCTION_PROTOTYPE = 13
    VARIABLE = 14
    DATA_SECTION = 15
    FLOAT = 16
    DECLARATION_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_TRAILER = {Kind.INT: 4, Kind.ARRAY: 12, Kind.VARIABLE: 4, Kind.DECLARATION_TAG: 4}
_ELEMENT = {
    Kind.STRUCT: 12,
    Kind.UNION: 12,
    Kind.ENUM: 8,
    Kind.FUNCTION_PROTOTYPE: 8,
    Kind.DATA_SECTION: 12,
    Kind.ENUM64: 12,
}


@dataclass(frozen=True, slots=True)
class BtfType:
    """One type: `trailer` is what follows the common header, `flag` the kind flag (signed, or sizes of bit-fields)."""

    name: str
    kind: Kind
    flag: bool
    size_or_type: int
    trailer: bytes


class Layout:
    """The types of one BTF blob."""

    def __init__(self, raw: bytes) -> None:
        _, _, _, header_length, type_offset, type_length, string_offset, string_length = _HEADER.unpack_from(raw)
        self._strings = raw[header_length + string_offset :][:string_length]
        self._types = self._parse(raw[header_length + type_offset :][:type_length])
        self._numbers = {(type_.name, type_.kind): number for number, type_ in enumerate(self._types) if type_.name}
        self._dtypes: dict[int, numpy.dtype[Any]] = {}

    @classmethod
    def of(cls, object_path: Path) -> "Layout":
        """Read the layout of a compiled object, once per version of the file."""
        return _of_object(object_path, object_path.stat().st_mtime_ns)

    @classmethod
    def of_kernel(cls, btf_id: int) -> "Layout":
        """Read the layout that was loaded into the kernel with a map, once per BTF."""
        return _of_kernel(btf_id)

    def struct(self, name: str) -> numpy.dtype[Any]:
        """Return the numpy type of `struct name`, `union name` or a typedef, with the offsets and size that C uses."""
        return self.dtype(self._number(name, Kind.STRUCT, Kind.UNION, Kind.TYPEDEF))

    def enum(self, name: str) -> dict[str, int]:
        """Return the constants of `enum name` (clang before 15 does not mark negative ones: avoid them)."""
        type_ = self._types[self._number(name, Kind.ENUM, Kind.ENUM64)]
        code = "I" if type_.kind is Kind.ENUM else "Q"
        constants = struct.iter_unpack(f"=I{code.lower() if type_.flag else code}", type_.trailer)
        return {self._name(name_offset): value for name_offset, value in constants}

    def dtype(self, type_id: int) -> numpy.dtype[Any]:
        """Return the numpy type of a BTF type number."""
        if type_id not in self._dtypes:
            self._dtypes[type_id] = self._convert(self._types[type_id])
        return self._dtypes[type_id]

    def _number(self, name: str, *kinds: Kind) -> int:
        for kind in kinds:
            if (name, kind) in self._numbers:
                return self._numbers[name, kind]
        what = kinds[0].name.lower()
        raise LayoutError(f"no {what} {name} in the BTF: let a map or a global variable mention it, or clang drops it")

    def _name(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(0, offset)].decode()

    def _parse(self, section: bytes) -> list[BtfType]:
        types = [BtfType("", Kind.VOID, False, 0, b"")]
        position = 0
        while position < len(section):
            name_offset, information, size_or_type = _TYPE.unpack_from(section, position)
            position += _TYPE.size
            kind, count = Kind(information >> 24 & 0x1F), information & 0xFFFF
            length = _TRAILER.get(kind, 0) + count * _ELEMENT.get(kind, 0)
            trailer = section[position : position + length]
            types.append(BtfType(self._name(name_offset), kind, bool(information >> 31), size_or_type, trailer))
            position += length
        return types

    def _convert(self, type_: BtfType) -> numpy.dtype[Any]:
        match type_.kind:
            case Kind.TYPEDEF if type_.name in _BIG_ENDIAN:
                return numpy.dtype(_BIG_ENDIAN[type_.name])
            case Kind.TYPEDEF | Kind.VOLATILE | Kind.CONST | Kind.RESTRICT | Kind.TYPE_TAG | Kind.VARIABLE:
                return self.dtype(type_.size_or_type)
            case Kind.INT:
                return _integer(type_)
            case Kind.POINTER:
                return numpy.dtype("u8")
            case Kind.FLOAT:
                return numpy.dtype(f"f{type_.size_or_type}")
            case Kind.ENUM | Kind.ENUM64:
                return numpy.dtype(f"{'i' if type_.flag else 'u'}{type_.size_or_type}")
            case Kind.ARRAY:
                element, _, length = _TRIPLE.unpack(type_.trailer)
                return numpy.dtype((self.dtype(element), (length,)))
            case Kind.STRUCT | Kind.UNION:
                return _record(self._members(type_), type_.size_or_type)
            case Kind.DATA_SECTION:
                return _record(self._variables(type_), type_.size_or_type)
        raise LayoutError(f"{type_.kind.name.lower()} {type_.name} has no size")

    def _members(self, type_: BtfType) -> list[Member]:
        members: list[Member] = []
        for name_offset, member, bits in _TRIPLE.iter_unpack(type_.trailer):
            name = self._name(name_offset)
            if type_.flag and bits >> 24:
                raise LayoutError(f"{type_.name}.{name} is a bit-field: use a whole integer")
            offset = (bits & 0xFFFFFF if type_.flag else bits) // 8
            if name:
                members.append((name, self.dtype(member), offset))
            else:
                members += [(inner, dtype, offset + at) for inner, dtype, at in self._members(self._types[member])]
        return members

    def _variables(self, section: BtfType) -> list[Member]:
        return [
            (self._types[variable].name, self.dtype(variable), offset)
            for variable, offset, _ in _TRIPLE.iter_unpack(section.trailer)
        ]


def raw_btf(btf: int) -> bytes:
    """Return the bytes of a libbpf `struct btf`."""
    size = ctypes.c_uint32()
    data = check_pointer(library.btf__raw_data(btf, ctypes.byref(size)), "reading BTF")
    return ctypes.string_at(data, size.value)


def _take_raw_btf(btf: int) -> bytes:
    """Return the bytes of a libbpf `struct btf` and free it."""
    try:
        return raw_btf(btf)
    finally:
        library.btf__free(btf)


@functools.lru_cache(maxsize=8)
def _of_object(object_path: Path, _modified: int) -> Layout:
    attempted = f"reading the BTF of {object_path}"
    return Layout(_take_raw_btf(check_pointer(library.btf__parse(os.fsencode(object_path), None), attempted)))


@functools.lru_cache(maxsize=8)
def _of_kernel(btf_id: int) -> Layout:
    attempted = f"reading BTF {btf_id} from the kernel"
    return Layout(_take_raw_btf(check_pointer(library.btf__load_from_kernel_by_id(btf_id), attempted)))


def _integer(type_: BtfType) -> numpy.dtype[Any]:
    encoding = type_.trailer[3]
    if encoding & _BOOLEAN:
        return numpy.dtype("?")
    if type_.size_or_type > _LARGEST_INTEGER:
        return numpy.dtype(f"V{type_.size_or_type}")
    return numpy.dtype(f"{'i' if encoding & _SIGNED else 'u'}{type_.size_or_type}")


def _record(members: list[Member], size: int) -> numpy.dtype[Any]:
    return numpy.dtype(
        {
            "names": [name for name, _, _ in members],
            "formats": [dtype for _, dtype, _ in members],
            "offsets": [offset for _, _, offset in members],
            "itemsize": size,
        }
    )
