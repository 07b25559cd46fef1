"""HTTP clients on nodes of a lab, which hold their connections while something is done to the gateway."""

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from deploy.lab.programs import await_word, running
from deploy.lab.running import RunningLab


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients of one tenant's service on a node: `held` connections, and `new_per_second` for one question each."""

    owner: str
    node: str
    address: str
    port: int = 80
    held: int = 40
    new_per_second: float = 20
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What clients counted. `held` and `new` are answers by server ("blue BlueVM1").

    `broken` are held connections that ended before their time, each as its server and why; `failed` new ones that did;
    `changed` answers of another server on the same connection. `longest_wait` is in seconds.
    """

    clients: Clients
    held: dict[str, int]
    new: dict[str, int]
    broken: tuple[tuple[str, str], ...]
    failed: tuple[str, ...]
    changed: int
    longest_wait: float

    @property
    def servers(self) -> set[str]:
        return self.held.keys() | self.new.keys()

    @property
    def foreign(self) -> set[str]:
        """Return the servers of other owners."""
        return {server for server in self.servers if server.partition(" ")[0] != self.clients.owner}

    @property
    def flawless(self) -> bool:
        return not (self.broken or self.failed or self.changed or self.foreign)


@contextmanager
def connected(lab: RunningLab, clients: Sequence[Clients]) -> Iterator[list[Report]]:
    """Run clients around the block, all answered before it begins; the list is filled when it ends."""
    reports: list[Report] = []
    with ExitStack() as stack:
        started = []
        for one in clients:
            numbers = str(one.port), str(one.held), str(one.new_per_second)
            started.append(stack.enter_context(running(lab, one.node, "client", one.address, *numbers, *one.sources)))
        for process in started:
            await_word(process, "flowing")
        yield reports
        for process in started:
            process.send_signal(signal.SIGTERM)
        for one, process in zip(clients, started, strict=True):
            text, _ = process.communicate(timeout=60)
            counted = json.loads(text)
            counted["broken"] = tuple((server, why) for server, why in counted["broken"])
            reports.append(Report(one, **(counted | {"failed": tuple(counted["failed"])})))
