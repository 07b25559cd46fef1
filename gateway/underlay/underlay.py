"""Follows Linux's way to each provider address and tells when it changes."""

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from selectors import EVENT_READ, DefaultSelector

from gateway.underlay.hop import Hop
from gateway.underlay.managed_neighbours import ManagedNeighbours
from gateway.underlay.mirror import Changes, apply, read_network, read_routes
from gateway.underlay.netlink import Events, EventsLostError, Requests
from gateway.underlay.network import Link
from gateway.underlay.resolution import Resolution

HopsChanged = Callable[[Mapping[str, Hop | None]], None]
LinksChanged = Callable[[Mapping[str, Link | None]], None]


class Underlay:
    """The hops to the wanted provider addresses, in the network namespace of the thread that constructs it.

    `on_change` gets the addresses whose hop changed (None: no way there), `on_link_change` the names of the interfaces
    that changed (None: gone). Both are called from the underlay's own thread, one at a time, never during `want`.
    Managed neighbours stay in the kernel after `close`, so that a gateway whose daemon is down forwards on.
    """

    def __init__(
        self,
        provider_addresses: Sequence[str],
        on_change: HopsChanged,
        on_link_change: LinksChanged = lambda changes: None,
    ) -> None:
        self._on_change = on_change
        self._on_link_change = on_link_change
        self._events = Events()  # before the first reading, so that nothing is missed between
        self._requests = Requests()
        self._network = read_network(self._requests)
        self._resolution = Resolution(self._network, provider_addresses)
        self._managed = ManagedNeighbours(self._requests)
        self._told_links = self._network.links_by_name()
        self._wanted = False
        self._closing = False
        self._lock = threading.Lock()  # of _network and _resolution; only the thread changes _network
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="underlay", daemon=True)
        self._thread.start()

    def want(self, addresses: Collection[str]) -> None:
        """Make `addresses` the whole set needed; `hops` knows them at once, their MACs come later."""
        with self._lock:
            self._resolution.want(addresses)
            self._wanted = True
        os.eventfd_write(self._wake, 1)

    def hops(self) -> Mapping[str, Hop | None]:
        """Return the hop of each wanted address, None where there is no way."""
        with self._lock:
            return dict(self._resolution.hops)

    def links(self) -> Mapping[str, Link]:
        """Return the interfaces by their names."""
        with self._lock:
            return self._network.links_by_name()

    def close(self) -> None:
        """Finish what `want` asked for, then stop following."""
        if self._closing:
            return
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._events.close()
        self._requests.close()
        os.close(self._wake)

    def _run(self) -> None:
        with DefaultSelector() as selector:
            selector.register(self._events, EVENT_READ)
            selector.register(self._wake, EVENT_READ)
            while True:
                closing = self._closing
                self._follow()
                if closing:
                    return
                for key, _ in selector.select():
                    if key.fd == self._wake:
                        os.eventfd_read(self._wake)

    def _follow(self) -> None:
        try:
            changes = self._apply_events()
        except EventsLostError:
            changes = self._read_anew()
        with self._lock:
            if changes.paths:
                self._resolution.links_or_routes_changed()
            self._resolution.neighbours_changed(changes.neighbours)
            hops = self._resolution.take_changes()
            next_hops = set(self._resolution.next_hops())
            wanted = self._wanted
        if changes.links:
            self._tell_links(changes.links)
        if hops:
            self._on_change(hops)
        if wanted:
            installed = self._managed.reconcile(self._network, next_hops)
            with self._lock:
                self._network.neighbours.update(installed)

    def _apply_events(self) -> Changes:
        messages = self._events.receive()
        with self._lock:
            changes = apply(self._network, messages)
        if changes.paths:
            routes = read_routes(self._requests)
            with self._lock:
                self._network.routes = routes
        return changes

    def _read_anew(self) -> Changes:
        network = read_network(self._requests)
        names = self._told_links.keys() | network.links_by_name().keys()
        with self._lock:
            self._network.links = network.links
            self._network.addresses = network.addresses
            self._network.routes = network.routes
            self._network.neighbours = network.neighbours
        return Changes(links=names, paths=True)

    def _tell_links(self, names: Collection[str]) -> None:
        links = self._network.links_by_name()
        told, self._told_links = self._told_links, links
        changed = {name: links.get(name) for name in names if links.get(name) != told.get(name)}
        if changed:
            self._on_link_change(changed)
