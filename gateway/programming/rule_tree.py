"""The IPv4 rules of an access list as a tree: parts of a packet lead to the few rules that it has to be compared with.

The reading side is `compare_rules` in gateway/datapath/bpf/access_list.h.
"""

from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import NamedTuple

import numpy

from gateway.datapath.layout import Layout
from gateway.policy.addresses import address_range, family
from gateway.policy.fields import port_ranges
from gateway.policy.model import AccessRule
from gateway.programming.search import COUNT_SHIFT, Body, intervals, protocols_of
from gateway.programming.search_tree import Intervals, Key, TreeWriter

RULES_AT_PLACE = 8
SEARCH_VECTORS = 0x7F000000
PIECES_MAX = 8192  # so that five nodes tell apart what any part of a packet can be
ROOM = 4  # how often a rule takes part in a cut, on average
ALLOW, ANY_PROTOCOL, OF_SOURCE_PORT = 1, 8, 16
_ANY_PORT = (0, 65535)
_PARTS = (  # of a packet: key and bits
    (Key.DESTINATION + 3, 32),
    (Key.SOURCE + 3, 32),
    (Key.DESTINATION_PORT, 16),
    (Key.SOURCE_PORT, 16),
    (Key.PROTOCOL, 8),
)
_PORTS = slice(2, 4)  # of _PARTS


class _Piece(NamedTuple):
    """A rule, or one of the pieces that it is cut into: first and last number that match, in the order of _PARTS."""

    ranges: tuple[tuple[int, int], ...]
    allow: bool


class RuleTree:
    """Writes the tree of some rules into a list's body."""

    def __init__(self, body: Body, trees: TreeWriter, layout: Layout, rules: Sequence[AccessRule]) -> None:
        """`rules`: by priority."""
        self._body = body
        self._trees = trees
        self._pieces = list(islice((piece for rule in rules for piece in _cut(rule)), PIECES_MAX + 1))
        self._records = numpy.array([_record(piece) for piece in self._pieces], layout.struct("access_rule"))
        self._not_comparable = sum(
            1 << index for index, piece in enumerate(self._pieces) if _ANY_PORT not in piece.ranges[_PORTS]
        )
        self._room = ROOM * len(self._pieces) if len(self._pieces) <= PIECES_MAX else 0
        self._words = {0: 0}
        self.needs_vectors = False

    def word(self) -> int:
        """Write the tree; return the word that leads to it."""
        return self._word((1 << len(self._pieces)) - 1)

    def _word(self, mask: int) -> int:
        if mask not in self._words:
            few = mask.bit_count() <= RULES_AT_PLACE and not mask & self._not_comparable
            self._words[mask] = self._write(mask) if few else self._split(mask)
        return self._words[mask]

    def _write(self, mask: int) -> int:
        records = self._records[list(_indexes(mask))]
        return len(records) << COUNT_SHIFT | self._body.add(records.tobytes())

    def _split(self, mask: int) -> int:
        """Cut by the part that leaves the fewest rules together, if any does."""
        chosen = list(_indexes(mask))
        self._room -= len(chosen)
        if self._room < 0:
            return self._leave_to_vectors()
        cuts = []
        for part, (key, bits) in enumerate(_PARTS):
            runs = _runs(intervals(((1 << index, (self._pieces[index].ranges[part],)) for index in chosen), bits))
            cuts.append((sum(run.bit_count() ** 2 for _, run in runs), key, runs))
        _, key, runs = min(cuts)
        if any(run == mask for _, run in runs):
            return self._leave_to_vectors()
        return self._trees.add_numbers([number for number, _ in runs], (self._word(run) for _, run in runs), key)

    def _leave_to_vectors(self) -> int:
        self.needs_vectors = True
        return SEARCH_VECTORS


def _indexes(mask: int) -> Iterator[int]:
    while mask:
        yield (mask & -mask).bit_length() - 1
        mask &= mask - 1


def _runs(cut: Intervals) -> Intervals:
    """Put neighbours together while their rules are few enough to be compared."""
    runs: Intervals = []
    for number, mask in cut:
        if runs and (runs[-1][1] | mask).bit_count() <= RULES_AT_PLACE:
            runs[-1] = (runs[-1][0], runs[-1][1] | mask)
        else:
            runs.append((number, mask))
    return runs


def _cut(rule: AccessRule) -> Iterator[_Piece]:
    """One piece for each pair of port ranges and each protocol; none of a rule that matches IPv6 only."""
    source, destination = rule.source_prefix or "0.0.0.0/0", rule.destination_prefix or "0.0.0.0/0"
    if family(source) == 6 or family(destination) == 6:
        return
    addresses = address_range(destination)[:2], address_range(source)[:2]
    for destination_ports, source_ports, protocols in product(
        port_ranges(rule.destination_ports) if rule.destination_ports else (_ANY_PORT,),
        port_ranges(rule.source_ports) if rule.source_ports else (_ANY_PORT,),
        protocols_of(rule) or ((0, 255),),
    ):
        yield _Piece((*addresses, destination_ports, source_ports, protocols), rule.action == "allow")


def _record(piece: _Piece) -> tuple[int, ...]:
    """Return a `struct access_rule`."""
    destination, source, destination_ports, source_ports, protocols = piece.ranges
    of_source = destination_ports == _ANY_PORT != source_ports
    first, last = source_ports if of_source else destination_ports
    any_protocol = protocols == (0, 255)
    return (
        source[0],
        destination[0],
        first,
        last - first,
        (source[1] - source[0]).bit_length(),
        (destination[1] - destination[0]).bit_length(),
        protocols[0],
        ALLOW * piece.allow | ANY_PROTOCOL * any_protocol | OF_SOURCE_PORT * of_source,
    )
