"""Larger regions for the domains that need them, as long as there is memory for them."""

from collections.abc import Mapping

import structlog

from gateway.datapath.connections import WAYS
from gateway.programming.block import CapacityError
from gateway.programming.connection_regions import ConnectionRegions

log = structlog.get_logger(__name__)


class Widening:
    """Looks again and again whether a region is to become larger: the programs fill one, but cannot have another."""

    def __init__(self, regions: ConnectionRegions, most: int) -> None:
        """`most`: connections of a domain, of each IP family; rounded up to a power of two."""
        self._regions = regions
        self._most = 1 << (most - 1).bit_length()
        self._refused: set[tuple[str, str]] = set()  # RDIDs and IP families that it was said of

    def look(self, numbers: Mapping[str, int]) -> None:
        """Widen the regions of these domains, by RDID, that want it."""
        for rdid, number in numbers.items():
            for family in WAYS:
                self._look_at(rdid, number, family)

    def _look_at(self, rdid: str, number: int, family: str) -> None:
        try:
            places = self._regions.widen(number, family, self._most)
        except CapacityError as error:
            if (rdid, family) not in self._refused:
                log.warning("connections_not_widened", domain=rdid, family=f"IPv{family}", why=str(error))
                self._refused.add((rdid, family))
            return
        if places:
            log.info("connections_widened", domain=rdid, family=f"IPv{family}", places=places)
            self._refused.discard((rdid, family))
