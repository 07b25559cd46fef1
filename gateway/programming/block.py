"""Blocks: contiguous runs of the arena's 64-byte lines, complete before any packet sees them.

All line numbers inside a block count from its start, so a block is the same bytes wherever it lies.
"""

from typing import Any, TypeAlias

import numpy
import numpy.typing

Bytes: TypeAlias = numpy.typing.NDArray[numpy.uint8]

LINE_BYTES = 64


class CapacityError(Exception):
    """Something that the policy needs does not fit into the datapath's tables; the message says what, and the mend."""


class BlockBuilder:
    """Collects the parts of a block, line by line."""

    def __init__(self) -> None:
        self._parts: list[Bytes] = []
        self._places: dict[int, int] = {}  # first line -> part
        self.lines = 0

    def add(self, data: numpy.typing.NDArray[Any]) -> int:
        """Append an array, filled up with zeros to whole lines; return its first line."""
        raw = _raw(data)
        first = self.reserve(-(-len(raw) // LINE_BYTES))
        self.fill(first, raw)
        return first

    def reserve(self, lines: int) -> int:
        """Append zeros to be filled later; return the first line."""
        first = self.lines
        self._places[first] = len(self._parts)
        self._parts.append(numpy.zeros(lines * LINE_BYTES, numpy.uint8))
        self.lines += lines
        return first

    def fill(self, first: int, data: numpy.typing.NDArray[Any]) -> None:
        """Write an array into what was reserved at line `first`."""
        raw = _raw(data)
        self._parts[self._places[first]][: len(raw)] = raw

    def finish(self, header: numpy.typing.NDArray[Any]) -> Bytes:
        """Return the block, with `header` over its first bytes."""
        self.fill(0, header)
        return numpy.concatenate(self._parts)


def _raw(data: numpy.typing.NDArray[Any]) -> Bytes:
    return numpy.ascontiguousarray(data).reshape(-1).view(numpy.uint8)
