"""Warnings of routing domains that have no port left to lend."""

from collections.abc import Mapping

import structlog

log = structlog.get_logger(__name__)

REASON = "nat_exhausted"  # of the drop


class Exhaustion:
    """Says in the log whose packets found no port since the last look."""

    def __init__(self) -> None:
        self._before: Mapping[str, int] | None = None

    def look(self, dropped: Mapping[str, int]) -> None:
        """Take how many packets were dropped for want of a port since the counters began, by RDID."""
        before, self._before = self._before, dict(dropped)
        if before is None:  # what a former daemon's time was like is told by its log
            return
        for rdid, packets in dropped.items():
            if more := max(packets - before.get(rdid, 0), 0):
                mend = "lend it more ports or another public address"
                log.warning("nat_exhausted", routing_domain=rdid, packets_dropped=more, mend=mend)
