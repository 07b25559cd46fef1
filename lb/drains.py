"""How long members have been draining."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import TypeAlias

import structlog

from lb.pools import DrainingMember

log = structlog.get_logger(__name__)

DRAIN_SECONDS_MAX = 3600.0

Draining: TypeAlias = tuple[str, DrainingMember]  # RDID and member


class Drains:
    """Knows since when members have been draining, in seconds since the epoch, and whose time is over.

    What it knows is kept in a file, so that a restart gives nobody a new time.
    """

    def __init__(self, path: Path, limit_s: float = DRAIN_SECONDS_MAX) -> None:
        self._path = path
        self._limit = limit_s
        self._began = _read(path)

    def replace(self, draining: Collection[Draining], now: float) -> None:
        """Make `draining` all that drain; who did before goes on."""
        began = {key: min(self._began.get(key, now), now) for key in draining}  # the clock may have been set back
        if began != self._began:
            self._began = began
            self._keep()

    def ended(self, now: float) -> frozenset[Draining]:
        """Return those whose time is over."""
        return frozenset(key for key, began in self._began.items() if now - began >= self._limit)

    def next_end(self, now: float) -> float | None:
        """Return when the next one's time will be over; None if nobody's will."""
        return min((began + self._limit for began in self._began.values() if now - began < self._limit), default=None)

    def _keep(self) -> None:
        rows = [
            [rdid, one.load_balancer, one.pool, one.customer_address, began]
            for (rdid, one), began in sorted(self._began.items())
        ]
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            with part.open("w") as file:
                json.dump(rows, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError as error:
            log.error(
                "drains_not_kept", file=str(self._path), why=error.strerror, but="a restart gives them a new time"
            )


def _read(path: Path) -> dict[Draining, float]:
    try:
        rows = json.loads(path.read_bytes())
        return {
            (str(rdid), DrainingMember(str(balancer), str(pool), str(address))): float(began)
            for rdid, balancer, pool, address, began in rows
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        log.warning("drains_unreadable", file=str(path), why=str(error), but="members that drain get a new time")
        return {}
