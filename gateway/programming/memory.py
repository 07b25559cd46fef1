"""The datapath's memory as the programmer sees it: the arena, the words that name blocks, the domains' connections."""

from dataclasses import dataclass
from uuid import UUID

import numpy
import numpy.typing

from gateway.datapath.grace import grace
from gateway.datapath.layout import Layout
from gateway.datapath.loader import Datapath
from gateway.programming.block import LINE_BYTES, Bytes, CapacityError
from gateway.programming.space import Space

CONNECTION_LINES = 4096  # 4 IPv4 connections each
CONNECTION_LINES6 = 2048  # an IPv6 connection each
CONNECTION_LINES_AT_FIRST = 64  # 4 KB each; the programs take more into use when they need it
CONNECTION_LINES6_AT_FIRST = 64
CHUNK_LINES = 1 << 16  # of the arena, 4 MB: a domain's block must fit
_GENERATION_SHIFT = 56  # in the second word of a connection: struct connection's meta


@dataclass(frozen=True, slots=True)
class Placed:
    """A block and where it lies."""

    line: int
    block: Bytes

    @property
    def lines(self) -> int:
        """How many lines it takes."""
        return len(self.block) // LINE_BYTES


class Memory:
    """Blocks in the arena, and what names them. Nothing here knows what a block means."""

    def __init__(self, datapath: Datapath, layout: Layout) -> None:
        maps = datapath.maps
        self._arena = maps["arena"].mmap()
        self._root = maps["root"].records(layout.struct("root"))[0:1]
        self._tables = maps["tables"].records(layout.struct("table_word"))
        self._domains = maps["domains"].records(layout.struct("domain"))
        self._connections = maps["connections"].mmap().view(numpy.uint64).reshape(-1, 8)
        self._space = Space("the table memory", len(self._arena) // LINE_BYTES, CHUNK_LINES)
        self._connection_space = Space("the connection table", maps["connections"].max_entries)
        self._counters = [maps[name] for name in ("traffic", "drops", "answer_budgets")]
        self._retired: list[Placed] = []

    def adopt(self) -> tuple[Placed | None, dict[str, tuple[int, Placed]]]:
        """Find what an earlier daemon left: the directory, and by RDID each domain's number and block."""
        directory = None
        if self._root["directory"][0]:
            directory = self._found(int(self._root["directory"][0]), int(self._root["directory_lines"][0]))
        domains = {}
        for number in numpy.flatnonzero(self._tables["line"]).tolist():
            word, row = self._tables[number], self._domains[number]
            rdid = str(UUID(bytes=row["id"].tobytes()))
            domains[rdid] = (number, self._found(int(word["line"]), int(word["lines"])))
            for family in ("4", "6"):
                if row[f"connections{family}_lines"]:
                    self._connection_space.claim(
                        int(row[f"connections{family}"]), int(row[f"connections{family}_lines"])
                    )
        return directory, domains

    def place(self, block: Bytes) -> Placed:
        """Write a block where no packet looks yet. Raises CapacityError."""
        lines = len(block) // LINE_BYTES
        try:
            line = self._space.allocate(lines)
        except CapacityError:
            self.reclaim()
            line = self._space.allocate(lines)
        self._arena[line * LINE_BYTES : (line + lines) * LINE_BYTES] = block
        return Placed(line, block)

    def holds(self, placed: Placed) -> bool:
        """Tell whether the block is in memory as it was written."""
        start = placed.line * LINE_BYTES
        return bool((self._arena[start : start + len(placed.block)] == placed.block).all())

    def retire(self, placed: Placed | None) -> None:
        """Give a block's lines back when no packet can be in it any more; nothing names it now."""
        if placed is not None:
            self._retired.append(placed)

    def reclaim(self) -> None:
        """Wait until no packet is in a retired block, and free them."""
        if self._retired:
            grace()
            for placed in self._retired:
                self._space.release(placed.line, placed.lines)
            self._retired.clear()

    def publish_directory(self, placed: Placed) -> None:
        """Let packets meet this directory from now on."""
        self._root["directory_lines"][0] = placed.lines
        self._root["directory"][0] = placed.line

    def directory_line(self) -> int:
        """Return the line of the directory that packets meet."""
        return int(self._root["directory"][0])

    def switch(self, number: int, rdid: str, placed: Placed) -> None:
        """Let packets of this domain meet this block from now on."""
        self._domains[number]["id"] = list(UUID(rdid).bytes)
        self._tables[number]["lines"] = placed.lines
        self._tables[number]["line"] = placed.line

    def table_line(self, number: int) -> int:
        """Return the line of the block that packets of a domain meet."""
        return int(self._tables[number]["line"])

    def withdraw(self, number: int) -> None:
        """No packet belongs to this domain any more; its connections are forgotten."""
        self._tables[number]["line"] = 0
        grace()
        row = self._domains[number]
        for family in ("4", "6"):
            if row[f"connections{family}_lines"]:
                self._connection_space.release(int(row[f"connections{family}"]), int(row[f"connections{family}_lines"]))
        self._domains[number] = numpy.zeros(1, self._domains.dtype)[0]

    def take_number(self) -> int:
        """Return the number of no domain, its counters at zero. Raises CapacityError."""
        unused = (self._tables["line"] == 0) & (self._domains["connections4_lines"] == 0)
        unused[0] = False
        if not unused.any():
            raise CapacityError(f"all {len(self._domains) - 1} places for routing domains are taken")
        number = int(unused.argmax())
        for counters in self._counters:
            counters.update(number.to_bytes(4, "little"), bytes(counters.entry_size))
        return number

    def make_room_for_connections(self, number: int) -> None:
        """Give a domain its part of the connection table, if it has none. Raises CapacityError."""
        row = self._domains[number]
        if row["connections4_lines"]:
            return
        four = self._connection_space.allocate(CONNECTION_LINES)
        try:
            six = self._connection_space.allocate(CONNECTION_LINES6)
        except CapacityError:
            self._connection_space.release(four, CONNECTION_LINES)
            raise
        self._connections[four : four + CONNECTION_LINES] = 0
        self._connections[six : six + CONNECTION_LINES6] = 0
        row["connections4"], row["connections6"] = four, six
        row["connections4_lines"], row["connections6_lines"] = CONNECTION_LINES, CONNECTION_LINES6
        row["connections4_used"], row["connections6_used"] = CONNECTION_LINES_AT_FIRST, CONNECTION_LINES6_AT_FIRST

    def forget_connections_of(self, number: int, generation: int) -> None:
        """Remove what is left from the last time that the access lists had this generation number."""
        row = self._domains[number]
        four = self._region(row, "4")[:, 1::2]
        four[four >> numpy.uint64(_GENERATION_SHIFT) == numpy.uint64(generation)] = 0
        six = self._region(row, "6")[:, 4]
        six[six >> numpy.uint64(_GENERATION_SHIFT) == numpy.uint64(generation)] = 0

    def used_lines(self) -> tuple[int, int]:
        """Return how many lines of the arena hold something, and how many there are."""
        total = len(self._arena) // LINE_BYTES
        return total - self._space.free_lines(), total

    def _region(self, row: numpy.typing.NDArray[numpy.void], family: str) -> numpy.typing.NDArray[numpy.uint64]:
        first = int(row[f"connections{family}"])
        return self._connections[first : first + int(row[f"connections{family}_lines"])]

    def _found(self, line: int, lines: int) -> Placed:
        self._space.claim(line, lines)
        return Placed(line, self._arena[line * LINE_BYTES : (line + lines) * LINE_BYTES].copy())
