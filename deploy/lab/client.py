"""HTTP clients of one address that hold their connections, and one that opens a new one each time.

python -m deploy.lab.client ADDRESS PORT CONNECTIONS NEW_PER_SECOND [SOURCE...]
    prints `flowing` once all connections were answered, goes on until SIGTERM, and prints a JSON report; connections
    are from each of the SOURCE addresses by turns
"""

import asyncio
import itertools
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

PAUSE_SECONDS = 0.2
APART_SECONDS = 0.005  # a stock server takes few connections at the very same time
PATIENCE_SECONDS = 10
LOST = (OSError, EOFError, ValueError, TimeoutError)


@dataclass
class Report:
    """`held` and `new` count answers, by whose words they were; `broken` and `failed` name what went wrong.

    `changed` are answers on a held connection by another server than before; times are in seconds.
    """

    held: Counter[str] = field(default_factory=Counter)
    new: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    changed: int = 0
    longest_wait: float = 0.0


class Connection:
    """One HTTP/1.1 connection."""

    def __init__(self, address: str, port: int, source: str | None) -> None:
        self._target = address, port
        self._source = (source, 0) if source else None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> str:
        """Return the page, by a new connection if there is none. Errors: those of LOST."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._target, local_addr=self._source)
            reader, writer = self._streams
            writer.write(b"GET / HTTP/1.1\r\nHost: service\r\n\r\n")
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            return (await reader.readexactly(int(fields["content-length"]))).decode().strip()

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None


async def hold(connection: Connection, report: Report, first: asyncio.Barrier, over: asyncio.Event) -> None:
    """Ask on one connection again and again, and a last time when all is over; a broken one is counted and replaced."""
    server = ""
    answered = ending = False
    while not ending:
        ending = over.is_set()
        start = time.monotonic()
        try:
            words = await connection.ask()
        except LOST as error:
            report.broken.append((server, repr(error)))
            connection.close()
            server = ""
        else:
            report.changed += bool(server) and words != server
            report.held[words] += 1
            server = words
            if not answered:
                answered = True
                await first.wait()
        report.longest_wait = max(report.longest_wait, time.monotonic() - start)
        await asyncio.sleep(0 if ending else PAUSE_SECONDS)
    connection.close()


async def renew(connections: Iterator[Connection], report: Report, per_second: float, over: asyncio.Event) -> None:
    """Open a connection for each question."""
    while per_second and not over.is_set():
        connection = next(connections)
        try:
            report.new[await connection.ask()] += 1
        except LOST as error:
            report.failed.append(repr(error))
        connection.close()
        await asyncio.sleep(1 / per_second)


async def run(address: str, port: int, count: int, per_second: float, sources: list[str]) -> Report:
    report, over, first = Report(), asyncio.Event(), asyncio.Barrier(count + 1)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    connections = (Connection(address, port, source) for source in itertools.cycle(sources or [None]))
    async with asyncio.TaskGroup() as group:
        for connection in itertools.islice(connections, count):
            group.create_task(hold(connection, report, first, over))
            await asyncio.sleep(APART_SECONDS)
        await first.wait()
        print("flowing", flush=True)
        group.create_task(renew(connections, report, per_second, over))
    return report


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    found = run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:])
    print(json.dumps(vars(asyncio.run(found))))
