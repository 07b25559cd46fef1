"""The datapath's one hash table, built whole: open addressing, cells in order of their homes, never changed in place.

Its reading side is `find_cell` in gateway/datapath/bpf/arena.h.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy
import numpy.typing

from gateway.programming.block import BlockBuilder, CapacityError

Words: TypeAlias = numpy.typing.NDArray[numpy.uint32]

PROBE_LIMIT = 24
_MULTIPLIERS = (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F)  # tried before the table is made larger
_HALF_HOMES = (3, 4, 6, 8)  # for each cell: the sizes that are tried
_SHARING_HOMES = 0.05  # the share of the cells that may be a second probe, which no branch predictor foresees
_HOMES_MAX = 64  # a cell; a table that still does not hold its cells was written to make it fail
_SPARSE_CELLS = 256  # tables up to this size are worth the room that spares them a second probe


@dataclass(frozen=True, slots=True)
class Region:
    """Where a table lies: its first line, the number of its homes, the multiplier of its hash."""

    first: int
    size: int
    multiplier: int

    def values(self) -> tuple[int, int, int]:
        """Return the members of struct region."""
        return self.first, self.size, self.multiplier


def fold(words: Words) -> Words:
    """Make one word of each row of four; `fold` of arena.h."""
    folded = words[:, 0].copy()
    for column, by in ((1, 9), (2, 18), (3, 27)):
        word = words[:, column]
        folded ^= (word << numpy.uint32(by)) | (word >> numpy.uint32(32 - by))
    return folded


def add_table(builder: BlockBuilder, cells: numpy.typing.NDArray[Any]) -> Region:
    """Place cells (struct cell or cell6, with different keys, none of them 0) into a new table of the block.

    Raises CapacityError.
    """
    keys = cells["key"]
    folded = fold(keys) if keys.ndim == 2 else keys
    positions, size, multiplier = _place(folded)
    # One empty cell behind the last ends every search.
    table = numpy.zeros(max(size, int(positions.max(initial=-1)) + 1) + 1, cells.dtype)
    table[positions] = cells
    return Region(builder.add(table), size, multiplier)


def _place(folded: Words) -> tuple[numpy.typing.NDArray[numpy.int64], int, int]:
    """Choose each cell's position, and the size and multiplier that lead there. Raises CapacityError."""
    count = len(folded)
    size, multipliers = _roomy_enough(folded)
    rank = numpy.arange(count)
    while True:
        for multiplier in multipliers:
            homes = _homes(folded, size, multiplier)
            order = numpy.argsort(homes, kind="stable")
            ordered = homes[order]
            places = numpy.maximum.accumulate(ordered - rank) + rank
            if count == 0 or int((places - ordered).max()) < PROBE_LIMIT - 1:
                positions = numpy.empty(count, numpy.int64)
                positions[order] = places
                return positions, size, multiplier
        size, multipliers = size + size // 4 + 1, _MULTIPLIERS
        if size > _HOMES_MAX * count:
            raise CapacityError(
                f"{PROBE_LIMIT} or more of {count} addresses hash alike, which does not happen by chance: choose others"
            )


def _roomy_enough(folded: Words) -> tuple[int, tuple[int, ...]]:
    """Find the smallest size at which nearly every cell has a home of its own, and the multiplier that does it.

    Addresses that follow each other do with half the room that random ones need.
    """
    count = len(folded)
    for numerator in _HALF_HOMES:
        size = max(1, count * numerator // 2)
        for multiplier in _MULTIPLIERS:
            taken = numpy.count_nonzero(numpy.bincount(_homes(folded, size, multiplier), minlength=size))
            if count - taken <= count * _SHARING_HOMES:
                return size, (multiplier,)
    return size if count <= _SPARSE_CELLS else max(1, count * 2), _MULTIPLIERS


def _homes(folded: Words, size: int, multiplier: int) -> numpy.typing.NDArray[numpy.int64]:
    hashes = (folded * numpy.uint32(multiplier)).astype(numpy.uint64)
    return ((hashes * numpy.uint64(size)) >> numpy.uint64(32)).astype(numpy.int64)
