"""The datapath's one trie: nodes of 256 words, one for each value of a byte; a word is a leaf or names the next node.

Its reading side is `trie_find` in gateway/datapath/bpf/arena.h.
"""

import numpy
import numpy.typing

from gateway.programming.block import BlockBuilder

CHILD = 0x80000000
LINE_MASK = 0x00FFFFFF
NODE_LINES = 16


class Trie:
    """Prefixes of byte strings to leaf words. Insert shorter prefixes before longer ones."""

    def __init__(self, default: int = 0) -> None:
        self._nodes = [[default] * 256]

    def insert(self, key: bytes, length: int, leaf: int) -> None:
        """Let every key that begins with the first `length` bits of `key` lead to `leaf`."""
        node, level = self._nodes[0], max(0, length - 1) // 8
        for byte in key[:level]:
            node = self._child(node, byte)
        span = 1 << (8 * (level + 1) - length)
        start = key[level] if length else 0
        node[start : start + span] = [leaf] * span

    def find(self, key: bytes) -> int:
        """Return the leaf of the longest prefix of a whole key."""
        node = self._nodes[0]
        for byte in key:
            word = node[byte]
            if not word & CHILD:
                return word
            node = self._nodes[word & LINE_MASK]
        raise ValueError(f"{key.hex()} is too short for this trie")

    def leaves(self) -> set[int]:
        """Return all leaf words."""
        return {word for node in self._nodes for word in node if not word & CHILD}

    def add_to(self, builder: BlockBuilder) -> int:
        """Write the nodes into a block; return the line of the root. A child's word then holds its line."""
        first = builder.lines
        words = numpy.array(self._nodes, numpy.uint32)
        children = (words & numpy.uint32(CHILD)) != 0
        lines = (words & numpy.uint32(LINE_MASK)) * numpy.uint32(NODE_LINES) + numpy.uint32(first)
        return builder.add(numpy.where(children, lines | numpy.uint32(CHILD), words))

    def _child(self, node: list[int], byte: int) -> list[int]:
        word = node[byte]
        if not word & CHILD:
            node[byte] = CHILD | len(self._nodes)
            self._nodes.append([word] * 256)
            return self._nodes[-1]
        return self._nodes[word & LINE_MASK]
