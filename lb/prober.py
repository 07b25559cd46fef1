"""Probes members again and again, each in its own rhythm, in a thread of its own."""

import asyncio
import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.policy.balancing import Probe
from lb.health import Outcome
from lb.probes import MakeSocket, probed

_PHASES = 1 << 32


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """Who is probed: a customer address of a routing domain (RDID), by one probe of one load balancer."""

    routing_domain: str
    load_balancer: str
    probe: str
    customer_address: str


@dataclass(frozen=True, slots=True)
class Way:
    """How a member is probed: every `interval_s`, which may be longer than the probe's own.

    `namespace` is the path of a network namespace, `source_address` an address in it.
    """

    probe: Probe
    interval_s: int
    namespace: str
    source_address: str


Observe = Callable[[Member, Outcome], None]
Order = Callable[[], None]


class Prober:
    """Calls `observe` from its own thread with the outcome of each probe.

    The probes of a member never overlap: one that is late is left out. A fault in `observe` ends the thread.
    """

    def __init__(self, observe: Observe, make_socket: MakeSocket) -> None:
        self._observe = observe
        self._make_socket = make_socket
        self._running: dict[Member, tuple[Way, asyncio.Task[None]]] = {}
        self._delayed: set[asyncio.Task[None]] = set()
        self._loop = asyncio.SelectorEventLoop()
        self._orders: asyncio.Queue[Order | None] = asyncio.Queue()
        self._tasks = asyncio.TaskGroup()  # a fault in any of them ends all, and the thread
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)
        self._thread.start()

    def probe(self, wanted: Mapping[Member, Way]) -> None:
        """Make these all that is probed. Members whose way is the same go on in their rhythm."""
        copy = dict(wanted)
        self._order(lambda: self._replace(copy))

    def later(self, delay_s: float, function: Order) -> None:
        """Call a function in the prober's thread after a while."""
        self._order(lambda: self._delay(delay_s, function))

    def close(self) -> None:
        """End the probes under way and the thread; what was still to be called is not."""
        self._order(None)
        self._thread.join()

    def _order(self, order: Order | None) -> None:
        self._loop.call_soon_threadsafe(self._orders.put_nowait, order)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._obey())

    async def _obey(self) -> None:
        async with self._tasks:
            while order := await self._orders.get():
                order()
            self._replace({})
            for task in self._delayed:
                task.cancel()

    def _replace(self, wanted: Mapping[Member, Way]) -> None:
        for member, (way, task) in list(self._running.items()):
            if wanted.get(member) != way:
                task.cancel()
                del self._running[member]
        for member in wanted.keys() - self._running.keys():
            task = self._tasks.create_task(self._again_and_again(member, wanted[member]))
            self._running[member] = (wanted[member], task)

    def _delay(self, delay_s: float, function: Order) -> None:
        task = self._tasks.create_task(_call_after(delay_s, function))
        self._delayed.add(task)
        task.add_done_callback(self._delayed.discard)

    async def _again_and_again(self, member: Member, way: Way) -> None:
        due = self._loop.time() + phase(member) * way.interval_s
        while True:
            await asyncio.sleep(due - self._loop.time())
            outcome = await probed(
                way.probe, member.customer_address, way.namespace, way.source_address, self._make_socket
            )
            self._observe(member, outcome)
            due = following(due, way.interval_s, self._loop.time())


async def _call_after(delay_s: float, function: Order) -> None:
    await asyncio.sleep(delay_s)
    function()


def phase(member: Member) -> float:
    """Return the part of its interval, from 0 to 1, that a member waits before its first probe: always the same."""
    digest = hashlib.blake2b(repr(member).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / _PHASES


def following(due: float, interval_s: float, now: float) -> float:
    """Return when the probe after that of `due` is due: the next whole interval that has not begun."""
    return due + interval_s * max(1, math.ceil((now - due) / interval_s))
