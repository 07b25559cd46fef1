"""Serving the application: TLS, uvicorn, signals, and telling the service manager when it is ready."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.api.secrets import CertificateFiles


class ListenError(Exception):
    """The listening address cannot be had."""


def listen(address: str) -> socket.socket:
    """Open a listening TCP socket at "HOST:PORT" or "[HOST]:PORT". Errors: ListenError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=1024)
    except OSError as error:
        raise ListenError(
            f"api.listen = {address!r}: {os.strerror(error.errno or 0)}; another process may hold it (ss -ltnp), "
            "or no interface has the address"
        ) from error


class Server(uvicorn.Server):
    """Calls `ready` once requests are answered."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    def take(self, files: CertificateFiles) -> None:
        """Show those who connect from now on this certificate. Errors: ssl.SSLError, OSError."""
        assert self.config.ssl is not None, "the server is loaded"
        self.config.ssl.load_cert_chain(*files)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End idle connections at once: TLS would wait for a farewell of clients that do not read meanwhile."""
        for connection in list(self.server_state.connections):
            assert isinstance(connection, HttpToolsProtocol)
            if connection.cycle is None or connection.cycle.response_complete:
                connection.transport.abort()
        await super().shutdown(sockets)


def server(application: FastAPI, files: CertificateFiles, ready: Callable[[], None]) -> Server:
    """Make a TLS server of the application; `run(sockets=[listener])` answers requests until `should_exit`."""
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=os.fspath(files.certificate),
        ssl_keyfile=os.fspath(files.private_key),
        timeout_graceful_shutdown=5,
    )
    config.load()
    return Server(config, ready)


def serve(serving: Server, listener: socket.socket) -> None:
    """Answer requests until SIGTERM or SIGINT; requests under way are finished first."""
    # uvicorn raises the signal again once it has stopped; with these in place the caller's clean-up still runs.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    serving.run(sockets=[listener])


def notify_service_manager(state: str) -> None:
    """sd_notify(3): one datagram to the socket that the service manager names, where somebody listens there."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier,
        contextlib.suppress(ConnectionRefusedError, FileNotFoundError),
    ):
        notifier.connect(address)
        notifier.sendall(state.encode())
