"""Keeps one daemon alive: adopts it, starts it, and replaces it where it has ended or hangs."""

import select
import time
from contextlib import suppress
from pathlib import Path

import structlog

from vpn.charon import Charon, CharonError
from vpn.kernel import Backend
from vpn.session import ViciError

log = structlog.get_logger(__name__)
_QUESTIONS = 2  # unanswered, and a daemon counts as hanging
_STEADY_S = 10.0  # a daemon that lived so long is started again at once, also for the second time
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0


class Keeper:
    """For one thread at a time, but for `charon`."""

    def __init__(self, directory: Path, backend: Backend) -> None:
        self.charon: Charon | None = None
        self._directory = directory
        self._backend = backend
        self._adopts = True  # only at first: later a daemon that is not ours is nobody's
        self._started, self._pause = 0.0, 0.0

    def keep(self, namespace: str) -> Charon:
        """Return a daemon that answers, the same as before or another one. Raises CharonError."""
        charon = self.charon
        if charon and _ended(charon):
            log.warning("vpn_daemon_ended", directory=str(self._directory), pid=charon.pid)
            self.release()
        elif charon and not charon.is_in(namespace):
            log.warning("vpn_namespace_replaced", directory=str(self._directory), pid=charon.pid)
            self.end()
        elif charon and not _answers(charon):
            log.warning("vpn_daemon_hangs", directory=str(self._directory), pid=charon.pid)
            charon.kill()
            self.charon = None
        if self.charon is None:
            self.charon = self._start(namespace)
        return self.charon

    def end(self) -> None:
        """End the daemon, also one that an earlier gateway left; its peers are told."""
        charon = self.charon or Charon(self._directory, "", self._backend)
        if self.charon is None:
            charon.adopt()
        charon.stop()
        self.charon = None

    def release(self) -> None:
        """Forget the daemon, which may run on."""
        if self.charon:
            self.charon.forget()
        self.charon = None

    def _start(self, namespace: str) -> Charon:
        now = time.monotonic()
        if (left := self._started + self._pause - now) > 0:
            raise CharonError(f"charon keeps ending: it is started again in {left:.1f} s")
        steady = now - self._started > _STEADY_S
        self._pause = 0.0 if steady else min(max(2 * self._pause, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
        self._started = now
        charon = Charon(self._directory, namespace, self._backend)
        adopted = self._adopts and charon.adopt()
        if not adopted:
            charon.start()
        self._adopts = False
        log.info("vpn_daemon_runs", directory=str(self._directory), pid=charon.pid, adopted=adopted)
        return charon


def _ended(charon: Charon) -> bool:
    if charon.pidfd is None:
        return True
    poll = select.poll()
    poll.register(charon.pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _answers(charon: Charon) -> bool:
    for _ in range(_QUESTIONS):
        with suppress(ViciError):
            charon.commands.call("version")
            return True
    return False
