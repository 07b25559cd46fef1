"""Counted packet streams between machines of a lab, while something is done to the gateway."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

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
    """Run the streams around the block; the list is filled when it ends."""
    reports: list[Report] = []
    with ExitStack() as stack:
        receivers = [stack.enter_context(_running(lab, s.receiver, "receive", str(s.port))) for s in streams]
        for receiver in receivers:
            assert receiver.stdout and receiver.stdout.readline() == "bound\n"
        senders = [
            stack.enter_context(_running(lab, s.sender, "send", s.address, str(s.port), s.owner, str(s.rate)))
            for s in streams
        ]
        yield reports
        for sender in senders:
            sender.send_signal(signal.SIGTERM)
        for stream, receiver in zip(streams, receivers, strict=True):
            output, _ = receiver.communicate(timeout=60)
            reports.append(_report(stream, json.loads(output)))


def _report(stream: Stream, counted: dict[str, Any]) -> Report:
    received: dict[str, int] = counted["received"]
    return Report(
        stream=stream,
        sent=counted["sent"][stream.owner],
        received=received.get(stream.owner, 0),
        foreign=sum(packets for owner, packets in received.items() if owner != stream.owner),
        duplicates=counted["duplicates"],
    )


@contextmanager
def _running(lab: RunningLab, node: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = lab.inside(node, sys.executable, "-m", "deploy.lab.stream", *arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
