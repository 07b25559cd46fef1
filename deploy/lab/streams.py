"""Counted packet streams between machines of a lab, while something is done to the gateway."""

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from deploy.lab.programs import await_word, running
from deploy.lab.running import RunningLab

PORT = 7000


@dataclass(frozen=True, slots=True)
class Stream:
    """Packets of one tenant from a node to an address of another node, `rate` a second."""

    owner: str
    sender: str
    receiver: str
    address: str
    port: int = PORT
    rate: int = 500


@dataclass(frozen=True, slots=True)
class Report:
    """What the receiver of a stream counted; `foreign` are packets of other owners."""

    stream: Stream
    sent: int
    received: int
    foreign: int
    duplicates: int

    @property
    def lost(self) -> int:
        return self.sent - self.received


@contextmanager
def streaming(lab: RunningLab, streams: Sequence[Stream]) -> Iterator[list[Report]]:
    """Run the streams around the block; the list is filled when it ends.

    Every way is pinged first: a missing neighbour costs the packet that asks for it.
    """
    for stream in streams:
        lab.run(stream.sender, "ping", "-c", "3", "-i", "0.2", "-w", "10", "-q", stream.address)
    reports: list[Report] = []
    with ExitStack() as stack:
        receivers = [stack.enter_context(running(lab, s.receiver, "stream", "receive", str(s.port))) for s in streams]
        for receiver in receivers:
            await_word(receiver, "bound")
        senders = [
            stack.enter_context(running(lab, s.sender, "stream", "send", s.address, str(s.port), s.owner, str(s.rate)))
            for s in streams
        ]
        for sender in senders:
            await_word(sender, "flowing")
        yield reports
        for sender in senders:
            sender.send_signal(signal.SIGTERM)
        for stream, sender, receiver in zip(streams, senders, receivers, strict=True):
            sent, _ = sender.communicate(timeout=60)
            counted, _ = receiver.communicate(timeout=60)
            reports.append(_report(stream, int(sent), json.loads(counted)))


def _report(stream: Stream, sent: int, counted: dict[str, Any]) -> Report:
    received: dict[str, int] = counted["received"]
    return Report(
        stream=stream,
        sent=sent,
        received=received.get(stream.owner, 0),
        foreign=sum(packets for owner, packets in received.items() if owner != stream.owner),
        duplicates=counted["duplicates"],
    )
