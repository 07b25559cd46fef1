"""Blocks as a packet reads them: the rules of gateway/datapath/bpf/arena.h and access_list.h once more, in Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gateway.datapath.build import build
from gateway.datapath.layout import Layout
from gateway.programming.block import LINE_BYTES, Bytes
from gateway.programming.hash_table import Region

PROBE_LIMIT = 24
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


def trie_find(block: Bytes, node: int, key: bytes) -> int:
    for byte in key:
        word = word_at(block, node, byte, 4)
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
    summary = _common(block, lines, 0)
    for index in range(64):
        rules = _common(block, lines, index + 1) if summary >> index & 1 else 0
        if rules:
            return bool(word_at(block, actions, index + 1, 8) & rules & -rules)
    return otherwise


def _vector(block: Bytes, root: int, key: bytes) -> int:
    return (trie_find(block, root & LINE_MASK, key) if root & CHILD else root) & LINE_MASK


def _common(block: Bytes, lines: Sequence[int], index: int) -> int:
    word = (1 << 64) - 1
    for line in lines:
        word &= word_at(block, line, index, 8)
    return word
