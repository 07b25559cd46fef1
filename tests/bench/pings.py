"""ICMP echo requests from a namespace at a steady rate, and when they were answered."""

import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from tests.bench.namespaces import inside

_REQUEST, _REPLY = 8, 0
_LAST_ANSWERS = 0.5  # seconds that are waited for them
_SEQUENCES = 1 << 16


@dataclass(slots=True)
class Pings:
    """One target: when each request was sent and answered, by its number, in seconds of the monotonic clock."""

    sent: dict[int, float] = field(default_factory=dict)
    answered: dict[int, float] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        return len(self.sent.keys() - self.answered.keys())

    def longest_gap(self) -> float:
        """Return the longest time without a request that is answered, in seconds."""
        times = [self.sent[number] for number in sorted(self.answered)]
        return max((later - earlier for earlier, later in zip(times, times[1:], strict=False)), default=0.0)


class Prober:
    """A raw socket in a namespace."""

    def __init__(self, namespace: str) -> None:
        with inside(namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._identifier = id(self) & 0xFFFF

    def close(self) -> None:
        self._socket.close()

    def first_answers(self, targets: Iterable[IPv4Address], every: float, patience: float) -> dict[IPv4Address, float]:
        """Ask all that have not answered again and again; return when each first did. Errors: TimeoutError."""
        waiting, found = set(targets), dict[IPv4Address, float]()
        deadline = time.monotonic() + patience
        while waiting:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(waiting)} never answered within {patience:.0f} s, such as {min(waiting)}")
            for target in waiting:
                self._ask(target, 0)
            for source, _, when in self._answers(time.monotonic() + every, len(waiting)):
                if source in waiting:
                    waiting.remove(source)
                    found[source] = when
        return found

    @contextmanager
    def pinging(self, target: IPv4Address, every: float) -> Iterator[Pings]:
        """Ping beside the block; the last requests have half a second to be answered."""
        pings, stop = Pings(), threading.Event()
        thread = threading.Thread(target=self._ping, args=(pings, stop, target, every))
        thread.start()
        try:
            yield pings
        finally:
            stop.set()
            thread.join()

    def _ping(self, pings: Pings, stop: threading.Event, target: IPv4Address, every: float) -> None:
        number, due = 0, time.monotonic()
        while not stop.is_set():
            pings.sent[number] = time.monotonic()
            self._ask(target, number)
            number, due = number + 1, due + every
            self._note(pings, target, due)
        self._note(pings, target, time.monotonic() + _LAST_ANSWERS)

    def _note(self, pings: Pings, target: IPv4Address, until: float) -> None:
        for source, sequence, when in self._answers(until, 0):
            if source == target:
                number = len(pings.sent) - 1
                number -= (number - sequence) % _SEQUENCES
                pings.answered.setdefault(number, when)

    def _ask(self, target: IPv4Address, number: int) -> None:
        header = struct.pack(">BBHHH", _REQUEST, 0, 0, self._identifier, number % _SEQUENCES)
        total = sum(struct.unpack(">4H", header))
        check = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        self._socket.sendto(header[:2] + struct.pack(">H", check) + header[4:], (str(target), 0))

    def _answers(self, until: float, enough: int) -> Iterator[tuple[IPv4Address, int, float]]:
        """Yield who answered, to which request and when; until then, or until there are `enough` if that is not 0."""
        seen = 0
        while (left := until - time.monotonic()) > 0 and (not enough or seen < enough):
            if not select.select([self._socket], [], [], left)[0]:
                return
            packet, (source, _) = self._socket.recvfrom(2048)
            when = time.monotonic()
            kind, _, _, identifier, sequence = struct.unpack_from(">BBHHH", packet, (packet[0] & 15) * 4)
            if kind == _REPLY and identifier == self._identifier:
                seen += 1
                yield IPv4Address(source), sequence, when
