"""Connections from one region to another while programs use the one and then the other."""

import numpy

from gateway.datapath.connections import Entries, Words

# Of an entry's end:
_LENT, _PORTS, _PROTOCOL = 0xFFFF << 16, 0xFFFFFFFF, 0xFF << 32
_TRANSLATED, _GENERATION = 1 << 44, 0xFF << 56


def follow(now: Entries, before: Entries, new: Entries) -> Entries:
    """Let `new` have what is there `now`, where it still has what it was given before; return what it was given.

    Where the old region has grown, set i of the new one is set i and others of the old one: those i + n * sets.
    """
    sets = len(new.ends)
    given = Entries(now.addresses[:sets], now.ends[:sets])
    changed = (given.ends != before.ends) | (given.addresses != before.addresses).any(axis=-1) & (given.ends != 0)
    free = changed & (new.ends == before.ends)
    new.addresses[free] = given.addresses[free]
    new.ends[free] = given.ends[free]
    others = now.ends != 0
    others[:sets] &= changed & ~free
    for number, way in numpy.argwhere(others).tolist():
        _add(new, number % sets, now.addresses[number, way], now.ends[number, way])
    return given


def _add(entries: Entries, number: int, addresses: Words, end: numpy.uint64) -> None:
    """Give a connection an empty place of a set, if there is one, and the set does not have it already."""
    ends = entries.ends[number]
    balanced = int(end) & _TRANSLATED and not int(end) & _LENT  # it may have another member by now
    differences = (ends ^ end) & numpy.uint64(_PROTOCOL if balanced else _PROTOCOL | _PORTS)
    same = (differences == 0) & (entries.addresses[number] == addresses).all(axis=-1)
    empty = numpy.flatnonzero(ends == 0)
    if len(empty) and not same.any():
        entries.addresses[number, empty[0]] = addresses
        entries.ends[number, empty[0]] = end


def steady(entries: Entries) -> Entries:
    """A copy without the entries that programs change at this moment: they write an entry's end last."""
    ends, addresses = entries.ends.copy(), entries.addresses.copy()
    steady = (entries.ends == ends) & (ends & numpy.uint64(_GENERATION) != 0)
    return Entries(addresses, numpy.where(steady, ends, numpy.uint64(0)))
