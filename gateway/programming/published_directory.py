"""The directory that packets meet: who holds which VSID, port and rewritten address."""

from collections.abc import Mapping

from gateway.configuration import GatewayConfiguration
from gateway.datapath.grace import grace
from gateway.datapath.layout import Layout
from gateway.programming.directory_block import compile_directory
from gateway.programming.holdings import NOTHING, Holdings, directory_of
from gateway.programming.memory import Memory, Placed
from gateway.programming.places import Places


class PublishedDirectory:
    """Writes directories and switches from one to the next."""

    def __init__(
        self,
        memory: Memory,
        places: Places,
        layout: Layout,
        configuration: GatewayConfiguration,
        adopted: Placed | None,
    ) -> None:
        self._memory = memory
        self._places = places
        self._layout = layout
        self._configuration = configuration
        self._placed = adopted
        self.hosts: frozenset[str] = frozenset()  # that have a number in it

    def publish(self, holdings: Mapping[str, Holdings], numbers: Mapping[str, int]) -> None:
        """Write and name a new directory, and wait until no packet is in the old one."""
        directory = directory_of(
            holdings,
            numbers,
            self._configuration,
            self._places.interfaces(),
            self._places.port_facts,
            self._places.host,
        )
        block = compile_directory(directory, self._layout)
        self.hosts = frozenset(address for address, _ in directory.hosts)
        old = self._placed
        if old is not None and len(old.block) == len(block) and bool((old.block == block).all()):
            return
        self._placed = self._memory.place(block)
        self._memory.publish_directory(self._placed)
        self._memory.retire(old)
        grace()

    def must_change(self, before: Mapping[str, Holdings], after: Mapping[str, Holdings]) -> bool:
        """Tell whether packets must be told apart anew, or come from hosts that had no number.

        A host that no domain admits any more may stay in the directory until the next one.
        """
        if self._placed is None or any(
            before.get(rdid, NOTHING).unshared() != after.get(rdid, NOTHING).unshared()
            for rdid in before.keys() | after.keys()
        ):
            return True
        return any(not held.sources <= self.hosts for held in after.values())

    def in_place(self) -> bool:
        """Read back: tell whether packets meet what was written."""
        placed = self._placed
        return placed is not None and self._memory.directory_line() == placed.line and self._memory.holds(placed)
