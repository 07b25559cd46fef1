"""What is known of the connections of one endpoint: from the daemon's SAs, its events and its log."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.policy.model import IpsecConnection
from vpn.associations import IkeSa
from vpn.causes import Cause, Evidence
from vpn.description import describe
from vpn.kernel import Backend
from vpn.record import Record
from vpn.specification import Tunnel
from vpn.status import ConnectionStatus, LogLine

_QUIET_GROUPS = {b"JOB", b"MGR", b"DMN", b"NET"}
_STRANGERS = 64  # IKE_SAs that peers began and that belong to no connection yet
_LONGEST_PAUSE_S = 30.0


class Histories:
    """Safe for any thread; nothing here waits for the daemon."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # also the lock of what follows
        self._records: dict[str, Record] = {}
        self._by_key: dict[str, Record] = {}
        self._strangers: OrderedDict[bytes, Record] = OrderedDict()  # by the number of an IKE_SA without a name

    def follow(self, connections: Iterable[IpsecConnection], tunnels: Mapping[str, Tunnel]) -> None:
        """Keep records of these connections alone; one that is another tunnel now begins its attempts anew."""
        with self._changed:
            known, self._records = self._records, {}
            for connection in connections:
                tunnel = tunnels.get(connection.name)
                record = known.get(connection.name) or Record(connection, tunnel, Evidence(connection))
                if record.connection != connection:
                    record.evidence, record.failing, record.attempts, record.next_attempt = (
                        Evidence(connection),
                        False,
                        0,
                        0.0,
                    )
                if record.sa and (tunnel is None or record.sa.name != tunnel.key):
                    record.sa = None
                record.connection, record.tunnel = connection, tunnel
                record.settle()
                self._records[connection.name] = record
            self._by_key = {record.tunnel.key: record for record in self._records.values() if record.tunnel}
            self._strangers.clear()

    def await_closed(self, name: str, seconds: float) -> None:
        """Wait until a connection is down, or so many seconds have passed."""
        with self._changed:
            self._changed.wait_for(
                lambda: name not in self._records or self._records[name].state != "connected", seconds
            )

    def hold(self, name: str, held: bool) -> None:
        """Keep a connection down, or let it connect at once. Raises KeyError."""
        with self._changed:
            record = self._records[name]
            record.held, record.attempts, record.next_attempt = held, 0, 0.0
            record.settle()

    def await_outcome(self, name: str, seconds: float) -> None:
        """Wait until a connection is up, has failed from now on, or so many seconds have passed."""
        begun = time.time()

        def decided() -> bool:
            record = self._records.get(name)
            if record is None or record.state in ("connected", "disabled", "standby"):
                return True
            return record.last_error is not None and record.last_error.at >= begun

        with self._changed:
            self._changed.wait_for(decided, seconds)

    def settled(self) -> bool:
        """Tell whether nothing waits to be connected."""
        with self._changed:
            return not any(record.state in ("connecting", "failed") for record in self._records.values())

    def connected(self) -> frozenset[str]:
        """Return the names of the connections that are up."""
        with self._changed:
            return frozenset(name for name, record in self._records.items() if record.state == "connected")

    def hopeful(self) -> frozenset[str]:
        """Return the names of the connections that are up or being tried, and did not just fail or go."""
        with self._changed:
            begun = {name for name, record in self._records.items() if record.state == "connecting" and not record.lost}
        return self.connected() | begun

    def stand_by(self, standing: Mapping[str, str]) -> None:
        """Take in which connections are not to be tried, and for which other one's sake; the others are."""
        with self._changed:
            for name, record in self._records.items():
                if record.stands_by_for != standing.get(name):
                    record.stands_by_for, record.attempts, record.next_attempt = standing.get(name), 0, 0.0
                    record.settle()

    def due(self) -> list[Tunnel]:
        """Return what is to be initiated now, and count it as an attempt; pauses between attempts grow."""
        now = time.monotonic()
        with self._changed:
            found = [record for record in self._records.values() if record.is_due(now)]
            for record in found:
                record.attempts += 1
                record.next_attempt = now + min(2.0 ** min(record.attempts, 10), _LONGEST_PAUSE_S)
            return [record.tunnel for record in found if record.tunnel]

    def refused(self, why: Mapping[str, str]) -> None:
        """Take in which tunnels the daemon would not load."""
        with self._changed:
            for key, text in why.items():
                self._by_key[key].fail(Cause("not_loaded", f"strongSwan refused the connection: {text}"))
            self._changed.notify_all()

    def observed(self, associations: Iterable[IkeSa]) -> None:
        """Take in all SAs that there are."""
        with self._changed:
            best: dict[str, IkeSa] = {}
            for sa in sorted(associations, key=_how_good):
                best[sa.name] = sa
                if sa.name in self._by_key:
                    self._by_key[sa.name].counted.see(sa.children)
            for key, record in self._by_key.items():
                record.sa = best.get(key)
                record.settle()
                record.new = False
            self._changed.notify_all()

    def rekeyed(self, event: str, message: Mapping[str, Any]) -> None:
        """Count a rekeying: the events `ike-rekey` and `child-rekey`."""
        with self._changed:
            for record in (self._by_key[key] for key in message if key in self._by_key):
                if event == "ike-rekey":
                    record.counted.ike_rekeys += 1
                else:
                    record.counted.esp_rekeys += 1

    def heard(self, message: Mapping[str, Any]) -> None:
        """Take in a line of the daemon's log: to whom it belongs, and whether it tells why something failed."""
        if message.get("group") in _QUIET_GROUPS:
            return
        line = message["msg"].decode(errors="replace")
        with self._changed:
            record = self._whose(message, line)
            if record is None:
                return
            record.log.append(LogLine(time.time(), line))
            cause = record.evidence.cause(line)
            if cause and record.evidence.wants_diagnosis(cause):
                record.undiagnosed = cause
            elif cause:
                record.fail(cause)
                self._changed.notify_all()

    def undiagnosed(self) -> list[Tunnel]:
        """Return the tunnels whose peers are to be asked why they failed."""
        with self._changed:
            return [record.tunnel for record in self._records.values() if record.tunnel and record.undiagnosed]

    def diagnosed(self, tunnel: Tunnel, lines: Iterable[str]) -> None:
        """Take in how a peer took the attempt of a diagnosis."""
        with self._changed:
            record = self._by_key.get(tunnel.key)
            if record and record.undiagnosed:
                record.fail(record.evidence.diagnosis(lines) or record.undiagnosed)
                self._changed.notify_all()

    def _whose(self, message: Mapping[str, Any], line: str) -> Record | None:
        record = self._by_key.get(message.get("ikesa-name", b"").decode(errors="replace"))
        number: bytes = message.get("ikesa-uniqueid", b"")
        if record is None and line.endswith(" is initiating an IKE_SA"):
            peer = line.split()[0]
            record = next((entry for entry in self._by_key.values() if entry.connection.remote_address == peer), None)
            if record:
                self._strangers[number] = record
                if len(self._strangers) > _STRANGERS:
                    self._strangers.popitem(last=False)
        return record or self._strangers.get(number)

    def encapsulated(self) -> dict[str, bool]:
        """Return whether ESP is in UDP, by tunnels' keys, where it has been negotiated."""
        with self._changed:
            children = {key: record.sa.installed() for key, record in self._by_key.items() if record.sa}
            return {key: child.udp_encapsulated for key, child in children.items() if child}

    def log(self, name: str) -> list[LogLine]:
        """Return the latest lines of a connection. Raises KeyError."""
        with self._changed:
            return list(self._records[name].log)

    def statuses(
        self, mtus: Mapping[str, int], backend: Backend, fault: str | None = None
    ) -> tuple[ConnectionStatus, ...]:
        """Describe all connections; `fault` is what keeps their endpoint from running."""
        with self._changed:
            return tuple(describe(record, mtus.get(name, 0), backend, fault) for name, record in self._records.items())


def _how_good(sa: IkeSa) -> tuple[bool, bool, int]:
    return sa.installed() is not None, sa.established_s is not None, sa.number
