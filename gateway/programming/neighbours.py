"""Neighbours on external ports that have been silent for long: asked whether they are still there, else forgotten.

The datapath learns them from what they send, and has no clock to doubt them by. So the daemon asks, in its name; the
datapath takes the answers like any other, and asks by the next packet for what was forgotten.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy
import structlog

from gateway.policy.model import NetworkConnection
from gateway.programming.encoding import address_of
from gateway.programming.next_hops import NextHop, ask
from gateway.programming.ports import Ports
from gateway.programming.routes import asking_address, host_prefix

log = structlog.get_logger(__name__)

REACHABLE_S = 30  # RFC 4861, section 10
QUESTIONS = 5  # without an answer
_AT_ONCE = 500

_Key: TypeAlias = tuple[int, str, int]  # number of the port, address, when it was last heard of


@dataclass(frozen=True, slots=True)
class _Silent:
    """A neighbour, and its entry in the datapath's memory."""

    hop: NextHop
    entry: Any


class Neighbours:
    """Looks after what the datapath has learned."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._asked: dict[_Key, int] = {}  # how often

    def keep(self, connections: Mapping[int, NetworkConnection], now: float) -> None:
        """Ask the silent ones of these ports, by number, and forget who has not answered; to be called every second.

        `now`: seconds of the monotonic clock.
        """
        latest = int(now) - REACHABLE_S
        silent = {key: one for number, each in connections.items() for key, one in self._silent(number, each, latest)}
        asked = {key: self._asked.get(key, 0) for key in silent}
        for key in [key for key, times in asked.items() if times >= QUESTIONS]:
            _forget(silent.pop(key), latest)
            del asked[key]
        questions = dict(islice(silent.items(), _AT_ONCE))
        failed = ask({one.hop: self._ports.asker(number) for (number, *_), one in questions.items()})
        self._asked = asked | {key: asked[key] + 1 for key, one in questions.items() if one.hop not in failed}

    def _silent(self, number: int, connection: NetworkConnection, latest: int) -> Iterator[tuple[_Key, _Silent]]:
        for entries in self._ports.neighbours(number):
            words = entries["address"].reshape(len(entries), -1)
            for at in numpy.flatnonzero(words.any(1) & (entries["seen"] < latest)).tolist():
                address = address_of(numpy.pad(words[at], (4 - words.shape[1], 0)))
                source = asking_address(connection, host_prefix(address))
                if source:
                    hop = NextHop((connection.port, connection.vlan), address, source)
                    yield (number, address, int(entries["seen"][at])), _Silent(hop, entries[at])


def _forget(one: _Silent, latest: int) -> None:
    if one.entry["seen"] < latest:  # still
        one.entry["address"] = 0
        one.entry["seen"] = 0  # the first to make room
        log.info("neighbour_gone", port=one.hop.port[0], vlan=one.hop.port[1], address=one.hop.address)
