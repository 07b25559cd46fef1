"""Which lines of an array are free: first fit, neighbours joined again."""

from bisect import bisect_left, insort

from gateway.programming.block import CapacityError


class Space:
    """The lines 1..size-1 of an array; line 0 means "none" everywhere and is never given out."""

    def __init__(self, name: str, size: int, chunk: int | None = None) -> None:
        self._name = name
        self._chunk = chunk or size  # what is allocated lies in one chunk
        self._free = [(1, size - 1)] if size > 1 else []  # (first, lines), in order

    def allocate(self, lines: int) -> int:
        """Return the first of so many lines. Raises CapacityError."""
        for free_first, free in self._free:
            left = self._chunk - free_first % self._chunk
            first = free_first if lines <= left else free_first + left
            if lines <= self._chunk and first + lines <= free_first + free:
                self.claim(first, lines)
                return first
        if lines > self._chunk:
            raise CapacityError(
                f"{self._name} has room for {self._chunk} lines of 64 bytes in one piece, {lines} are wanted: "
                "divide the routing domain's records or access lists among several"
            )
        raise CapacityError(
            f"{self._name} is full: {lines} lines of 64 bytes in one piece are wanted, {self.free_lines()} are free "
            "in all; raise memory_mb under [datapath] in the configuration and start again"
        )

    def claim(self, first: int, lines: int) -> None:
        """Mark lines as taken that are known to be in use. Raises ValueError where they are taken already."""
        index = bisect_left(self._free, (first + 1,)) - 1
        start, free = self._free[index] if index >= 0 else (0, 0)
        if not start <= first <= first + lines <= start + free:
            raise ValueError(f"{self._name}: lines {first}..{first + lines - 1} are used twice")
        rest = [(start, first - start), (first + lines, start + free - first - lines)]
        self._free[index : index + 1] = [each for each in rest if each[1]]

    def release(self, first: int, lines: int) -> None:
        """Give lines back."""
        insort(self._free, (first, lines))
        index = bisect_left(self._free, (first, lines))
        if index + 1 < len(self._free) and first + lines == self._free[index + 1][0]:
            lines += self._free.pop(index + 1)[1]
            self._free[index] = (first, lines)
        if index and sum(self._free[index - 1]) == first:
            self._free[index - 1] = (self._free[index - 1][0], self._free[index - 1][1] + lines)
            del self._free[index]

    def free_lines(self) -> int:
        """Return how many lines are free."""
        return sum(lines for _, lines in self._free)
