"""Connections from one version of the datapath to the next, where the two cannot share the maps that hold them.

Entries keep their places, so a region is carried only if a connection has the same size in both versions and the
region fits into the new map. Fields of the same name are copied.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy
import numpy.typing

from gateway.datapath.layout import Layout
from gateway.datapath.loader import Datapath

Records: TypeAlias = numpy.typing.NDArray[Any]

LINE_BYTES = 64
_FAMILIES = (("4", "connection"), ("6", "connection6"))


@dataclass(frozen=True, slots=True)
class _Side:
    """The maps of one version."""

    layout: Layout
    domains: Records
    memory: numpy.typing.NDArray[numpy.uint8]

    @classmethod
    def of(cls, datapath: Datapath) -> "_Side":
        maps = datapath.maps
        layout = maps["domains"].layout()
        return cls(layout, maps["domains"].records(layout.struct("domain")), maps["connections"].mmap())

    def region(self, number: int, family: str, kind: str) -> Records:
        row = self.domains[number]
        first, lines = int(row[f"connections{family}"]), int(row[f"connections{family}_lines"])
        return self.memory[first * LINE_BYTES : (first + lines) * LINE_BYTES].view(self.layout.struct(kind))


class Carrying:
    """From the version that forwards, `old`, to the one that is to replace it."""

    def __init__(self, old: Datapath, new: Datapath) -> None:
        """Give every domain the number that it has, and its connections if they can be carried."""
        self._old, self._new = _Side.of(old), _Side.of(new)
        self._carried: dict[int, dict[str, Records]] = {}  # by number of domain and IP family, as they were
        alike = self._old.domains.dtype.names == self._new.domains.dtype.names and all(
            self._old.layout.struct(kind).itemsize == self._new.layout.struct(kind).itemsize for _, kind in _FAMILIES
        )
        for number in numpy.flatnonzero(self._old.domains["id"].any(axis=1)).tolist():
            if alike and self._fits(number):
                self._carry(number)
            else:
                self._new.domains["id"][number] = self._old.domains["id"][number]

    def complete(self) -> None:
        """Carry the connections that came since; no packet may be in the old version any more.

        Those of a domain whose region has grown meanwhile begin anew.
        """
        for number, families in self._carried.items():
            for family, kind in _FAMILIES:
                place = [f"connections{family}{part}" for part in ("", "_lines", "_used")]
                if self._old.domains[number][place] == self._new.domains[number][place]:
                    old, new = self._regions(number, family, kind)
                    came = (old["meta"] != 0) & (new["meta"] == 0) & ~_same(old, families[family])
                    carried = numpy.zeros(int(came.sum()), new.dtype)
                    _copy_fields(old[came], carried)
                    new[came] = carried

    def _fits(self, number: int) -> bool:
        row = self._old.domains[number]
        ends = [int(row[f"connections{family}"]) + int(row[f"connections{family}_lines"]) for family, _ in _FAMILIES]
        return max(ends) * LINE_BYTES <= len(self._new.memory)

    def _carry(self, number: int) -> None:
        _copy_fields(self._old.domains[number : number + 1], self._new.domains[number : number + 1])
        self._new.domains["growing"][number] = 0
        self._carried[number] = {}
        for family, kind in _FAMILIES:
            old, new = self._regions(number, family, kind)
            self._carried[number][family] = steady = _steady(old)
            _copy_fields(steady, new)

    def _regions(self, number: int, family: str, kind: str) -> tuple[Records, Records]:
        return self._old.region(number, family, kind), self._new.region(number, family, kind)


def _steady(entries: Records) -> Records:
    """A copy without the entries that programs change at this moment: they write an entry's end last."""
    meta = entries["meta"].copy()
    found = entries.copy()
    found["meta"] = numpy.where(entries["meta"] == meta, meta, 0)
    return found


def _same(entries: Records, before: Records) -> Any:
    """Tell which entries are the same connections as before, whatever has become of them."""
    same = (entries["meta"] & 0xFF == before["meta"] & 0xFF) & (before["meta"] != 0)
    for name in ("low", "high", "low_port", "high_port"):
        equal = entries[name] == before[name]
        same &= equal if equal.ndim == 1 else equal.all(axis=1)
    return same


def _copy_fields(source: Records, target: Records) -> None:
    for name in source.dtype.names or ():
        if name in (target.dtype.names or ()) and source[name].shape == target[name].shape:
            target[name] = source[name]
