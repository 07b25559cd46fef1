"""What an access list's block is made of: its bytes, and intervals of numbers in which the same rules match."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy
import numpy.typing

from gateway.policy.model import AccessRule
from gateway.programming.block import LINE_BYTES, Bytes
from gateway.programming.search_tree import Intervals

COUNT_SHIFT = 24
PLACE_BYTES = 16
_TCP, _UDP = 6, 17

Ranges = Sequence[tuple[int, int]]  # of numbers: first, last


class Body:
    """The bytes of a list. What fits into a line lies in one."""

    def __init__(self, header_bytes: int) -> None:
        self._bytes = bytearray(header_bytes)

    def add(self, data: bytes) -> int:
        """Append; return the place."""
        if len(data) <= LINE_BYTES < len(self._bytes) % LINE_BYTES + len(data):
            self._pad(LINE_BYTES)
        place = len(self._bytes) // PLACE_BYTES
        self._bytes += data
        self._pad(PLACE_BYTES)
        return place

    def reserve(self, lines: int) -> int:
        """Append zeros to be filled later; return the first line."""
        self._pad(LINE_BYTES)
        self._bytes += bytes(lines * LINE_BYTES)
        return len(self._bytes) // LINE_BYTES - lines

    def fill(self, first: int, data: numpy.typing.NDArray[Any]) -> None:
        """Write an array over what begins at line `first`."""
        self._bytes[first * LINE_BYTES : first * LINE_BYTES + data.nbytes] = data.tobytes()

    def finish(self, header: Any) -> Bytes:
        """Return the block, with `header` over its first bytes."""
        self._pad(LINE_BYTES)
        self._bytes[: header.nbytes] = header.tobytes()
        return numpy.frombuffer(self._bytes, numpy.uint8)

    def _pad(self, unit: int) -> None:
        self._bytes += bytes(-len(self._bytes) % unit)


def intervals(matching: Iterable[tuple[int, Ranges | None]], bits: int) -> Intervals:
    """Cut the numbers of so many bits where it changes which rules match.

    `matching`: rules as bits, and the numbers that they match; None: all. The values are those that match, as bits.
    """
    edges = {0: 0}
    for rule, ranges in matching:
        for number in _flips(ranges) if ranges is not None else (0,):
            edges[number] = edges.get(number, 0) ^ rule
    edges.pop(1 << bits, None)
    found: Intervals = []
    mask = 0
    for number in sorted(edges):
        mask ^= edges[number]
        if not found or mask != found[-1][1]:
            found.append((number, mask))
    return found


def _flips(ranges: Ranges) -> list[int]:
    """Return the numbers at which membership in a union of ranges changes."""
    flips: list[int] = []
    for first, last in sorted(ranges):
        if flips and first <= flips[-1]:
            flips[-1] = max(flips[-1], last + 1)
        else:
            flips += [first, last + 1]
    return flips


def protocols_of(rule: AccessRule) -> Ranges | None:
    """Return the protocols of a rule, None: all. Rules with ports match TCP and UDP only, whatever else they say."""
    number = rule.protocol_number()
    if rule.source_ports is not None or rule.destination_ports is not None:
        return tuple((each, each) for each in (_TCP, _UDP) if number in (None, each))
    return None if number is None else ((number, number),)
