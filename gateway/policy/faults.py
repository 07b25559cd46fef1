"""What is wrong with a policy, and where: every fault names the path of its field as a JSON pointer (RFC 6901)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `pointer` is relative to the document; the empty pointer is the document itself.

    `absence`: the fault is that something is not there, which nobody can say of a document that was not read whole.
    """

    pointer: str
    detail: str
    absence: bool = False

    def __str__(self) -> str:
        return f"{self.pointer or 'document'}: {self.detail}"


class PolicyFaults(Exception):  # noqa: N818 - it carries many
    """A document that is no policy: at most 1,000 of its faults, and how many there are beyond them.

    `uncounted`: how many there are besides those given.
    """

    def __init__(self, faults: Iterable[Fault], uncounted: int = 0) -> None:
        found = sorted(dict.fromkeys(faults), key=lambda fault: _order(fault.pointer))
        self.faults: tuple[Fault, ...] = tuple(found[:MOST_LISTED])
        self.unlisted = len(found) - len(self.faults) + uncounted
        super().__init__(str(self))

    def __str__(self) -> str:
        listed = "\n".join(map(str, self.faults))
        return f"{listed}\nand {self.unlisted:,} more faults" if self.unlisted else listed


def _order(pointer: str) -> list[tuple[int, str]]:
    """Fields by name, elements by number."""
    return [(int(token), "") if token.isdecimal() else (-1, token) for token in pointer.split("/")]


def pointer_to(path: Sequence[str | int]) -> str:
    """Return the JSON pointer of a path of keys and indices."""
    return "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in path)
