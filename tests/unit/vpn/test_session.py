"""VICI spoken to a daemon that hangs, closes, or answers late or by halves."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from vici.protocol import Message, Packet

from vpn.session import Commands, Events, RefusedError, ViciError

Behaviour = Callable[[socket.socket], None]
SHORT_S, SOON_S = 0.2, 2.0


class Daemon:
    """Serves each connection by the next behaviour."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(3)
        self._behaviours: list[Behaviour] = []
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def behave(self, *behaviours: Behaviour) -> None:
        self._behaviours += behaviours

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=_converse, args=(self._behaviours.pop(0), connection), daemon=True).start()


def _converse(behave: Behaviour, connection: socket.socket) -> None:
    with suppress(EOFError, OSError):  # the other side hangs up when it has enough
        behave(connection)


def request(connection: socket.socket) -> tuple[int, str]:
    """Read a request: its type and name."""
    head = connection.recv(4, socket.MSG_WAITALL)
    if len(head) < 4:
        raise EOFError
    (length,) = struct.unpack("!I", head)
    body = connection.recv(length, socket.MSG_WAITALL)
    return body[0], body[2 : 2 + body[1]].decode()


def packet(kind: int, message: dict[str, object], name: str = "") -> bytes:
    head = bytes([kind]) + (bytes([len(name)]) + name.encode() if name else b"")
    body = head + Message.serialize(message)
    return struct.pack("!I", len(body)) + body


def answers(connection: socket.socket) -> None:
    while True:
        _, name = request(connection)
        connection.sendall(packet(Packet.CMD_RESPONSE, {"command": name}))


def refuses(connection: socket.socket) -> None:
    request(connection)
    connection.sendall(packet(Packet.CMD_RESPONSE, {"success": "no", "errmsg": "not found"}))
    answers(connection)


def hangs(connection: socket.socket) -> None:
    request(connection)


def answers_late(connection: socket.socket) -> None:
    _, name = request(connection)
    time.sleep(2 * SHORT_S)
    connection.sendall(packet(Packet.CMD_RESPONSE, {"command": f"late {name}"}))
    answers(connection)


def answers_half(connection: socket.socket) -> None:
    request(connection)
    connection.sendall(packet(Packet.CMD_RESPONSE, {"command": "half"})[:9])


def trickles(connection: socket.socket) -> None:
    request(connection)
    for byte in packet(Packet.CMD_RESPONSE, {"command": "x" * 200}):
        connection.sendall(bytes([byte]))
        time.sleep(SHORT_S / 10)


def closes(connection: socket.socket) -> None:
    request(connection)
    connection.close()


def lies(connection: socket.socket) -> None:
    request(connection)
    connection.sendall(b"\xff\xff\xff\xff nonsense")


def streams(connection: socket.socket) -> None:
    request(connection)
    connection.sendall(packet(Packet.EVENT_CONFIRM, {}))
    request(connection)
    for number in range(3):
        connection.sendall(packet(Packet.EVENT, {"number": str(number)}, "list-sa"))
    connection.sendall(packet(Packet.CMD_RESPONSE, {"success": "no", "errmsg": "in the middle"}))
    request(connection)
    connection.sendall(packet(Packet.EVENT_CONFIRM, {}))
    answers(connection)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    serving = Daemon(tmp_path / "vici")
    yield serving
    serving.close()


@pytest.mark.parametrize("misbehaves", [hangs, answers_late, answers_half, trickles, closes, lies])
def test_what_is_not_answered_whole_and_in_time_is_an_error_and_the_next_command_begins_anew(
    daemon: Daemon, misbehaves: Behaviour
) -> None:
    daemon.behave(misbehaves, answers)
    commands = Commands(daemon.path)
    begun = time.monotonic()
    with pytest.raises(ViciError, match="first"):
        commands.call("first", seconds=SHORT_S)
    assert time.monotonic() - begun < SOON_S
    time.sleep(SHORT_S)  # what comes late has come
    assert commands.call("second") == {"command": b"second"}
    commands.close()


def test_a_refusal_leaves_the_session_open(daemon: Daemon) -> None:
    daemon.behave(refuses)
    commands = Commands(daemon.path)
    with pytest.raises(RefusedError, match="^unload-conn: not found$"):
        commands.call("unload-conn", {"name": "x"})
    assert commands.call("version") == {"command": b"version"}
    commands.close()


def test_what_was_streamed_before_a_refusal_is_kept(daemon: Daemon) -> None:
    daemon.behave(streams)
    commands = Commands(daemon.path)
    with pytest.raises(RefusedError) as refused:
        commands.collect("list-sas", "list-sa")
    assert [event["number"] for event in refused.value.events] == [b"0", b"1", b"2"]
    assert commands.call("version") == {"command": b"version"}
    commands.close()


def test_many_threads_share_one_session(daemon: Daemon) -> None:
    daemon.behave(answers)
    commands = Commands(daemon.path)
    wrong: list[object] = []

    def ask(name: str) -> None:
        for _ in range(50):
            answer = commands.call(name)
            if answer != {"command": name.encode()}:
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(f"command{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    commands.close()


def test_no_daemon_is_an_error_that_names_the_socket(tmp_path: Path) -> None:
    with pytest.raises(ViciError, match=str(tmp_path)):
        Commands(tmp_path / "vici").call("version")


def test_events_are_heard_until_the_daemon_is_gone(daemon: Daemon) -> None:
    def tells(connection: socket.socket) -> None:
        request(connection)
        connection.sendall(packet(Packet.EVENT_CONFIRM, {}))
        connection.sendall(packet(Packet.EVENT, {"up": "yes"}, "ike-updown"))
        connection.close()

    daemon.behave(tells)
    heard: list[tuple[str, object]] = []
    told = threading.Event()

    def on_event(name: str, message: dict[str, object]) -> None:
        heard.append((name, message))
        told.set()

    events = Events(daemon.path, ["ike-updown"], on_event)
    assert told.wait(SOON_S)
    assert heard == [("ike-updown", {"up": b"yes"})]
    events.close()
    assert not events.alive


def test_a_listener_that_hears_nothing_is_closed_at_once(daemon: Daemon) -> None:
    def confirms(connection: socket.socket) -> None:
        request(connection)
        connection.sendall(packet(Packet.EVENT_CONFIRM, {}))

    daemon.behave(confirms)
    events = Events(daemon.path, ["log"], lambda name, message: None)
    assert events.alive
    begun = time.monotonic()
    events.close()
    assert time.monotonic() - begun < SOON_S
    assert not events.alive


def test_an_event_that_stops_halfway_ends_the_listening(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(connection: socket.socket) -> None:
        request(connection)
        connection.sendall(packet(Packet.EVENT_CONFIRM, {}))
        connection.sendall(packet(Packet.EVENT, {"up": "yes"}, "log")[:7])

    monkeypatch.setattr("vpn.session.ANSWER_SECONDS", SHORT_S)
    daemon.behave(stops)
    events = Events(daemon.path, ["log"], lambda name, message: None)
    deadline = time.monotonic() + SOON_S
    while events.alive and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not events.alive
    events.close()
