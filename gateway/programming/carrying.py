"""Connections from one version of the datapath to the next, where the two cannot share the maps that hold them.

Entries keep their places, so regions are carried only if a line of them is the same in both versions; else all
connections begin anew, and so do those of a region that does not fit into the new map.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy
import numpy.typing

from gateway.datapath.connections import WAYS, WORDS_PER_LINE, Entries, Words
from gateway.datapath.layout import Layout
from gateway.datapath.loader import Datapath
from gateway.programming.moving import follow, steady

Records: TypeAlias = numpy.typing.NDArray[Any]

_OF_A_LINE = ("connections", "ends6", "addresses6")  # what union learned_line says of it


@dataclass(frozen=True, slots=True)
class _Side:
    """The maps of one version."""

    layout: Layout
    domains: Records
    table: Words

    @classmethod
    def of(cls, datapath: Datapath) -> "_Side":
        maps = datapath.maps
        layout = maps["domains"].layout()
        domains = maps["domains"].records(layout.struct("domain"))
        return cls(layout, domains, maps["connections"].mmap().view(numpy.uint64).reshape(-1, WORDS_PER_LINE))

    def kinds(self) -> list[Any]:
        fields: Mapping[str, Any] = self.layout.struct("learned_line").fields or {}
        return [fields.get(name) for name in _OF_A_LINE]

    def place(self, number: int, family: str) -> tuple[int, int]:
        row = self.domains[number]
        return int(row[f"connections{family}"]), int(row[f"connections{family}_lines"])

    def in_use(self, number: int, family: str) -> Entries:
        return Entries.in_use(self.table, self.domains[number], family)


class Carrying:
    """From the version that forwards, `old`, to the one that is to replace it."""

    def __init__(self, old: Datapath, new: Datapath) -> None:
        """Give every domain the number that it has, and its connections if they can be carried."""
        self._old, self._new = _Side.of(old), _Side.of(new)
        self._before: dict[tuple[int, str], Entries] = {}  # what was carried last, by domain's number and IP family
        alike = self._old.domains.dtype.names == self._new.domains.dtype.names
        alike &= self._old.kinds() == self._new.kinds()
        for number in numpy.flatnonzero(self._old.domains["id"].any(axis=1)).tolist():
            if alike and self._fits(number):
                _copy_fields(self._old.domains[number : number + 1], self._new.domains[number : number + 1])
                self._new.domains["moving"][number] = 0
                for family in WAYS:
                    new_entries = self._new.in_use(number, family)
                    self._before[number, family] = Entries(new_entries.addresses.copy(), new_entries.ends.copy())
            else:
                self._new.domains["id"][number] = self._old.domains["id"][number]
        self.catch_up()

    def catch_up(self) -> None:
        """Carry what has come, changed or gone in the old version since the last time.

        To be called before packets come to the new version, so that it knows nearly all of them, and again when none
        can be in the old one any more. Where a region has grown in the new version, what it holds is let be.
        """
        for (number, family), before in self._before.items():
            old, new = self._old.in_use(number, family), self._new.in_use(number, family)
            stays = self._old.place(number, family) == self._new.place(number, family)
            if stays and len(new.ends) == len(before.ends):
                self._before[number, family] = follow(steady(old), before, new)

    def _fits(self, number: int) -> bool:
        return all(sum(self._old.place(number, family)) <= len(self._new.table) for family in WAYS)


def _copy_fields(source: Records, target: Records) -> None:
    for name in source.dtype.names or ():
        if name in (target.dtype.names or ()) and source[name].shape == target[name].shape:
            target[name] = source[name]
