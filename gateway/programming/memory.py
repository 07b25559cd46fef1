"""The datapath's memory as the programmer sees it: the arena, and the words that name blocks."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

import numpy

from gateway.datapath.grace import grace
from gateway.datapath.layout import Layout
from gateway.datapath.loader import Datapath
from gateway.programming.block import LINE_BYTES, Bytes, CapacityError
from gateway.programming.connection_regions import ConnectionRegions
from gateway.programming.space import Space

CHUNK_LINES = 1 << 16  # of the arena, 4 MB: a domain's block must fit

_COUNTERS = ("traffic", "drops", "answer_budgets", "fragment_budgets")  # of domains; an older version may lack some


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
        self._choices = maps["choices"].records(layout.struct("table_word"))
        self._domains = maps["domains"].records(layout.struct("domain"))
        self._space = Space("the table memory", len(self._arena) // LINE_BYTES, CHUNK_LINES)
        self.regions = ConnectionRegions(datapath, layout)
        self._counters = [maps[name] for name in _COUNTERS if name in maps]
        self._retired: list[Placed] = []
        self._retired_choices: list[int] = []
        self._reserved: set[int] = set()  # numbers of domains without a table yet
        self._remembered: dict[str, int] = {}  # domains without a table that have a number, and may have connections
        self._reserved_choices: set[int] = set()

    def adopt(self) -> tuple[Placed | None, dict[str, tuple[int, Placed]], dict[int, Placed]]:
        """Find what an earlier daemon left: the directory, by RDID each domain's number and block, the choices."""
        directory = None
        if self._root["directory"][0]:
            directory = self._found(int(self._root["directory"][0]), int(self._root["directory_lines"][0]))
        domains = {}
        for number in numpy.flatnonzero(self._tables["line"]).tolist():
            word, row = self._tables[number], self._domains[number]
            rdid = str(UUID(bytes=row["id"].tobytes()))
            domains[rdid] = (number, self._found(int(word["line"]), int(word["lines"])))
        for number in numpy.flatnonzero(self._domains["id"].any(axis=1)).tolist():
            self.regions.claim(number)
            if not self._tables["line"][number]:
                self._remembered[str(UUID(bytes=self._domains[number]["id"].tobytes()))] = number
        choices = {
            number: self._found(int(self._choices["line"][number]), int(self._choices["lines"][number]))
            for number in numpy.flatnonzero(self._choices["line"]).tolist()
        }
        return directory, domains, choices

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
            self._choices["line"][self._retired_choices] = 0
            self._retired_choices.clear()
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
        self._reserved.discard(number)
        self._remembered.pop(rdid, None)

    def table_line(self, number: int) -> int:
        """Return the line of the block that packets of a domain meet."""
        return int(self._tables[number]["line"])

    def withdraw(self, number: int) -> None:
        """No packet belongs to this domain any more; its connections are forgotten."""
        self._tables[number]["line"] = 0
        grace()
        self.regions.release(number)
        self._domains[number] = numpy.zeros(1, self._domains.dtype)[0]
        self._reserved.discard(number)

    def give_back(self, number: int) -> None:
        """Let go of a number that was taken and has no table."""
        if number not in self._remembered.values():
            self.withdraw(number)

    def forget_all_but(self, rdids: Collection[str]) -> None:
        """Forget the numbers and connections of domains without a table that are none of these."""
        for rdid, number in list(self._remembered.items()):
            if rdid not in rdids:
                del self._remembered[rdid]
                self.withdraw(number)

    def switch_choice(self, number: int, placed: Placed) -> None:
        """Let packets of rules with this choice meet this block from now on."""
        self._choices[number]["lines"] = placed.lines
        self._choices[number]["line"] = placed.line
        self._reserved_choices.discard(number)

    def choice_line(self, number: int) -> int:
        """Return the line of the block that packets of a choice meet."""
        return int(self._choices[number]["line"])

    def take_choice(self) -> int:
        """Return the number of no choice, which is kept for the caller. Raises CapacityError."""
        unused = self._choices["line"] == 0
        unused[[0, *self._reserved_choices]] = False
        if not unused.any():
            raise CapacityError(f"all {len(self._choices) - 1} places for pools and inbound NAT rules are taken")
        number = int(unused.argmax())
        self._reserved_choices.add(number)
        return number

    def release_choice(self, number: int) -> None:
        """Give a number back that no packet has met."""
        self._reserved_choices.discard(number)

    def retire_choice(self, number: int, placed: Placed) -> None:
        """Give a choice's number and lines back when no packet can be in them any more; no table names it now."""
        self._retired_choices.append(number)
        self.retire(placed)

    def take_number(self, rdid: str) -> int:
        """Return the number that a domain had, else that of none, its counters at zero, and keep it for the caller.

        Raises CapacityError.
        """
        if rdid in self._remembered:
            return self._remembered[rdid]
        unused = (self._tables["line"] == 0) & (self._domains["connections4_lines"] == 0)
        unused[[0, *self._reserved, *self._remembered.values()]] = False
        if not unused.any():
            raise CapacityError(f"all {len(self._domains) - 1} places for routing domains are taken")
        number = int(unused.argmax())
        for counters in self._counters:
            counters.update(number.to_bytes(4, "little"), bytes(counters.entry_size))
        self._reserved.add(number)
        return number

    def used_lines(self) -> tuple[int, int]:
        """Return how many lines of the arena hold something, and how many there are."""
        total = len(self._arena) // LINE_BYTES
        return total - self._space.free_lines(), total

    def _found(self, line: int, lines: int) -> Placed:
        self._space.claim(line, lines)
        return Placed(line, self._arena[line * LINE_BYTES : (line + lines) * LINE_BYTES].copy())
