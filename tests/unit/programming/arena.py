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
SEARCH_STEPS, SEARCH_VECTORS, RULES_AT_PLACE, PLACE_BYTES = 23, 0x7F000000, 8, 16
NODE, LINE_MASK = 0x80000000, 0x00FFFFFF
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


def search_address(block: Bytes, word: int, address: bytes) -> int:
    """What a tree leads to from an address in network order."""
    return _search(
        block, word, [int.from_bytes(address[at : at + 4]) for at in range(0, len(address), 4)], 7 * len(address) // 4
    )


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
    kind = layout().struct("classifier")
    classifier = block[: 2 * kind.itemsize].view(kind)[0 if inbound else 1]
    keys, otherwise = _keys(packet), bool(classifier["otherwise"])
    if len(packet.source) == 4:
        word = _search(block, int(classifier["rules4"]), keys)
        if word != SEARCH_VECTORS:
            return _compare_rules(block, word, keys, otherwise)
    if not classifier["actions"]:
        return otherwise
    version = 4 if len(packet.source) == 4 else 6
    parts = (f"source{version}", f"destination{version}", "source_ports", "destination_ports", "protocols")
    places = [_search(block, int(classifier[part]), keys) * PLACE_BYTES for part in parts]
    return _ask_vectors(block, classifier, places)


def _keys(packet: Packet) -> list[int]:
    addresses = packet.source.rjust(16, b"\0") + packet.destination.rjust(16, b"\0")
    numbers = [int.from_bytes(addresses[at : at + 4]) for at in range(0, 32, 4)]
    return [*numbers, packet.source_port, packet.destination_port, packet.protocol]


def _search(block: Bytes, word: int, keys: Sequence[int], steps: int = SEARCH_STEPS) -> int:
    for _ in range(steps):
        if not word & NODE:
            return word
        line, key = word & LINE_MASK, keys[word >> 24 & 15]
        word = word_at(block, line, sum(word_at(block, line, 8 + bound, 4) <= key for bound in range(7)), 4)
    raise AssertionError("a search takes more steps than a packet goes")


def _compare_rules(block: Bytes, word: int, keys: Sequence[int], otherwise: bool) -> bool:
    kind = layout().struct("access_rule")
    assert word >> 24 <= RULES_AT_PLACE
    start = (word & LINE_MASK) * PLACE_BYTES
    for rule in block[start : start + (word >> 24) * kind.itemsize].view(kind):
        flags = int(rule["flags"])
        port = keys[8] if flags & 16 else keys[9]
        if (
            (keys[3] ^ int(rule["source"])) >> int(rule["source_shift"]) == 0
            and (keys[7] ^ int(rule["destination"])) >> int(rule["destination_shift"]) == 0
            and (flags & 8 or keys[10] == rule["protocol"])
            and 0 <= port - int(rule["first_port"]) <= rule["more_ports"]
        ):
            return bool(flags & 1)
    return otherwise


def _ask_vectors(block: Bytes, classifier: Any, places: Sequence[int]) -> bool:
    size = 1 << int(classifier["word_shift"]) - 3
    summary = _common(_number(block, place, 8) for place in places)
    for index in range(64):
        rules = _common(_word(block, place, index, size) for place in places) if summary >> index & 1 else 0
        if rules:
            return bool(_number(block, int(classifier["actions"]) * PLACE_BYTES + index * size, size) & rules & -rules)
    return bool(classifier["otherwise"])


def _word(block: Bytes, place: int, index: int, size: int) -> int:
    """Word `index` of a vector, which holds only those that its summary names."""
    below = _number(block, place, 8) & ((1 << index) - 1)
    return _number(block, place + 8 + below.bit_count() * size, size)


def _number(block: Bytes, at: int, size: int) -> int:
    return int.from_bytes(block[at : at + size].tobytes(), "little")


def _common(words: Iterable[int]) -> int:
    return reduce(and_, words)
