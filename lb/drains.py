"""How long members have been draining."""

from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

DRAIN_SECONDS_MAX = 3600.0

Key = TypeVar("Key", bound=Hashable)


class Drains(Generic[Key]):
    """Knows since when each of its keys has been draining, by a clock of the caller's, and whose time is over.

    Nothing of it outlives the process: after a restart the time begins anew, and connections are kept for longer.
    """

    def __init__(self, limit_s: float = DRAIN_SECONDS_MAX) -> None:
        self._limit = limit_s
        self._began: dict[Key, float] = {}

    def replace(self, draining: Collection[Key], now: float) -> None:
        """Make `draining` all that drain; who did before goes on."""
        self._began = {key: self._began.get(key, now) for key in draining}

    def ended(self, now: float) -> frozenset[Key]:
        """Return those whose time is over."""
        return frozenset(key for key, began in self._began.items() if now - began >= self._limit)

    def next_end(self, now: float) -> float | None:
        """Return when the next one's time will be over; None if nobody's will."""
        return min((began + self._limit for began in self._began.values() if now - began < self._limit), default=None)
