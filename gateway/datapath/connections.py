"""Where entries lie in a region of the connection table: connections.h says it to the programs."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy
import numpy.typing

Words: TypeAlias = numpy.typing.NDArray[numpy.uint64]

WORDS_PER_LINE = 8
WAYS = {"4": 4, "6": 8}  # entries of a set, by IP family
LINES_OF_SET = {"4": 1, "6": 5}
_ADDRESS_WORDS = {"4": 1, "6": 4}


@dataclass(frozen=True, slots=True)
class Entries:
    """Views of the entries of whole sets.

    `ends` has a row for each set: the words with ports, and struct connection's meta in the upper half; 0: no entry.
    `addresses` has one dimension more, for the words of both addresses.
    """

    addresses: Words
    ends: Words

    @classmethod
    def of(cls, lines: Words, family: str) -> "Entries":
        """View lines of 8 words, of whole sets of an IP family ("4" or "6")."""
        ways, words = WAYS[family], _ADDRESS_WORDS[family]
        if family == "4":
            pairs = lines.reshape(-1, ways, 1 + words)
            return cls(pairs[:, :, :words], pairs[:, :, words])
        sets = lines.reshape(-1, LINES_OF_SET[family] * WORDS_PER_LINE)
        return cls(sets[:, ways:].reshape(-1, ways, words), sets[:, :ways])

    @classmethod
    def of_domain(cls, table: Words, row: Any, family: str) -> "Entries":
        """View a domain's region in the table's lines; `row`: its struct domain."""
        return cls.of(table[int(row[f"connections{family}"]) :][: int(row[f"connections{family}_lines"])], family)

    @classmethod
    def in_use(cls, table: Words, row: Any, family: str) -> "Entries":
        """View the part of a domain's region that is in use."""
        lines = int(row[f"connections{family}_used"]) * LINES_OF_SET[family]
        return cls.of(table[int(row[f"connections{family}"]) :][:lines], family)
