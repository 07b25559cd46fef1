"""The domains' regions of the connection table: where they lie, how they become larger, what is forgotten in them."""

import time
from collections.abc import Collection, Iterator
from typing import Any

import numpy

from gateway.datapath.connection_use import count_live
from gateway.datapath.connections import LINES_OF_SET, WAYS, WORDS_PER_LINE, Entries, Words
from gateway.datapath.grace import grace
from gateway.datapath.layout import Layout
from gateway.datapath.loader import Datapath
from gateway.programming.block import CapacityError
from gateway.programming.moving import follow, steady
from gateway.programming.space import Space

CONNECTIONS_AT_FIRST = {"4": 16384, "6": 2048}  # that a domain's region has places for
SETS_AT_FIRST = {"4": 64, "6": 16}  # in use, 4 and 5 KB; the programs take more into use when they need it
FREE_SHARE = 4  # of the table: one in so many lines is left to domains to come

# Within the word that ends a connection: ports, and struct connection's meta in the upper half. Within the last word of
# the addresses: the rule of a translated connection.
_GENERATION_SHIFT = numpy.uint64(56)
_TRANSLATED, _ANSWERED = numpy.uint64(1 << 44), numpy.uint64(1 << 41)
_RULE_SHIFT = numpy.uint64(48)
_MEMBER_MASK = numpy.uint64(0xFFFF)
_TICK_SHIFT = 33


class ConnectionRegions:
    """Each domain, by its number, has a region for each IP family; no two overlap."""

    def __init__(self, datapath: Datapath, layout: Layout) -> None:
        maps = datapath.maps
        self._domains = maps["domains"].records(layout.struct("domain"))
        self._table = maps["connections"].mmap().view(numpy.uint64).reshape(-1, WORDS_PER_LINE)
        self._space = Space("the connection table", len(self._table))
        self._states = layout.enum("connection_state")

    def claim(self, number: int) -> None:
        """Take what an earlier daemon gave a domain as given."""
        for family in WAYS:
            first, lines = self._place(number, family)
            if lines:
                self._space.claim(first, lines)

    def release(self, number: int) -> None:
        """Give back the regions of a domain of which no packet is on its way any more."""
        for family in WAYS:
            first, lines = self._place(number, family)
            if lines:
                self._space.release(first, lines)

    def make_room(self, number: int) -> None:
        """Give a domain its regions, if it has none. Raises CapacityError."""
        row = self._domains[number]
        if row["connections4_lines"]:
            return
        lines = {family: _lines_for(CONNECTIONS_AT_FIRST[family], family) for family in WAYS}
        four = self._space.allocate(lines["4"])
        try:
            six = self._space.allocate(lines["6"])
        except CapacityError:
            self._space.release(four, lines["4"])
            raise
        for family, first in (("4", four), ("6", six)):
            self._table[first : first + lines[family]] = 0
            row[f"connections{family}"] = first
            row[f"connections{family}_lines"] = lines[family]
            row[f"connections{family}_used"] = SETS_AT_FIRST[family]

    def widen(self, number: int, family: str, most: int) -> int:
        """Double a region for at most so many connections if those that were answered fill half of it.

        Returns how many it has places for then; 0: it stays as it is. Unanswered ones do not count: a flood of them
        would take the table's memory from others. Raises CapacityError if too little of the table would be left.
        """
        row, (first, lines) = self._domains[number], self._place(number, family)
        places = lines // LINES_OF_SET[family] * WAYS[family]
        in_use = int(row[f"connections{family}_used"]) * LINES_OF_SET[family]
        if not lines or in_use < lines or places * 2 > most or self._answered(number, family) * 2 < places:
            return 0
        if self._space.free_lines() - 2 * lines < len(self._table) // FREE_SHARE:
            raise CapacityError(
                "the connection table has too little left for a larger region: raise memory_mb under [datapath] in the "
                "configuration and start again"
            )
        self._move(row, family, self._space.allocate(2 * lines))
        row[f"connections{family}_lines"] = 2 * lines  # from now on the programs may take the other half into use
        self._space.release(first, lines)
        return places * 2

    def forget_generation(self, number: int, generation: int) -> None:
        """Remove what is left from the last time that the access lists had this generation number."""
        for _, ends in self._words(number):
            plain = ends & _TRANSLATED == 0  # what is translated has something else in that place
            ends[plain & (ends >> _GENERATION_SHIFT == numpy.uint64(generation))] = 0

    def forget_translated(self, number: int, rules: Collection[int], members: Collection[tuple[int, int]]) -> None:
        """Remove translated connections that carry one of these rules, or of these pairs of rule and member."""
        gone = numpy.array(sorted(rules), numpy.uint64)
        pairs = numpy.array([rule << 16 | member for rule, member in sorted(members)], numpy.uint64)
        for addresses, ends in self._words(number):
            rule = addresses >> _RULE_SHIFT
            pair = rule << numpy.uint64(16) | (ends & _MEMBER_MASK)
            ends[(ends & _TRANSLATED != 0) & (numpy.isin(rule, gone) | numpy.isin(pair, pairs))] = 0

    def _move(self, row: Any, family: str, first: int) -> None:
        """Let packets meet a region at another place, where all of the old one is at the same places within it."""
        old = Entries.in_use(self._table, row, family)
        lines = int(row[f"connections{family}_lines"])
        self._table[first : first + 2 * lines] = 0
        new = Entries.of(self._table[first : first + lines], family)
        before = follow(steady(old), Entries.of(numpy.zeros((lines, WORDS_PER_LINE), numpy.uint64), family), new)
        row[f"connections{family}"] = first
        grace()
        follow(steady(old), before, new)

    def _answered(self, number: int, family: str) -> int:
        """Count the live connections that were answered."""
        ends = Entries.in_use(self._table, self._domains[number], family).ends
        return count_live(ends[ends & _ANSWERED != 0], time.monotonic_ns() >> _TICK_SHIFT, self._states)

    def _place(self, number: int, family: str) -> tuple[int, int]:
        row = self._domains[number]
        return int(row[f"connections{family}"]), int(row[f"connections{family}_lines"])

    def _words(self, number: int) -> Iterator[tuple[Words, Words]]:
        """Each family's connections of a domain: the last word of the addresses, and the word that ends the entry."""
        for family in WAYS:
            entries = Entries.of_domain(self._table, self._domains[number], family)
            yield entries.addresses[:, :, -1], entries.ends


def _lines_for(connections: int, family: str) -> int:
    return connections // WAYS[family] * LINES_OF_SET[family]
