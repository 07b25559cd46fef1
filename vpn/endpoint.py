"""One routing domain's endpoint: its daemon, kept alive and kept to what policy wants."""

import select
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from pyroute2 import NetlinkError  # type: ignore[import-untyped]

from vpn import plumbing
from vpn.charon import Charon, CharonError
from vpn.histories import Histories
from vpn.kernel import Backend
from vpn.loading import Loading, diagnose
from vpn.session import Events, ViciError
from vpn.specification import EndpointSpecification, Tunnel, tunnels
from vpn.status import ConnectionStatus, EndpointStatus, LogLine

log = structlog.get_logger(__name__)
FAULTS = (CharonError, ViciError, NetlinkError, OSError)
_EVENTS = ("log", "ike-updown", "child-updown", "ike-rekey", "child-rekey")
_MISSES = 2  # unanswered questions until a daemon counts as hanging
_LONGEST_PAUSE_S = 10.0
_CLOSING_S = 2.0
PATHS_EVERY_S = 20.0  # until then packets that are too big for the path go in fragments
_STEADY_S = 10.0  # a daemon that lived so long may be restarted at once


class Endpoint:
    """Everything that changes the daemon is done by one thread at a time; what is told of it never waits for that."""

    def __init__(
        self, routing_domain: str, directory: Path, backend: Backend, look_soon: Callable[[], None] = lambda: None
    ) -> None:
        """`look_soon` asks for a `heal` by another thread."""
        self._look_soon = look_soon
        self.routing_domain = routing_domain
        self._directory = directory
        self._backend = backend
        self._work = threading.RLock()
        self._specification: EndpointSpecification | None = None
        self._tunnels: dict[str, Tunnel] = {}
        self._laid: dict[str, plumbing.Laid] = {}
        self._loads: object = None  # the specification that was loaded last, and into which process
        self._lies: object = None  # what was laid last, and for which process
        self._charon: Charon | None = None
        self._loading: Loading | None = None
        self._events: Events | None = None
        self._histories = Histories()
        self._fault: str | None = None
        self._path_mtus: dict[str, int] = {}  # by peer, where they were learned
        self._paths_due = 0.0
        self._missed = 0
        self._started, self._pause, self._not_before = 0.0, 0.0, 0.0

    @property
    def pidfd(self) -> int | None:
        """Readable when the daemon has ended; None while there is none."""
        return self._charon.pidfd if self._charon else None

    def reconcile(self, specification: EndpointSpecification) -> None:
        """Bring daemon and namespace to what is wanted; what fails is `status().fault`, and tried again by `heal`."""
        with self._work:
            moved = self._specification and self._specification.namespace != specification.namespace
            if moved and self._charon:
                self._charon.stop()
                self._let_go()
            self._specification = specification
            self._tunnels = tunnels(specification.connections, self._backend.in_user_space)
            self._histories.follow(specification.connections, self._tunnels)
            self._not_before = 0.0
            self._attempt()

    def heal(self) -> None:
        """Look after the daemon: start it anew where it ended or hangs, and connect what is not connected."""
        with self._work:
            if self._specification is not None:
                self._attempt()

    def up(self, name: str, seconds: float) -> ConnectionStatus:
        """Connect, also after `down`; return when connected or failed, at the latest after so many seconds."""
        with self._work:
            self._histories.hold(name, False)
            self._attempt()
        self._histories.await_outcome(name, seconds)
        return self.connection_status(name)

    def down(self, name: str) -> ConnectionStatus:
        """Close a tunnel and keep it closed until `up`."""
        with self._work:
            self._histories.hold(name, True)
            if self._loading and name in self._tunnels:
                self._loading.close(self._tunnels[name].key)
        self._histories.await_closed(name, _CLOSING_S)
        return self.connection_status(name)

    def stop(self) -> None:
        """End the daemon, whose peers are told; tunnels close."""
        with self._work:
            self._specification = None
            if self._charon is None:
                charon = Charon(self._directory, "", self._backend)
                charon.adopt()
                charon.stop()
            else:
                self._charon.stop()
            self._let_go()
            shutil.rmtree(self._directory, ignore_errors=True)

    def release(self) -> None:
        """Leave the daemon running for a later gateway."""
        with self._work:
            self._specification = None
            if self._charon:
                self._charon.forget()
            self._let_go()

    def _attempt(self) -> None:
        try:
            self._keep_running()
            if self._charon:
                self._bring_about()
            self._fault = None
        except FAULTS as error:
            fault = str(error)
            if fault != self._fault:
                log.error("vpn_endpoint_fault", routing_domain=self.routing_domain, why=fault)
            self._fault = fault

    def _keep_running(self) -> None:
        """Have a daemon that answers."""
        if self._charon and self._ended():
            log.warning("vpn_daemon_ended", routing_domain=self.routing_domain, pid=self._charon.pid)
            self._charon.forget()
            self._let_go()
        elif self._charon and not self._answers():
            log.warning("vpn_daemon_hangs", routing_domain=self.routing_domain, pid=self._charon.pid)
            self._charon.kill()
            self._let_go()
        if self._charon is None and time.monotonic() >= self._not_before:
            self._start()

    def _ended(self) -> bool:
        if self.pidfd is None:
            return True
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def _answers(self) -> bool:
        assert self._charon
        try:
            self._charon.commands.call("version")
        except ViciError:
            self._missed += 1
        else:
            self._missed = 0
        return self._missed < _MISSES

    def _start(self) -> None:
        assert self._specification
        now = time.monotonic()
        self._pause = 0.0 if now - self._started > _STEADY_S else min(max(self._pause * 2, 0.5), _LONGEST_PAUSE_S)
        self._not_before, self._started = now + self._pause, now
        charon = Charon(self._directory, self._specification.namespace, self._backend)
        adopted = charon.adopt()
        if not adopted:
            charon.start()
        log.info("vpn_daemon_runs", routing_domain=self.routing_domain, pid=charon.pid, adopted=adopted)
        self._charon, self._loading = charon, Loading(charon.commands)

    def _bring_about(self) -> None:
        """Have everything loaded, laid and on its way."""
        assert self._charon and self._loading and self._specification
        listens_anew = self._events is None or not self._events.alive
        if listens_anew:
            self._events = Events(self._charon.socket, _EVENTS, self._on_event)
        if self._loads != (self._specification, self._charon.pid):
            self._histories.refused(self._loading.reconcile(self._tunnels.values()))
            self._loads = (self._specification, self._charon.pid)
            self._resynchronise()
        elif listens_anew or not self._histories.settled():
            self._resynchronise()
        self._lay()
        for tunnel in self._histories.due():
            self._loading.initiate(tunnel.key)
        for tunnel in self._histories.undiagnosed():
            self._histories.diagnosed(tunnel, diagnose(self._charon.socket, tunnel))

    def _lay(self) -> None:
        assert self._charon and self._specification
        tun = self._backend.in_user_space
        if time.monotonic() >= self._paths_due:
            self._paths_due = time.monotonic() + PATHS_EVERY_S
            self._path_mtus = plumbing.learned_path_mtus(self._specification)
        encapsulated = self._histories.encapsulated()
        laid = plumbing.plan(self._specification, self._tunnels, self._path_mtus, encapsulated, tun)
        wanted = (self._specification, laid, self._charon.pid)
        if wanted != self._lies:
            plumbing.lay(self._specification, laid.values(), tun)
            self._laid, self._lies = laid, wanted

    def _on_event(self, name: str, message: Mapping[str, Any]) -> None:
        if name == "log":
            self._histories.heard(message)
            if self._histories.undiagnosed():
                self._look_soon()
            return
        if name.endswith("-rekey"):
            self._histories.rekeyed(name, message)
        try:
            self._resynchronise()
        except ViciError:
            return  # the supervisor sees the daemon's end or hang by itself

    def _resynchronise(self) -> None:
        loading = self._loading
        if loading:
            self._histories.observed(loading.associations())

    def _let_go(self) -> None:
        events, self._events = self._events, None
        self._charon = self._loading = None
        self._loads, self._lies, self._missed = None, None, 0
        if events:
            events.close()
        self._histories.observed([])

    def log(self, name: str) -> list[LogLine]:
        """Return the latest lines of a connection's log. Raises KeyError."""
        return self._histories.log(name)

    def connection_status(self, name: str) -> ConnectionStatus:
        """Return one connection's status. Raises KeyError."""
        return next(status for status in self.status().connections if status.name == name)

    def status(self) -> EndpointStatus:
        """Return all that is known, the counters as of now if the daemon answers."""
        with suppress(ViciError):  # else what was known last is told
            self._resynchronise()
        mtus = {name: laid.mtu for name, laid in self._laid.items()}
        connections = self._histories.statuses(mtus, self._backend)
        pid = self._charon.pid if self._charon else None
        return EndpointStatus(self.routing_domain, self._backend.why, pid, self._fault, connections)
