"""One probe of one member: a TCP connection, or an HTTP request of which only the head of the answer is read."""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable

import h11

from gateway.compartments.entering import visiting
from gateway.policy.addresses import family
from gateway.policy.balancing import Probe
from lb.health import Outcome

MakeSocket = Callable[[str, socket.AddressFamily], socket.socket]

HEAD_BYTES_MAX = 16384  # of an answer's status line and header fields
LATE_S = 0.5  # a time limit noticed later than this says more of the gateway than of the member
_READ_BYTES = 4096
_READ_PAUSE_S = 0.02  # between reads: who sends byte by byte costs fifty of them a second, not thousands
_RECEIVE_BUFFER_BYTES = 16384  # what the kernel takes of a body that nobody reads
_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h: the port is chosen by connect(2), so that members do not share one range
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: leaves no TIME_WAIT behind, and ends an endless body
_WORDS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ETIMEDOUT: "timed out",
}


def socket_in(namespace: str, kind: socket.AddressFamily) -> socket.socket:
    """Make a TCP socket in the network namespace with this path. Raises OSError.

    The calling thread goes there and comes back: it must be the caller's own. It does not stay, as a namespace lives as
    long as a thread is in it.
    """
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with visiting(descriptor):
            return socket.socket(kind, socket.SOCK_STREAM)
    finally:
        os.close(descriptor)


async def probed(
    probe: Probe, customer_address: str, namespace: str, source_address: str, make_socket: MakeSocket
) -> Outcome:
    """Probe a member from `source_address` in a namespace, for `timeout_s` at most, whatever the member does."""
    try:
        connection = _bound_socket(make_socket, namespace, source_address)
    except OSError as error:
        return Outcome(None, f"not probed: {error}")
    with connection:
        return await _within_its_time(probe, customer_address, connection)


def _bound_socket(make_socket: MakeSocket, namespace: str, source_address: str) -> socket.socket:
    kind = socket.AF_INET if family(source_address) == 4 else socket.AF_INET6
    connection = make_socket(namespace, kind)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        connection.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        connection.bind((source_address, 0))
    except OSError:
        connection.close()
        raise
    return connection


async def _within_its_time(probe: Probe, customer_address: str, connection: socket.socket) -> Outcome:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + probe.timeout_s
    try:
        async with asyncio.timeout_at(deadline) as limit:
            return await _asked(probe, customer_address, connection)
    except OSError as error:
        if not limit.expired():
            return Outcome(False, _WORDS.get(error.errno or 0, error.strerror or str(error)))
        if loop.time() > deadline + LATE_S:
            return Outcome(None, "not probed: the gateway was too busy to see an answer")
        return Outcome(False, "timed out")
    except h11.RemoteProtocolError as error:
        return Outcome(False, f"no HTTP answer: {str(error)[:200]}")


async def _asked(probe: Probe, customer_address: str, connection: socket.socket) -> Outcome:
    await asyncio.get_running_loop().sock_connect(connection, (customer_address, probe.port))
    if probe.protocol == "tcp":
        return Outcome(True, "ok")
    status = await _http_status(probe, customer_address, connection)
    if status == probe.expect_status:
        return Outcome(True, "ok")
    return Outcome(False, f"status {status}, expected {probe.expect_status}")


async def _http_status(probe: Probe, customer_address: str, connection: socket.socket) -> int:
    """Return the status of the final answer, as it is: redirects are not followed. Raises h11.RemoteProtocolError."""
    loop = asyncio.get_running_loop()
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
    host = customer_address if family(customer_address) == 4 else f"[{customer_address}]"
    headers = [("Host", f"{host}:{probe.port}"), ("User-Agent", "tenant-gateway-probe"), ("Connection", "close")]
    request = http.send(h11.Request(method="GET", target=probe.path, headers=headers))
    await loop.sock_sendall(connection, (request or b"") + (http.send(h11.EndOfMessage()) or b""))
    received = 0
    while not isinstance(event := http.next_event(), h11.Response):
        if isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("closed without one")
        if received >= HEAD_BYTES_MAX:  # counts interim answers too, of which there may be many
            raise h11.RemoteProtocolError(f"no final status in {HEAD_BYTES_MAX:,} bytes")
        if event is h11.NEED_DATA:
            await asyncio.sleep(_READ_PAUSE_S if received else 0)
            piece = await loop.sock_recv(connection, _READ_BYTES)
            http.receive_data(piece)
            received += len(piece)
    return event.status_code
