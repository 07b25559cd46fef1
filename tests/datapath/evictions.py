"""Flows that the programs had to forget, and the model, which has room for all, has not."""

import numpy

from gateway.datapath.connections import WORDS_PER_LINE, Entries
from tests.datapath.programs_under_test import ProgramsUnderTest

PORTS = 0xFFFFFFFF  # of the word that ends an entry: a translated connection has its member and its lent port there
META_SHIFT = 32


class Evictions:
    """Notices when an IPv6 flow gave its place to another, as happens where those in all of its places can go nowhere.

    IPv4 has room for eight times as many flows: with as many as are compared there is always a place.
    """

    def __init__(self, programs: ProgramsUnderTest) -> None:
        layout = programs.layout
        states = layout.enum("connection_state")
        self._programs = programs
        self._domains = programs.datapath.maps["domains"].records(layout.struct("domain"))
        self._lines = programs.datapath.maps["connections"].mmap().view(numpy.uint64).reshape(-1, WORDS_PER_LINE)
        self._translated = states["CONNECTION_TRANSLATED"] << META_SHIFT + 8
        kind = 0xFF << META_SHIFT | states["CONNECTION_FRAGMENT"] << META_SHIFT + 8 | self._translated
        self._mask = numpy.array([-1, -1, -1, -1, kind | PORTS]).view(numpy.uint64)
        self.forget()

    def forget(self) -> None:
        """Begin anew with a table in which nothing is."""
        self._known: dict[int, set[bytes]] = {}
        self._seen: dict[int, numpy.typing.NDArray[numpy.uint64]] = {}

    def happened(self, rdid: str | None) -> bool:
        """Whether one did since the last call, in the routing domain. Fails if the table could have grown instead."""
        number = next((number for number, one in self._programs.numbers.items() if one == rdid), 0)
        row = self._domains[number]
        entries = Entries.of_domain(self._lines, row, "6")
        lines = numpy.concatenate([entries.addresses, entries.ends[:, :, None]], axis=-1).reshape(-1, 5) & self._mask
        before = self._seen.get(number)
        if before is not None and numpy.array_equal(lines, before):
            return False
        flows = {self._flow(line) for line in lines[lines[:, 4] != 0]}  # what is left of one that went has addresses
        gone, come = self._known.get(number, set()) - flows, flows - self._known.get(number, set())
        self._seen[number], self._known[number] = lines, flows
        if not gone or not come:
            return False
        assert row["connections6_used"] == len(entries.ends), "a flow had to go while there was room"
        return True

    def _flow(self, line: numpy.typing.NDArray[numpy.uint64]) -> bytes:
        if int(line[4]) & self._translated:
            line = line.copy()
            line[4] &= numpy.uint64(~PORTS & (1 << 64) - 1)
        return line.tobytes()
