"""An access list as a tree of its IPv4 rules, and as bit vectors: for each part of a packet, which rules it satisfies.

The reading side is `access_list_allows` in gateway/datapath/bpf/access_list.h; a list's lines count from its own start.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy
import numpy.typing

from gateway.datapath.layout import Layout
from gateway.policy.addresses import address_range, family
from gateway.policy.fields import port_ranges
from gateway.policy.model import AccessControlList, AccessRule
from gateway.programming.block import Bytes, CapacityError
from gateway.programming.rule_tree import RuleTree
from gateway.programming.search import Body, Ranges, intervals, protocols_of
from gateway.programming.search_tree import Key, TreeWriter

WORDS_MAX = 64  # of a vector
RULES_MAX = WORDS_MAX * 64
_BITS = {4: 32, 6: 128}


def compile_access_list(access_list: AccessControlList, layout: Layout) -> Bytes:
    """Turn an access list into a position-independent block. Raises CapacityError."""
    header = numpy.zeros(2, layout.struct("classifier"))
    body = Body(header.nbytes)
    trees = TreeWriter(body, layout.struct("search_node"))
    defaults = {"inbound": access_list.default_inbound, "outbound": access_list.default_outbound}
    for classifier, (direction, default) in zip(header, defaults.items(), strict=True):
        rules = sorted(
            (rule for rule in access_list.rules if rule.direction == direction), key=lambda rule: rule.priority
        )
        if len(rules) > RULES_MAX:
            raise CapacityError(
                f"access list {access_list.name} has {len(rules)} {direction} rules, at most {RULES_MAX} fit: split it"
            )
        classifier["otherwise"] = default == "allow"
        tree = RuleTree(body, trees, layout, rules)
        classifier["rules4"] = tree.word()
        in_vectors = [rule for rule in rules if tree.needs_vectors or not _is_ipv4_only(rule)]
        if in_vectors:
            _add_vectors(body, trees, classifier, in_vectors)
    return body.finish(header)


def _is_ipv4_only(rule: AccessRule) -> bool:
    return any(prefix is not None and family(prefix) == 4 for prefix in (rule.source_prefix, rule.destination_prefix))


class _Vectors:
    """Sets of rules (as bits of an int), each written once into the block."""

    def __init__(self, body: Body, rules: int) -> None:
        self._body = body
        self.word_shift = max(3, (-(-rules // WORDS_MAX) - 1).bit_length())
        self._places: dict[int, int] = {}

    def place(self, mask: int) -> int:
        if mask not in self._places:
            words = self.words(mask)
            summary = numpy.packbits(words != 0, bitorder="little")
            self._places[mask] = self._body.add(summary.tobytes() + words[words != 0].tobytes())
        return self._places[mask]

    def words(self, mask: int) -> numpy.typing.NDArray[Any]:
        size = 1 << self.word_shift - 3
        return numpy.frombuffer(mask.to_bytes(WORDS_MAX * size, "little"), f"<u{size}")


def _add_vectors(body: Body, trees: TreeWriter, classifier: Any, rules: Sequence[AccessRule]) -> None:
    vectors = _Vectors(body, len(rules))

    def tree(numbers: Iterable[Ranges | None], bits: int, key: int) -> int:
        matching = ((1 << index, ranges) for index, ranges in enumerate(numbers))
        return trees.add_intervals(intervals(matching, bits), bits, key, vectors.place)

    for version, bits in _BITS.items():
        first = 4 - bits // 32
        sources = (_addresses(rule.source_prefix, version) for rule in rules)
        destinations = (_addresses(rule.destination_prefix, version) for rule in rules)
        classifier[f"source{version}"] = tree(sources, bits, Key.SOURCE + first)
        classifier[f"destination{version}"] = tree(destinations, bits, Key.DESTINATION + first)
    classifier["source_ports"] = tree((_ports(rule.source_ports) for rule in rules), 16, Key.SOURCE_PORT)
    classifier["destination_ports"] = tree((_ports(rule.destination_ports) for rule in rules), 16, Key.DESTINATION_PORT)
    classifier["protocols"] = tree((protocols_of(rule) for rule in rules), 8, Key.PROTOCOL)
    allowed = sum(1 << index for index, rule in enumerate(rules) if rule.action == "allow")
    classifier["actions"] = body.add(vectors.words(allowed).tobytes())
    classifier["word_shift"] = vectors.word_shift


def _addresses(prefix: str | None, version: int) -> Ranges | None:
    if prefix is None:
        return None
    if family(prefix) != version:
        return ()
    first, last, _ = address_range(prefix)
    return ((first % (1 << _BITS[version]), last % (1 << _BITS[version])),)


def _ports(text: str | None) -> Ranges | None:
    return None if text is None else port_ranges(text)
