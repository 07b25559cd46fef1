"""An access list as bit vectors: for each part of a packet, which rules it satisfies.

The reading side is `access_list_allows` in gateway/datapath/bpf/access_list.h; a list's lines count from its own start.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy
import numpy.typing

from gateway.datapath.layout import Layout
from gateway.policy.addresses import address_range, family
from gateway.policy.fields import port_ranges
from gateway.policy.model import AccessControlList, AccessRule
from gateway.programming.block import BlockBuilder, Bytes, CapacityError
from gateway.programming.trie import CHILD, Trie

RULES_MAX = 64 * 64
_DEFAULT_ALLOW = 0x80000000
_TCP, _UDP = 6, 17
_STRIDE = 4
_WORD = (1 << 64) - 1
_BITS = {4: 32, 6: 128}


def compile_access_list(access_list: AccessControlList, layout: Layout) -> Bytes:
    """Turn an access list into a position-independent block. Raises CapacityError."""
    builder = BlockBuilder()
    builder.reserve(1)
    header = numpy.zeros(1, layout.struct("access_list"))
    defaults = {"inbound": access_list.default_inbound, "outbound": access_list.default_outbound}
    for direction, default in defaults.items():
        rules = sorted(
            (rule for rule in access_list.rules if rule.direction == direction), key=lambda rule: rule.priority
        )
        if len(rules) > RULES_MAX:
            raise CapacityError(
                f"access list {access_list.name} has {len(rules)} {direction} rules, at most {RULES_MAX} fit: split it"
            )
        _add_classifier(builder, header[direction], rules, default == "allow")
    return builder.finish(header)


class _Vectors:
    """Sets of rules (as bits of an int), each written once into the block."""

    def __init__(self, builder: BlockBuilder, rules: int) -> None:
        self._builder = builder
        self._count = -(-rules // 64)
        self._lines = {0: 0}

    def line(self, mask: int) -> int:
        if mask not in self._lines:
            words = self.words(mask)
            used = [word for word in words if word]
            summary = _mask(index for index, word in enumerate(words) if word)
            self._lines[mask] = self._builder.add(numpy.array([summary, *used], numpy.uint64))
        return self._lines[mask]

    def words(self, mask: int) -> list[int]:
        return [mask >> 64 * index & _WORD for index in range(self._count)]


def _add_classifier(builder: BlockBuilder, header: Any, rules: Sequence[AccessRule], allow: bool) -> None:
    header["actions"] = _DEFAULT_ALLOW if allow else 0
    if not rules:
        return
    vectors = _Vectors(builder, len(rules))
    for part, prefixes in (
        ("source", [rule.source_prefix for rule in rules]),
        ("destination", [rule.destination_prefix for rule in rules]),
    ):
        for version in (4, 6):
            header[f"{part}{version}"] = _prefixes(builder, vectors, prefixes, version)
    header["source_ports"] = _ports(builder, vectors, [rule.source_ports for rule in rules])
    header["destination_ports"] = _ports(builder, vectors, [rule.destination_ports for rule in rules])
    header["protocols"] = _protocols(builder, vectors, rules)
    allowed = _mask(index for index, rule in enumerate(rules) if rule.action == "allow")
    header["actions"] |= builder.add(numpy.array(vectors.words(allowed), numpy.uint64))


def _mask(indexes: Iterable[int]) -> int:
    mask = 0
    for index in indexes:
        mask |= 1 << index
    return mask


def _prefixes(builder: BlockBuilder, vectors: _Vectors, prefixes: Sequence[str | None], version: int) -> int:
    anywhere = _mask(index for index, prefix in enumerate(prefixes) if prefix is None)
    by_prefix: dict[str, int] = {}
    for index, prefix in enumerate(prefixes):
        if prefix is not None and family(prefix) == version:
            by_prefix[prefix] = by_prefix.get(prefix, 0) | 1 << index
    if not by_prefix:
        return vectors.line(anywhere)
    masks = {vectors.line(anywhere): anywhere}
    trie = Trie(vectors.line(anywhere), _STRIDE)
    width = _BITS[version] // 8
    for prefix, own in sorted(by_prefix.items(), key=lambda item: address_range(item[0]).length):
        network = address_range(prefix)
        key = (network.first & ((1 << _BITS[version]) - 1)).to_bytes(width)
        mask = masks[trie.find(key)] | own
        masks[vectors.line(mask)] = mask
        trie.insert(key, network.length, vectors.line(mask))
    return trie.add_to(builder) | CHILD


def _ports(builder: BlockBuilder, vectors: _Vectors, texts: Sequence[str | None]) -> int:
    anything = _mask(index for index, text in enumerate(texts) if text is None)
    edges: dict[int, int] = {}
    for index, text in enumerate(texts):
        for port in _flips(port_ranges(text)) if text is not None else ():
            edges[port] = edges.get(port, 0) ^ 1 << index
    if not edges:
        return vectors.line(anything)
    trie, mask, start = Trie(vectors.line(anything), _STRIDE), anything, 0
    for port, flipped in [*sorted(edges.items()), (65536, 0)]:
        for first, length in _prefixes_of_range(start, port):
            trie.insert(first.to_bytes(2), length, vectors.line(mask))
        mask, start = mask ^ flipped, port
    return trie.add_to(builder) | CHILD


def _prefixes_of_range(first: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut the 16-bit numbers first..end-1 into prefixes: (number, length in bits)."""
    while first < end:
        size = min(first & -first or 65536, 1 << (end - first).bit_length() - 1)
        yield first, 17 - size.bit_length()
        first += size


def _flips(ranges: Iterable[tuple[int, int]]) -> list[int]:
    """Return the ports at which membership in a union of ranges changes, below 65536."""
    flips: list[int] = []
    for first, last in sorted(ranges):
        if flips and first <= flips[-1]:
            flips[-1] = max(flips[-1], last + 1)
        else:
            flips += [first, last + 1]
    return [port for port in flips if port < 65536]


def _protocols(builder: BlockBuilder, vectors: _Vectors, rules: Sequence[AccessRule]) -> int:
    """Rules with ports match TCP and UDP only, whatever else they say."""
    every = 0
    by_protocol: dict[int, int] = {}
    for index, rule in enumerate(rules):
        number = rule.protocol_number()
        if number is not None:
            numbers = [number]
        elif rule.source_ports is not None or rule.destination_ports is not None:
            numbers = [_TCP, _UDP]
        else:
            every |= 1 << index
            continue
        for each in numbers:
            by_protocol[each] = by_protocol.get(each, 0) | 1 << index
    if not by_protocol:
        return vectors.line(every)
    trie = Trie(vectors.line(every), _STRIDE)
    for number, own in by_protocol.items():
        trie.insert(bytes((number,)), 8, vectors.line(every | own))
    return trie.add_to(builder) | CHILD
