"""Servers that behave in ways of their own, on threads; and probes of them."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

Behaviour = Callable[[socket.socket, threading.Event], None]


def own_socket(namespace: str, kind: socket.AddressFamily) -> socket.socket:
    """Make a socket where the test runs, for probes; in a compartment they are made in tests/lab/lb."""
    return socket.socket(kind, socket.SOCK_STREAM)


@contextmanager
def serving(
    behaviour: Behaviour,
    address: str = "127.0.0.1",
    port: int = 0,
    make_socket: Callable[[socket.AddressFamily], socket.socket] = socket.socket,
) -> Iterator[int]:
    """Let a thread treat each connection by `behaviour`, which ends when its event is set; yield the port."""
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=treat, args=(connection,)))
                threads[-1].start()

    def treat(connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            behaviour(connection, ended)

    with make_socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        threads.append(threading.Thread(target=accept))
        threads[0].start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def answer(head: bytes, status: str = "200 OK") -> Behaviour:
    """Answer with a status and header fields, then close."""

    def behave(connection: socket.socket, ended: threading.Event) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 " + status.encode() + b"\r\n" + head + b"\r\n")

    return behave


def silence(connection: socket.socket, ended: threading.Event) -> None:
    """Accept and say nothing."""
    ended.wait()


def reset(connection: socket.socket, ended: threading.Event) -> None:
    """Take the request and reset."""
    connection.recv(4096)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def closed(connection: socket.socket, ended: threading.Event) -> None:
    """Take the request and close."""
    connection.recv(4096)


def said(words: bytes) -> Behaviour:
    """Answer with just these bytes."""

    def behave(connection: socket.socket, ended: threading.Event) -> None:
        connection.recv(4096)
        connection.sendall(words)

    return behave


def dripping(words: bytes, pause_s: float) -> Behaviour:
    """Answer byte by byte, again and again."""

    def behave(connection: socket.socket, ended: threading.Event) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            for byte in words:
                if ended.wait(pause_s):
                    return
                connection.sendall(bytes([byte]))

    return behave


def endless(beginning: bytes, then: bytes) -> Behaviour:
    """Answer and never stop."""

    def behave(connection: socket.socket, ended: threading.Event) -> None:
        connection.settimeout(0.1)
        connection.sendall(beginning)
        while not ended.is_set():
            with suppress(TimeoutError):
                connection.sendall(then * 1000)

    return behave
