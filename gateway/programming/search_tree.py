"""The datapath's one search tree: a B-tree over intervals of 32-bit numbers, with nodes of one line.

A word names a node (its low bits count lines) or is what the tree leads to. Longer keys are several numbers: a node
says which one it asks about. The reading side is `search_step` in gateway/datapath/bpf/arena.h.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Any, Protocol

import numpy
import numpy.typing

NODE_WORDS = 8
NODE, KEY_SHIFT = 0x80000000, 24
_NUMBER_BITS = 32

Intervals = list[tuple[int, int]]  # of all keys: where each begins, and a value


class Key(IntEnum):
    """What a node of an access list asks about: `enum search_key`. The last of an address's four numbers is IPv4's.

    Elsewhere the key is one address, and its numbers count from 0.
    """

    SOURCE = 0
    DESTINATION = 4
    SOURCE_PORT = 8
    DESTINATION_PORT = 9
    PROTOCOL = 10


class Lines(Protocol):
    """What a tree is written into."""

    def reserve(self, lines: int, /) -> int: ...

    def fill(self, first: int, data: numpy.typing.NDArray[Any], /) -> None: ...


class TreeWriter:
    """Writes trees of nodes of a `node_type` (struct search_node) into a block."""

    def __init__(self, lines: Lines, node_type: numpy.dtype[Any]) -> None:
        self._lines = lines
        self._node_type = node_type

    def add_intervals(self, cut: Intervals, bits: int, key: int, word_of: Callable[[int], int]) -> int:
        """Write a tree over all numbers of so many bits, 32 of them a node; return the word for it.

        `key`: of the first 32 bits. `word_of` makes words of the intervals' values.
        """
        if len(cut) == 1:
            return word_of(cut[0][1])
        below = max(0, bits - _NUMBER_BITS)
        groups: dict[int, Intervals] = {}
        for start, value in _cut(cut, 1 << below, 1 << bits):
            groups.setdefault(start >> below, []).append((start & (1 << below) - 1, value))
        words = (self.add_intervals(inner, below, key + 1, word_of) for inner in groups.values())
        return self.add_numbers(list(groups), words, key)

    def add_numbers(self, numbers: Sequence[int], words: Iterable[int], key: int) -> int:
        """Write nodes that lead from each of these numbers on to a word; return the word that leads to them.

        They lie together, before whatever is written while `words` are made.
        """
        levels = [len(numbers)]
        while levels[-1] > 1:
            levels.append(-(-levels[-1] // NODE_WORDS))
        lines = [self._lines.reserve(level) for level in reversed(levels[1:])]
        entries = list(zip(numbers, words, strict=True))
        for line in reversed(lines):
            groups = [entries[first : first + NODE_WORDS] for first in range(0, len(entries), NODE_WORDS)]
            self._lines.fill(line, numpy.concatenate([self._node(group) for group in groups]))
            entries = [(group[0][0], NODE | key << KEY_SHIFT | line + index) for index, group in enumerate(groups)]
        return entries[0][1]

    def _node(self, group: Sequence[tuple[int, int]]) -> numpy.typing.NDArray[Any]:
        node = numpy.zeros(1, self._node_type)
        numbers, words = zip(*group, strict=True)
        node["words"] = words + words[-1:] * (NODE_WORDS - len(words))
        node["bounds"] = numbers[1:] + (0xFFFFFFFF,) * (NODE_WORDS - len(words))
        return node


def _cut(cut: Intervals, size: int, end: int) -> Intervals:
    """Let an interval begin at the multiples of `size` on both sides of every number where one begins between them."""
    more: dict[int, int] = {}
    before = 0
    for start, value in cut:
        if start % size:
            more.setdefault(start - start % size, before)
            more[start - start % size + size] = value
        before = value
    more.pop(end, None)
    return sorted((more | dict(cut)).items())


def prefix_intervals(prefixes: Iterable[tuple[int, int, int]], bits: int, otherwise: int) -> Intervals:
    """Cut the numbers of so many bits where the longest prefix begins to be another one.

    `prefixes`: first and last number, value; of equal ones the last counts.
    """
    starts = {0: otherwise}
    around: list[tuple[int, int]] = []  # last number and value of the prefixes that the sweep is in

    def leave_those_before(number: int) -> None:
        while around and around[-1][0] < number:
            last, _ = around.pop()
            starts[last + 1] = around[-1][1] if around else otherwise

    for first, last, value in sorted(prefixes, key=lambda prefix: (prefix[0], -prefix[1])):
        leave_those_before(first)
        starts[first] = value
        around.append((last, value))
    leave_those_before(1 << bits)
    starts.pop(1 << bits, None)
    found: Intervals = []
    for start, value in sorted(starts.items()):
        if not found or value != found[-1][1]:
            found.append((start, value))
    return found
