"""Blocks as a packet reads them: the rules of gateway/datapath/bpf/arena.h and access_list.h once more, in Python."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import and_
from typing import Any

from gateway.datapath.build import build
from gateway.datapath.layout import Layout
from gateway.programming.block import LINE_BYTES, Bytes
from gateway.programming.hash_table import Region

PROBE_LIMIT = 24
LIST_STRIDE = 4
CHILD, LINE_MASK, DEFAULT_ALLOW = 0x80000000, 0x00FFFFFF, 0x80000000
TCP, UDP = 6, 17


@lru_cache(maxsize=1)
def layout() -> Layout:
    """The layouts of the object that the gateway loads."""
    return Layout.of(build())


def rotate_left(word: int, by: int) -> int:
    return (word << by | word >> (32 - by)) & 0xFFFFFFFF


def fold(words: Sequence[int]) -> int:
    return words[0] ^ rotate_left(words[1], 9) ^ rotate_left(words[2], 18) ^ rotate_left(words[3], 27)


def home(key: int, region: Region) -> int:
    return (key * region.multiplier & 0xFFFFFFFF) * region.size >> 32


def find_cell(block: Bytes, region: Region, key: int | tuple[int, ...]) -> Any:
    """The cell of a key, None if there is none. Fails where a packet would read behind the block."""
    kind = layout().struct("cell" if isinstance(key, int) else "cell6")
    start = home(key if isinstance(key, int) else fold(key), region)
    for slot in range(start, start + PROBE_LIMIT):
        at = region.first * LINE_BYTES + slot * kind.itemsize
        assert at + kind.itemsize <= len(block), "a search leaves the block"
        cell = block[at : at + kind.itemsize].view(kind)[0]
        found = int(cell["key"]) if isinstance(key, int) else tuple(cell["key"].tolist())
        if found == key:
            return cell
        if not cell["key"].any():
            return None
    return None


def word_at(block: Bytes, line: int, index: int, size: int) -> int:
    at = line * LINE_BYTES + index * size
    return int.from_bytes(block[at : at + size].tobytes(), "little")


def trie_find(block: Bytes, node: int, key: bytes, stride: int = 8) -> int:
    width = 8 * len(key)
    for shift in range(width - stride, -1, -stride):
        word = word_at(block, node, int.from_bytes(key) >> shift & ((1 << stride) - 1), 4)
        if not word & CHILD:
            return word
        node = word & LINE_MASK
    return 0


@dataclass(frozen=True, slots=True)
class Packet:
    """What an access list looks at; addresses in network order."""

    source: bytes
    destination: bytes
    protocol: int
    source_port: int
    destination_port: int


def allows(block: Bytes, inbound: bool, packet: Packet) -> bool:
    """What `access_list_allows` of access_list.h answers."""
    header = block[:LINE_BYTES].view(layout().struct("access_list"))[0]["inbound" if inbound else "outbound"]
    otherwise, actions = bool(int(header["actions"]) & DEFAULT_ALLOW), int(header["actions"]) & LINE_MASK
    if not actions:
        return otherwise
    version = 4 if len(packet.source) == 4 else 6
    with_ports = packet.protocol in (TCP, UDP)
    parts = (
        (f"source{version}", packet.source),
        (f"destination{version}", packet.destination),
        ("protocols", packet.protocol.to_bytes(1)),
        ("source_ports", (packet.source_port if with_ports else 0).to_bytes(2)),
        ("destination_ports", (packet.destination_port if with_ports else 0).to_bytes(2)),
    )
    lines = [_vector(block, int(header[name]), key) for name, key in parts]
    if not all(lines):
        return otherwise
    summary = _common(word_at(block, line, 0, 8) for line in lines)
    for index in range(64):
        rules = _common(_word(block, line, index) for line in lines) if summary >> index & 1 else 0
        if rules:
            return bool(word_at(block, actions, index, 8) & rules & -rules)
    return otherwise


def _vector(block: Bytes, root: int, key: bytes) -> int:
    return (trie_find(block, root & LINE_MASK, key, LIST_STRIDE) if root & CHILD else root) & LINE_MASK


def _word(block: Bytes, line: int, index: int) -> int:
    """Word `index` of a vector, which holds only those that its summary names."""
    below = word_at(block, line, 0, 8) & ((1 << index) - 1)
    return word_at(block, line, 1 + below.bit_count(), 8)


def _common(words: Iterable[int]) -> int:
    return reduce(and_, words)
