"""The datapath's one trie: a node has a word for each value of the key's next bits; a word is a leaf or names a node.

Its reading side is `trie_find` in gateway/datapath/bpf/arena.h.
"""

import numpy
import numpy.typing

from gateway.programming.block import LINE_BYTES, BlockBuilder

CHILD = 0x80000000
LINE_MASK = 0x00FFFFFF


class Trie:
    """Prefixes of keys to leaf words; `stride` bits a node, 4 or 8. Insert shorter prefixes before longer ones."""

    def __init__(self, default: int = 0, stride: int = 8) -> None:
        self._stride = stride
        self._nodes = [[default] * (1 << stride)]

    def insert(self, key: bytes, length: int, leaf: int) -> None:
        """Let every key that begins with the first `length` bits of `key` lead to `leaf`."""
        parts = self._parts(key)
        node, level = self._nodes[0], max(0, length - 1) // self._stride
        for part in parts[:level]:
            node = self._child(node, part)
        span = 1 << (self._stride * (level + 1) - length)
        start = parts[level] if length else 0
        node[start : start + span] = [leaf] * span

    def find(self, key: bytes) -> int:
        """Return the leaf of the longest prefix of a whole key."""
        node = self._nodes[0]
        for part in self._parts(key):
            word = node[part]
            if not word & CHILD:
                return word
            node = self._nodes[word & LINE_MASK]
        raise ValueError(f"{key.hex()} is too short for this trie")

    def add_to(self, builder: BlockBuilder) -> int:
        """Write the nodes into a block; return the line of the root. A child's word then holds its line."""
        first = builder.lines
        node_lines = (4 << self._stride) // LINE_BYTES
        words = numpy.array(self._nodes, numpy.uint32)
        children = (words & numpy.uint32(CHILD)) != 0
        lines = (words & numpy.uint32(LINE_MASK)) * numpy.uint32(node_lines) + numpy.uint32(first)
        return builder.add(numpy.where(children, lines | numpy.uint32(CHILD), words))

    def _parts(self, key: bytes) -> list[int]:
        if self._stride == 8:
            return list(key)
        return [part for byte in key for part in (byte >> 4, byte & 15)]

    def _child(self, node: list[int], part: int) -> list[int]:
        word = node[part]
        if not word & CHILD:
            node[part] = CHILD | len(self._nodes)
            self._nodes.append([word] * (1 << self._stride))
            return self._nodes[-1]
        return self._nodes[word & LINE_MASK]
