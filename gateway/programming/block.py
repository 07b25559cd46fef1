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
        self.lines = 0

    def add(self, data: numpy.typing.NDArray[Any]) -> int:
        """Append an array, filled up with zeros to whole lines; return its first line."""
        first = self.lines
        raw = numpy.ascontiguousarray(data).reshape(-1).view(numpy.uint8)
        lines = -(-len(raw) // LINE_BYTES)
        padded = numpy.zeros(lines * LINE_BYTES, numpy.uint8)
        padded[: len(raw)] = raw
        self._parts.append(padded)
        self.lines += lines
        return first

    def reserve(self, lines: int) -> int:
        """Append zeros to be `fill`ed later; return the first line."""
        return self.add(numpy.zeros(lines * LINE_BYTES, numpy.uint8))

    def finish(self, header: numpy.typing.NDArray[Any]) -> Bytes:
        """Return the block, with `header` over its first bytes."""
        block = numpy.concatenate(self._parts)
        raw = numpy.ascontiguousarray(header).reshape(-1).view(numpy.uint8)
        block[: len(raw)] = raw
        return block
