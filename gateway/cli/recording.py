"""A capture on its way into a pcapng file: until a signal, a limit, or nobody reads it any more."""

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import BinaryIO

from gateway.configuration import GatewayConfiguration
from gateway.datapath.capture import Capture, Frame
from gateway.datapath.pcapng import Writer

STANDARD_OUTPUT = "-"


class Recorder:
    """Writes frames; the interfaces of the configured ports are declared first, others once they are seen.

    `domains` are names by RDID. `frames` is how many have been written.
    """

    def __init__(
        self, capture: Capture, stream: BinaryIO, configuration: GatewayConfiguration, domains: Mapping[str, str]
    ) -> None:
        self.frames = 0
        self._capture = capture
        self._stream = stream
        self._domains = domains
        self._writer = Writer(stream, capture.most_bytes, f"tenant-gateway {version('tenant-gateway')}")
        ours = {port.interface for port in configuration.ports}
        present = [(index, name) for index, name in socket.if_nameindex() if name in ours]
        self._interfaces = {index: self._writer.interface(name) for index, name in present}
        stream.flush()

    def record(self, ended: int, count: int | None, seconds: float | None) -> None:
        """Write until the file descriptor `ended` is readable, the reader of a pipe is gone, or a limit is reached."""
        poll = select.poll()
        poll.register(self._capture.ready_fd, select.POLLIN)
        poll.register(ended, select.POLLIN)
        poll.register(self._stream.fileno(), 0)  # no events but the error that the reader is gone
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = {fd for fd, _ in poll.poll(remaining)}
            for frame in self._capture.frames():
                self._write(frame)
                if self.frames == count:
                    break
            self._stream.flush()
            over = deadline is not None and time.monotonic() >= deadline
            if over or self.frames == count or ready - {self._capture.ready_fd}:
                return

    def _write(self, frame: Frame) -> None:
        domain = self._domains.get(frame.domain, frame.domain) or "none"
        self._writer.packet(
            self._interface(frame.interface),
            frame.time,
            frame.data,
            frame.length,
            outbound=frame.after,
            comment=f"{frame.verdict}; domain {domain}; {'after' if frame.after else 'before'}",
        )
        self.frames += 1

    def _interface(self, index: int) -> int:
        if index not in self._interfaces:
            name = dict(socket.if_nameindex()).get(index, f"interface {index}")
            self._interfaces[index] = self._writer.interface(name)
        return self._interfaces[index]


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """Open a file to write to, or standard output where it is "-"."""
    to_stdout = file == STANDARD_OUTPUT
    with open(sys.stdout.fileno() if to_stdout else file, "wb", closefd=not to_stdout) as stream:  # noqa: PTH123
        yield stream


@contextmanager
def ended_by_signals() -> Iterator[int]:
    """A file descriptor that becomes readable by SIGINT, SIGTERM or SIGHUP, which end nothing themselves meanwhile."""
    event = os.eventfd(0)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [(number, signal.signal(number, lambda *_: os.eventfd_write(event, 1))) for number in numbers]
    try:
        yield event
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        os.close(event)
