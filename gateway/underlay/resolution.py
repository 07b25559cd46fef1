"""Which provider addresses are wanted, and what hop each has now."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from gateway.underlay.hop import Hop
from gateway.underlay.network import NeighbourKey, Network
from gateway.underlay.paths import Path, find_path


class Resolution:
    """The hops of the wanted addresses, recomputed as far as a change of the network reaches. Not thread-safe."""

    def __init__(self, network: Network, provider_addresses: Sequence[str]) -> None:
        self._network = network
        self._provider_addresses = tuple(provider_addresses)
        self._paths: dict[str, Path | None] = {}
        self._users: dict[NeighbourKey, set[str]] = {}
        self._changes: dict[str, Hop | None] = {}
        self.hops: dict[str, Hop | None] = {}

    def want(self, addresses: Collection[str]) -> None:
        """Make `addresses` the whole set that is wanted."""
        wanted = set(addresses)
        for address in self.hops.keys() - wanted:
            self._set_path(address, None)
            del self._paths[address], self.hops[address]
            self._changes.pop(address, None)
        self._find_paths(wanted - self.hops.keys())

    def links_or_routes_changed(self) -> None:
        """Find every path anew."""
        self._find_paths(self.hops.keys())

    def neighbours_changed(self, neighbours: Iterable[NeighbourKey]) -> None:
        """Resolve the paths that go through these neighbours anew."""
        for neighbour in neighbours:
            for address in self._users.get(neighbour, ()):
                self._set_hop(address)

    def next_hops(self) -> Collection[NeighbourKey]:
        """Return the distinct neighbours that the wanted addresses are reached through."""
        return self._users.keys()

    def take_changes(self) -> Mapping[str, Hop | None]:
        """Return the hops that changed since the last call."""
        changes, self._changes = self._changes, {}
        return changes

    def _find_paths(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            self._set_path(address, find_path(self._network, self._provider_addresses, address))
            self._set_hop(address)

    def _set_path(self, address: str, path: Path | None) -> None:
        previous = self._paths.get(address)
        self._paths[address] = path
        if previous is not None:
            users = self._users[previous.neighbour]
            users.discard(address)
            if not users:
                del self._users[previous.neighbour]
        if path is not None:
            self._users.setdefault(path.neighbour, set()).add(address)

    def _set_hop(self, address: str) -> None:
        path = self._paths[address]
        hop = None
        if path is not None:
            neighbour = self._network.neighbours.get(path.neighbour)
            hop = replace(path.hop, destination_mac=neighbour.mac if neighbour else None)
        if address not in self.hops or self.hops[address] != hop:
            self.hops[address] = self._changes[address] = hop
