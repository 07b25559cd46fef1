"""What an access list's block is made of: intervals of numbers, and B-trees over them with nodes of one line.

The reading side is `search` in gateway/datapath/bpf/access_list.h.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any

import numpy
import numpy.typing

from gateway.datapath.layout import Layout
from gateway.policy.model import AccessRule
from gateway.programming.block import LINE_BYTES, Bytes

NODE_WORDS = 8
NODE, COUNT_SHIFT = 0x80000000, 24
PLACE_BYTES = 16
_TCP, _UDP = 6, 17

Ranges = Sequence[tuple[int, int]]  # of numbers: first, last
Intervals = list[tuple[int, int]]  # of all numbers: where each begins, and the rules that match in it as bits


class Key(IntEnum):
    """What a node asks about: `enum search_key`. An address is four numbers, the last of which is the whole of IPv4."""

    SOURCE = 0
    DESTINATION = 4
    SOURCE_PORT = 8
    DESTINATION_PORT = 9
    PROTOCOL = 10


class Body:
    """The bytes of a list. What fits into a line lies in one."""

    def __init__(self, header_bytes: int, layout: Layout) -> None:
        self._bytes = bytearray(header_bytes)
        self._node_type = layout.struct("search_node")

    def add(self, data: bytes) -> int:
        """Append; return the place."""
        if len(data) <= LINE_BYTES < len(self._bytes) % LINE_BYTES + len(data):
            self._fill(LINE_BYTES)
        place = len(self._bytes) // PLACE_BYTES
        self._bytes += data
        self._fill(PLACE_BYTES)
        return place

    def add_tree(self, numbers: Sequence[int], words: Iterable[int], key: int) -> int:
        """Append nodes that lead from each of these numbers on to a word; return the word that leads to them.

        They lie together, before whatever is appended while `words` are made.
        """
        levels = [len(numbers)]
        while levels[-1] > 1:
            levels.append(-(-levels[-1] // NODE_WORDS))
        lines = [self._reserve(level) for level in reversed(levels[1:])]
        entries = list(zip(numbers, words, strict=True))
        for line in reversed(lines):
            groups = [entries[first : first + NODE_WORDS] for first in range(0, len(entries), NODE_WORDS)]
            nodes = numpy.concatenate([self._node(group) for group in groups])
            self._bytes[line * LINE_BYTES : line * LINE_BYTES + nodes.nbytes] = nodes.tobytes()
            entries = [(group[0][0], NODE | key << COUNT_SHIFT | line + index) for index, group in enumerate(groups)]
        return entries[0][1]

    def finish(self, header: Any) -> Bytes:
        """Return the block, with `header` over its first bytes."""
        self._fill(LINE_BYTES)
        self._bytes[: header.nbytes] = header.tobytes()
        return numpy.frombuffer(self._bytes, numpy.uint8)

    def _node(self, group: Sequence[tuple[int, int]]) -> numpy.typing.NDArray[Any]:
        node = numpy.zeros(1, self._node_type)
        numbers, words = zip(*group, strict=True)
        node["words"] = words + words[-1:] * (NODE_WORDS - len(words))
        node["bounds"] = numbers[1:] + (0xFFFFFFFF,) * (NODE_WORDS - len(words))
        return node

    def _reserve(self, lines: int) -> int:
        self._fill(LINE_BYTES)
        self._bytes += bytes(lines * LINE_BYTES)
        return len(self._bytes) // LINE_BYTES - lines

    def _fill(self, unit: int) -> None:
        self._bytes += bytes(-len(self._bytes) % unit)


def intervals(matching: Iterable[tuple[int, Ranges | None]], bits: int) -> Intervals:
    """Cut the numbers of so many bits where it changes which rules match.

    `matching`: rules as bits, and the numbers that they match; None: all.
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
