"""One routing domain's endpoint: its daemon and its namespace, brought to what policy wants."""

import json
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
from vpn.keeper import Keeper
from vpn.kernel import Backend
from vpn.loading import Loading, diagnose
from vpn.precedence import Flows, Precedence
from vpn.session import Events, ViciError
from vpn.specification import EndpointSpecification, Tunnel, tunnels
from vpn.status import ConnectionStatus, EndpointStatus, LogLine

log = structlog.get_logger(__name__)
PATHS_EVERY_S = 20.0  # until then packets that are too big for the path go in fragments
_FAULTS = (CharonError, ViciError, NetlinkError, OSError)
_EVENTS = ("log", "ike-updown", "child-updown", "ike-rekey", "child-rekey")
_CLOSING_S = 2.0


class Endpoint:
    """Everything that changes the daemon is done by one thread at a time; what is told of it never waits for that."""

    def __init__(
        self, routing_domain: str, directory: Path, backend: Backend, look_soon: Callable[[], None] = lambda: None
    ) -> None:
        """`look_soon` asks for a `heal` by another thread."""
        self.routing_domain = routing_domain
        self._directory = directory
        self._backend = backend
        self._look_soon = look_soon
        self._work = threading.RLock()
        self._keeper = Keeper(directory, backend)
        self._histories = Histories()
        self._specification: EndpointSpecification | None = None
        self._tunnels: dict[str, Tunnel] = {}
        self._precedence = Precedence({}, backend.in_user_space)
        self._held: set[str] | None = None  # names of connections that an administrator took down; None: not read yet
        self._loading: Loading | None = None
        self._events: Events | None = None
        self._loaded: object = None  # what was loaded last
        self._lies: object = None  # what was laid last, and for which process
        self._laid: dict[str, plumbing.Laid] = {}
        self._carried_by: dict[Flows, str | None] = {}  # as laid last
        self._stood_by: dict[str, str] = {}
        self._path_mtus: dict[str, int] = {}  # by peer, where they were learned
        self._paths_due = time.monotonic() + PATHS_EVERY_S
        self._fault: str | None = None

    @property
    def pidfd(self) -> int | None:
        """Readable when the daemon has ended; None while there is none."""
        charon = self._keeper.charon
        return charon.pidfd if charon else None

    def reconcile(self, specification: EndpointSpecification) -> None:
        """Bring daemon and namespace to what is wanted; what fails is `status().fault`, and tried again by `heal`."""
        with self._work:
            self._specification = specification
            self._tunnels = tunnels(specification.connections, self._backend.in_user_space)
            self._precedence = Precedence(self._tunnels, self._backend.in_user_space)
            self._histories.follow(specification.connections, self._tunnels)
            for name in self._hold_again():
                self._histories.hold(name, True)
            self._attempt()

    def heal(self) -> None:
        """Look after the daemon: start it anew where it ended or hangs, and connect what is not connected."""
        with self._work:
            if self._specification is not None:
                self._attempt()

    def up(self, name: str, seconds: float) -> ConnectionStatus:
        """Connect, also after `down`; return when connected or failed, at the latest after so many seconds."""
        self._hold(name, False)
        if self._fault is None:
            self._histories.await_outcome(name, seconds)
        return self.connection_status(name)

    def down(self, name: str) -> ConnectionStatus:
        """Close a tunnel and keep it closed until `up` or until the machine boots, also if the peer initiates."""
        self._hold(name, True)
        self._histories.await_closed(name, _CLOSING_S)
        return self.connection_status(name)

    def _hold(self, name: str, held: bool) -> None:
        with self._work:
            self._histories.hold(name, held)
            names = self._hold_again()
            if held != (name in names):
                names ^= {name}
                self._held_file.write_text(json.dumps(sorted(names)))
            self._attempt()

    def _hold_again(self) -> set[str]:
        """Return what is held, also by an earlier gateway, of the connections that there are."""
        if self._held is None:
            self._held = set(json.loads(self._held_file.read_text())) if self._held_file.exists() else set()
        assert self._specification
        self._held &= {connection.name for connection in self._specification.connections}
        return self._held

    @property
    def _held_file(self) -> Path:
        return self._directory / "held"

    def stop(self) -> None:
        """End the daemon, whose peers are told; tunnels close."""
        with self._work:
            self._specification = None
            self._let_go()
            self._keeper.end()
            shutil.rmtree(self._directory, ignore_errors=True)

    def release(self) -> None:
        """Leave the daemon running for a later gateway."""
        with self._work:
            self._specification = None
            self._let_go()
            self._keeper.release()

    def _attempt(self) -> None:
        assert self._specification
        try:
            before = self._keeper.charon
            charon = self._keeper.keep(self._specification.namespace)
            if charon is not before or self._loading is None:
                self._let_go()
                self._loading = Loading(charon.commands)
            self._bring_about(charon, self._loading, self._specification)
            self._fault = None
        except _FAULTS as error:
            if str(error) != self._fault:
                log.error("vpn_endpoint_fault", routing_domain=self.routing_domain, why=str(error))
            self._fault = str(error)

    def _bring_about(self, charon: Charon, loading: Loading, specification: EndpointSpecification) -> None:
        """Have everything loaded, laid and on its way."""
        listens_anew = self._events is None or not self._events.alive
        if listens_anew:
            self._events = Events(charon.socket, _EVENTS, self._on_event)
            if self._precedence.rivals:
                self._resynchronise()  # so that no tunnel is taken for lost which an earlier gateway connected
        self._stood_by = self._precedence.standing_by(self._histories.hopeful())
        self._histories.stand_by(self._stood_by)
        left_out = self._hold_again() | self._stood_by.keys()
        wanted = {name: tunnel for name, tunnel in self._tunnels.items() if name not in left_out}
        changed = self._loaded != wanted
        if changed:
            self._histories.refused(loading.reconcile(wanted.values()))
            self._loaded = wanted
        if changed or listens_anew or not self._histories.settled():
            self._resynchronise()
        self._lay(charon, specification)
        for tunnel in self._histories.due():
            loading.initiate(tunnel.key)
        for tunnel in self._histories.undiagnosed():
            self._histories.diagnosed(tunnel, diagnose(charon.socket, tunnel))

    def _lay(self, charon: Charon, specification: EndpointSpecification) -> None:
        tun = self._backend.in_user_space
        if time.monotonic() >= self._paths_due:
            self._paths_due = time.monotonic() + PATHS_EVERY_S
            self._path_mtus = plumbing.learned_path_mtus(specification)
        laid = plumbing.plan(specification, self._tunnels, self._path_mtus, self._histories.encapsulated(), tun)
        carriers = self._precedence.carriers(self._usable())
        wanted = (specification, laid, carriers, charon.pid)
        if wanted != self._lies:
            plumbing.lay(specification, laid, carriers, tun)
            self._laid, self._lies, self._carried_by = laid, wanted, carriers

    def _on_event(self, name: str, message: Mapping[str, Any]) -> None:
        if name == "log":
            self._histories.heard(message)
            if self._histories.undiagnosed() or self._is_to_switch():
                self._look_soon()
            return
        if name.endswith("-rekey"):
            self._histories.rekeyed(name, message)
        with suppress(ViciError):  # the supervisor sees the daemon's end or hang by itself
            self._resynchronise()
        if self._is_to_switch():
            self._look_soon()

    def _usable(self) -> frozenset[str]:
        """Return the tunnels that are up, but for those that are to go down: their SAs go a little later."""
        return self._histories.connected() - (self._held or set())

    def _is_to_switch(self) -> bool:
        """Tell whether another tunnel is to carry, or to connect, than was arranged last."""
        return self._lies is not None and (
            self._precedence.carriers(self._usable()) != self._carried_by
            or self._precedence.standing_by(self._histories.hopeful()) != self._stood_by
        )

    def _resynchronise(self) -> None:
        loading = self._loading
        if loading:
            self._histories.observed(loading.associations())

    def _let_go(self) -> None:
        """Forget what was known of a daemon, which may have ended."""
        events, self._events = self._events, None
        self._loading = self._loaded = self._lies = None
        if events:
            events.close()
        self._histories.observed([])

    def log(self, name: str) -> list[LogLine]:
        """Return the latest lines of a connection's log. Raises KeyError."""
        return self._histories.log(name)

    def connection_status(self, name: str) -> ConnectionStatus:
        """Return one connection's status. Raises KeyError."""
        return {status.name: status for status in self.status().connections}[name]

    def status(self) -> EndpointStatus:
        """Return all that is known, the counters as of now if the daemon answers."""
        with suppress(ViciError):  # else what was known last is told
            self._resynchronise()
        mtus = {name: laid.mtu for name, laid in self._laid.items()}
        connections = self._histories.statuses(mtus, self._backend, self._fault)
        charon = self._keeper.charon
        return EndpointStatus(
            self.routing_domain, self._backend.why, charon.pid if charon else None, self._fault, connections
        )
