"""How full the domains' parts of the connection table are."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy

from gateway.datapath.connections import LINES_OF_SET, WAYS, WORDS_PER_LINE, Entries, Words
from gateway.datapath.layout import Layout
from gateway.datapath.loader import Datapath

# Within the word that ends a connection, whose upper half is struct connection's meta.
_PROTOCOL_SHIFT, _STATE_SHIFT, _SEEN_SHIFT, _GENERATION_SHIFT = (numpy.uint64(32 + at) for at in (0, 8, 13, 24))
_BYTE, _STATE_MASK, _SEEN_MASK = numpy.uint64(0xFF), numpy.uint64(0x1F), numpy.uint64(0x7FF)
_TICK_SHIFT = 33
_TCP, _UDP = 6, 17
_FRAGMENT_S, _UDP_S, _ANSWERED_TCP_S, _ELSE_S = 30, 180, 7200, 60


@dataclass(frozen=True, slots=True)
class Use:
    """Entries that live, and places that there are, of both IP families together."""

    used: int
    places: int


class ConnectionUse:
    """Reads the table as the programs write it; nothing is copied but what a domain uses."""

    def __init__(self, datapath: Datapath, layout: Layout) -> None:
        self._domains = datapath.maps["domains"].records(layout.struct("domain"))
        self._lines = datapath.maps["connections"].mmap().view(numpy.uint64).reshape(-1, WORDS_PER_LINE)
        self._states = layout.enum("connection_state")

    def read(self, numbers: Mapping[str, int], now_ns: int) -> dict[str, Use]:
        """Count for those of the routing domains, given by their numbers, that have connections. `now`: since boot."""
        tick = now_ns >> _TICK_SHIFT
        rows = {rdid: self._domains[number] for rdid, number in numbers.items()}
        return {rdid: self._of(row, tick) for rdid, row in rows.items() if row["connections4_lines"]}

    def _of(self, row: numpy.void, tick: int) -> Use:
        used = sum(count_live(Entries.in_use(self._lines, row, family).ends, tick, self._states) for family in WAYS)
        sets = {family: int(row[f"connections{family}_lines"]) // LINES_OF_SET[family] for family in WAYS}
        return Use(used, sum(sets[family] * ways for family, ways in WAYS.items()))


def count_live(ends: Words, tick: int, states: Mapping[str, int]) -> int:
    """Count the words that end entries which have not expired at a tick (8.6 s): as connections.h does."""
    ends = ends[ends >> _GENERATION_SHIFT != 0]
    generation, protocol = ends >> _GENERATION_SHIFT, ends >> _PROTOCOL_SHIFT & _BYTE
    state = ends >> _STATE_SHIFT & _STATE_MASK
    fragment, answered, closing, translated = (
        state & numpy.uint64(states[f"CONNECTION_{name}"]) != 0
        for name in ("FRAGMENT", "ANSWERED", "CLOSING", "TRANSLATED")
    )
    established = answered & ~closing
    by_rule = translated & ((protocol != _TCP) | established)
    idle = (numpy.uint64(1) + (generation & numpy.uint64(7))) << (generation >> numpy.uint64(3))
    lifetime = numpy.select(
        [fragment, by_rule, protocol == _UDP, (protocol == _TCP) & established],
        [_ticks(_FRAGMENT_S), idle, _ticks(_UDP_S), _ticks(_ANSWERED_TCP_S)],
        _ticks(_ELSE_S),
    )
    age = (numpy.uint64(tick & int(_SEEN_MASK)) - (ends >> _SEEN_SHIFT)) & _SEEN_MASK
    return int(numpy.count_nonzero(age <= lifetime))


def _ticks(seconds: int) -> numpy.uint64:
    return numpy.uint64((seconds * 10**9 >> _TICK_SHIFT) + 1)
