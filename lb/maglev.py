"""Consistent-hash tables after Maglev: members look through the slots, each in its own order, and take what is free.

Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4. As there, the
order of a member is `offset + turn * skip` modulo the prime number of slots, both hashed from its identity. Unlike
there, a turn is one look, whether or not the slot was free, and a member stops when it has its share. So when a member
comes to a slot depends on nothing but itself: the table can be computed for whole arrays at once, and when others leave
or join, a slot moves only because a member has reached its share sooner or later than before.

There is no floating point in it, and no sort that is not stable: every machine makes the same table.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy
import numpy.typing

Slots: TypeAlias = numpy.typing.NDArray[numpy.uint16]
_Numbers: TypeAlias = numpy.typing.NDArray[numpy.int64]

SMALL_TABLE = 16381  # both are prime, so that every skip leads through all slots
LARGE_TABLE = 65537
SMALL_POOL_MEMBERS = 100
WEIGHT_MAX = 1000

_TIME_SCALE = 1 << 10  # more than WEIGHT_MAX, so that the looks of the heaviest member have times of their own


def table_size(members: Sequence[tuple[str, int]]) -> int:
    """Return the number of slots for a pool of (identity, weight)."""
    return SMALL_TABLE if len(members) <= SMALL_POOL_MEMBERS else LARGE_TABLE


def slots(members: Sequence[tuple[str, int]], size: int) -> Slots:
    """Return for each of `size` slots (a prime number up to 65,537) the position in `members` of who serves it.

    `members`: (identity, weight from 0 to 1,000), no identity twice. Each gets its weight's share of the slots, rounded
    either way, and at least one; weight 0 gets none. Which slots it gets does not depend on the order of `members`.
    Raises ValueError: a weight out of range, more members than slots, or none that has weight.
    """
    positions = sorted((position for position, member in enumerate(members) if member[1]), key=lambda at: members[at])
    weights = numpy.array([members[position][1] for position in positions], numpy.int64)
    if any(not 0 <= weight <= WEIGHT_MAX for _, weight in members):
        raise ValueError(f"weights go from 0 to {WEIGHT_MAX}")
    if not 1 <= len(positions) <= min(size, numpy.iinfo(numpy.uint16).max):
        raise ValueError(f"{len(positions)} members with a weight cannot share {size} slots")
    population = _Population([members[position][0] for position in positions], weights, size)
    population.fill_by_looks()
    population.fill_the_rest()
    return numpy.array(positions, numpy.uint16)[population.holders]


def _shares(weights: _Numbers, size: int) -> _Numbers:
    """Divide the slots by the largest remainders; who would get none is given one by those who have most."""
    shares, remainders = numpy.divmod(weights * size, weights.sum())
    shares[numpy.argsort(-remainders, kind="stable")[: size - shares.sum()]] += 1
    without = shares == 0
    shares[numpy.argsort(-shares, kind="stable")[: without.sum()]] -= 1
    shares[without] = 1
    return shares


class _Population:
    """A table being filled. Members are numbered in the order of their identities."""

    def __init__(self, identities: Sequence[str], weights: _Numbers, size: int) -> None:
        self._size = size
        self._weights = weights
        self._room = _shares(weights, size)
        hashes = numpy.array([_hash(identity) for identity in identities], numpy.uint64)
        self._offsets = (hashes % numpy.uint64(size)).astype(numpy.int64)
        self._skips = ((hashes >> numpy.uint64(32)) % numpy.uint64(size - 1)).astype(numpy.int64) + 1
        self.holders: _Numbers = numpy.full(size, -1, numpy.int64)

    def fill_by_looks(self) -> None:
        """Fill all but few slots: every slot goes to who looks at it first, every member takes first what it saw first.

        What the full ones had to leave goes to the next who looked, until nobody with room has seen a free slot.
        """
        members, seen = self._looks()
        while len(seen):
            order = numpy.arange(len(seen))
            first = numpy.empty(self._size, numpy.int64)
            first[seen[::-1]] = order[::-1]  # of equal indices the last one written stays
            won = first[seen] == order
            self._take(members[won], seen[won])
            left = (self.holders[seen] < 0) & (self._room[members] > 0)
            members, seen = members[left], seen[left]

    def fill_the_rest(self) -> None:
        """Fill the slots that nobody has looked at yet, by asking for each who would come to it first."""
        while len(free := numpy.flatnonzero(self.holders < 0)):
            open_members = numpy.flatnonzero(self._room)
            times = self._times(free, open_members)
            nearest = times.argmin(axis=1)
            order = numpy.argsort(times[numpy.arange(len(free)), nearest], kind="stable")
            self._take(open_members[nearest][order], free[order])

    def _looks(self) -> tuple[_Numbers, _Numbers]:
        """Return who looks at which slot, in the order of time; as long as that is faster than to ask for the rest."""
        half_laps = len(self._room).bit_length()
        turns = numpy.minimum(self._room * half_laps // 2 + 1, self._size)
        members = numpy.repeat(numpy.arange(len(turns)), turns)
        turn = numpy.arange(len(members)) - numpy.repeat(numpy.cumsum(turns) - turns, turns)
        seen = (self._offsets[members] + turn * self._skips[members]) % self._size
        order = _order(turn * _TIME_SCALE // self._weights[members])
        return members[order], seen[order]

    def _times(self, free: _Numbers, members: _Numbers) -> _Numbers:
        inverses = numpy.array([pow(int(skip), -1, self._size) for skip in self._skips[members]], numpy.int64)
        turns = (free[:, None] - self._offsets[members]) % self._size * inverses % self._size
        return turns * _TIME_SCALE // self._weights[members]

    def _take(self, members: _Numbers, wanted: _Numbers) -> None:
        """Let members take slots, of which there are no two alike, in this order as far as each has room."""
        grouped = numpy.argsort(members.astype(numpy.uint16), kind="stable")
        counts = numpy.bincount(members, minlength=len(self._room))
        starts = numpy.cumsum(counts) - counts
        within = numpy.empty(len(members), numpy.int64)
        within[grouped] = numpy.arange(len(members)) - starts[members[grouped]]
        taken = within < self._room[members]
        self.holders[wanted[taken]] = members[taken]
        self._room -= numpy.minimum(counts, self._room)


def _order(times: _Numbers) -> _Numbers:
    """Sort numbers below 2**32, equal ones as they come: two turns of numpy's radix sort, which is for 16 bits."""
    lower = numpy.argsort(times.astype(numpy.uint16), kind="stable")
    upper = (times >> 16).astype(numpy.uint16)[lower]
    return lower[numpy.argsort(upper, kind="stable")]


def _hash(identity: str) -> int:
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "big")
