"""All endpoints of a gateway, looked after together."""

import os
import select
import threading
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from vpn.endpoint import Endpoint
from vpn.kernel import Backend, probe
from vpn.specification import EndpointSpecification
from vpn.status import ConnectionStatus, EndpointStatus, LogLine

log = structlog.get_logger(__name__)
_LOOK_SECONDS = 2.0
_WORKERS = 8
_UP_SECONDS = 10.0


class VpnService:
    """One endpoint for each routing domain that has IPsec connections. `close` leaves the daemons running."""

    def __init__(self, directory: Path, backend: Backend | None = None) -> None:
        """`directory`, such as /run/tenant-gateway/NAME/vpn, holds what later gateways find running daemons by."""
        self.backend = backend or probe()
        self._directory = directory
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._endpoints: dict[str, Endpoint] = {}
        self._wanted: Mapping[str, EndpointSpecification] = {}
        self._busy: set[str] = set()
        self._again: set[str] = set()  # of the busy: to be looked after once more
        self._lock = threading.Lock()  # of these four
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="vpn")
        self._asking = ThreadPoolExecutor(_WORKERS, thread_name_prefix="vpn status")  # never waits for starts
        self._woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = False
        self._supervisor = threading.Thread(target=self._supervise, name="vpn supervisor", daemon=True)
        self._supervisor.start()
        log.info("vpn_backend", name=self.backend.name, why=self.backend.why)

    def reconcile(self, domains: Mapping[str, EndpointSpecification]) -> None:
        """Bring all endpoints to what is wanted, by RDID, several at a time; a domain that is not named has none.

        Returns when tunnels are on their way, not when they are up. What fails is in `status`. An endpoint that was
        wanted so before is not disturbed, nor waited for. For one thread at a time.
        """
        with self._lock:
            stale = (self._endpoints.keys() | self._left_behind()) - domains.keys()
            leaving = [self._endpoints.get(domain) or self._endpoint(domain) for domain in stale]
            self._endpoints = {domain: self._endpoints[domain] for domain in self._endpoints.keys() - stale}
            for domain in domains.keys() - self._endpoints.keys():
                self._endpoints[domain] = self._endpoint(domain)
            endpoints = dict(self._endpoints)
        stopped = [self._pool.submit(endpoint.stop) for endpoint in leaving]
        changed = {domain: wanted for domain, wanted in domains.items() if wanted != self._wanted.get(domain)}
        self._wanted = dict(domains)
        begun = [self._pool.submit(endpoints[domain].reconcile, wanted) for domain, wanted in changed.items()]
        for future in stopped + begun:
            future.result()
        self._wake()

    def status(self, routing_domains: Collection[str] | None = None) -> dict[str, EndpointStatus]:
        """Return the status of every endpoint, or of those of these domains, by RDID."""
        with self._lock:
            asked = self._endpoints.keys() & (self._endpoints.keys() if routing_domains is None else routing_domains)
            endpoints = {domain: self._endpoints[domain] for domain in asked}
        return dict(zip(endpoints, self._asking.map(Endpoint.status, endpoints.values()), strict=True))

    def up(self, routing_domain: str, name: str, seconds: float = _UP_SECONDS) -> ConnectionStatus:
        """Connect a tunnel; return when it is up or has failed. Raises KeyError."""
        return self._endpoints[routing_domain].up(name, seconds)

    def down(self, routing_domain: str, name: str) -> ConnectionStatus:
        """Close a tunnel until `up`. Raises KeyError."""
        return self._endpoints[routing_domain].down(name)

    def log(self, routing_domain: str, name: str) -> list[LogLine]:
        """Return the latest lines of a connection's log. Raises KeyError."""
        return self._endpoints[routing_domain].log(name)

    def close(self) -> None:
        """Stop looking after the endpoints; tunnels carry on, and a later service adopts them."""
        with self._lock:
            self._closing = True
        self._wake()
        self._supervisor.join()
        self._pool.shutdown()
        self._asking.shutdown()
        for endpoint in self._endpoints.values():
            endpoint.release()
        os.close(self._woken)

    def _endpoint(self, domain: str) -> Endpoint:
        return Endpoint(domain, self._directory / domain, self.backend, lambda: self._look_after(domain))

    def _left_behind(self) -> Iterable[str]:
        return {entry.name for entry in self._directory.iterdir()}

    def _supervise(self) -> None:
        """Look after every endpoint now and then, and at once after one whose daemon has ended."""
        while not self._closing:
            idle = self._idle()
            watched = {pidfd: endpoint for endpoint in idle if (pidfd := endpoint.pidfd) is not None}
            poll = select.poll()
            for descriptor in (self._woken, *watched):
                poll.register(descriptor, select.POLLIN)
            signalled = {descriptor for descriptor, _ in poll.poll(_LOOK_SECONDS * 1000)}
            if self._woken in signalled:
                os.eventfd_read(self._woken)
            for endpoint in [watched[descriptor] for descriptor in signalled & watched.keys()] if signalled else idle:
                self._look_after(endpoint.routing_domain)

    def _idle(self) -> list[Endpoint]:
        with self._lock:
            return [endpoint for domain, endpoint in self._endpoints.items() if domain not in self._busy]

    def _look_after(self, domain: str) -> None:
        with self._lock:
            endpoint = self._endpoints.get(domain)
            if endpoint is None or self._closing:
                return
            if domain in self._busy:
                self._again.add(domain)
                return
            self._busy.add(domain)
            self._pool.submit(self._heal, endpoint)

    def _heal(self, endpoint: Endpoint) -> None:
        try:
            endpoint.heal()
        finally:
            domain = endpoint.routing_domain
            with self._lock:
                self._busy.discard(domain)
                again = domain in self._again
                self._again.discard(domain)
            if again:
                self._look_after(domain)
            self._wake()

    def _wake(self) -> None:
        os.eventfd_write(self._woken, 1)
