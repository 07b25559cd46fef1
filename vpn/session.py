"""VICI sessions: one that commands, and one that listens in a thread of its own.

A session that was cut short is out of step with the daemon for ever: the next answer would be that of the former
command. So whatever fails in it but the command itself closes it, and the next command opens a new one.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vici.exception import (  # type: ignore[import-untyped]
    CommandException,
    DeserializationException,
    EventUnknownException,
    SessionException,
)
from vici.protocol import RECV_TIMEOUT_DEFAULT, Packet, Transport  # type: ignore[import-untyped]
from vici.protocol import Message as ViciMessage
from vici.session import Session  # type: ignore[import-untyped]

Message = Mapping[str, Any]
ANSWER_SECONDS = 2.0
_READ_BYTES = 1 << 16
_BROKEN = (OSError, SessionException, DeserializationException, EventUnknownException, struct.error)


class ViciError(Exception):
    """The daemon could not be asked, or did not answer whole and in time."""


class RefusedError(ViciError):
    """The daemon answered, and refused; `events` is what came before, where it answers by a stream."""

    events: Sequence[dict[str, Any]] = ()


class _TimedTransport(Transport):  # type: ignore[misc]
    """Bounds each answer as a whole: the package itself waits for ever once the first byte is there.

    Reads all that is there: events come by dozens, and hundreds of daemons start at once.
    """

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        super().__init__(sock)
        self.deadline = time.monotonic() + seconds
        self._received = bytearray()

    def receive(self, timeout: Any = RECV_TIMEOUT_DEFAULT) -> bytes:
        """Return one packet. `timeout` None waits for ever for its first byte."""
        if timeout is None:
            if not self._received:
                self.socket.settimeout(None)
                self._read()
            self.deadline = time.monotonic() + ANSWER_SECONDS
        (length,) = struct.unpack("!I", self._exactly(self.HEADER_LENGTH))
        if length > self.MAX_SEGMENT:
            raise SessionException(f"a packet of {length} bytes")
        return self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        while len(self._received) < count:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no whole answer in time")
            self.socket.settimeout(left)
            self._read()
        wanted = bytes(self._received[:count])
        del self._received[:count]
        return wanted

    def _read(self) -> None:
        some = self.socket.recv(_READ_BYTES)
        if not some:
            raise ConnectionResetError("the daemon closed the connection")
        self._received += some


def _connected(path: Path, seconds: float) -> tuple[Session, _TimedTransport]:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    session = Session(connection)
    session.transport = transport = _TimedTransport(connection, seconds)
    return session, transport


class Commands:
    """The one command session of a daemon; any thread may use it, one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._open: tuple[Session, _TimedTransport] | None = None

    def call(self, command: str, message: Message | None = None, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Send a command and return its answer. Raises RefusedError, ViciError."""
        answer: dict[str, Any] = self._ask(command, seconds, lambda session: session.request(command, message))
        return answer

    def collect(
        self, command: str, event: str, message: Message | None = None, seconds: float = ANSWER_SECONDS
    ) -> list[dict[str, Any]]:
        """Send a command that answers by a stream of events; return them all. Raises RefusedError, ViciError."""
        events: list[dict[str, Any]] = []
        try:
            self._ask(
                command, seconds, lambda session: events.extend(session.streamed_request(command, event, message))
            )
        except RefusedError as error:
            error.events = events
            raise
        return events

    def peer_pid(self) -> int:
        """Return the pid of the process that listens. Raises ViciError."""
        credentials: bytes = self._ask(
            "connect",
            ANSWER_SECONDS,
            lambda session: session.transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12),
        )
        return int(struct.unpack("=3i", credentials)[0])

    def close(self) -> None:
        """Close the session; a later command opens a new one."""
        with self._lock:
            self._drop()

    def _ask(self, command: str, seconds: float, ask: Callable[[Session], Any]) -> Any:
        with self._lock:
            try:
                if self._open is None:
                    self._open = _connected(self._path, seconds)
                session, transport = self._open
                transport.deadline = time.monotonic() + seconds
                return ask(session)
            except CommandException as error:
                raise RefusedError(f"{command}: {str(error).removeprefix('Command failed: ')}") from error
            except _BROKEN as error:
                self._drop()
                raise ViciError(f"{command}: {self._path}: {error or type(error).__name__}") from error

    def _drop(self) -> None:
        if self._open is not None:
            self._open[1].socket.close()
            self._open = None


class Events:
    """The listening session: calls `on_event(name, message)` in its own thread until closed or broken."""

    def __init__(self, path: Path, names: Iterable[str], on_event: Callable[[str, dict[str, Any]], None]) -> None:
        """Subscribe; whatever happens after the constructor has returned is heard. Raises ViciError."""
        self._on_event = on_event
        try:
            self._session, self._transport = _connected(path, ANSWER_SECONDS)
        except OSError as error:
            raise ViciError(f"listen: {path}: {error}") from error
        try:
            for name in names:
                self._session._register_unregister(name, True)
        except _BROKEN as error:
            self._transport.socket.close()
            raise ViciError(f"listen: {path}: {error}") from error
        self._thread = threading.Thread(target=self._listen, name=f"vici events {path.parent.name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether events are still heard."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop listening; may be called from within `on_event`."""
        with suppress(OSError):  # the daemon was faster
            self._transport.socket.shutdown(socket.SHUT_RDWR)
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._transport.socket.close()

    def _listen(self) -> None:
        while True:
            try:
                packet = Packet.parse(self._transport.receive(timeout=None))
                message = ViciMessage.deserialize(packet.payload)
            except _BROKEN:
                return  # the supervisor sees that `alive` is false, and the daemon's end by its pidfd
            self._on_event(packet.event_type.decode(), message)
