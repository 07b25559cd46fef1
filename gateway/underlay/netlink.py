"""Two route netlink sockets: one that asks, one that listens. Both belong to the namespace they were opened in."""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyroute2.netlink import (  # type: ignore[import-untyped]
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    rtnl,
)
from pyroute2.netlink.rtnl.fibmsg import fibmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.marshal import MarshalRtnl  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.ndmsg import ndmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.rtmsg import rtmsg  # type: ignore[import-untyped]

SO_RCVBUFFORCE = 33  # not held by net.core.rmem_max
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
NLM_F_DUMP_INTR = 0x10
RTM_NEWNEXTHOP, RTM_DELNEXTHOP = 104, 105
RTNLGRP_NEXTHOP = 32
RT_TABLE_MAIN = 254
_GROUPS = (
    rtnl.RTNLGRP_LINK,
    rtnl.RTNLGRP_NEIGH,
    rtnl.RTNLGRP_IPV4_IFADDR,
    rtnl.RTNLGRP_IPV4_ROUTE,
    rtnl.RTNLGRP_IPV6_IFADDR,
    rtnl.RTNLGRP_IPV6_ROUTE,
    RTNLGRP_NEXTHOP,
)
_DUMPS = {
    rtnl.RTM_NEWLINK: (rtnl.RTM_GETLINK, ifinfmsg),
    rtnl.RTM_NEWADDR: (rtnl.RTM_GETADDR, ifaddrmsg),
    rtnl.RTM_NEWROUTE: (rtnl.RTM_GETROUTE, rtmsg),
    rtnl.RTM_NEWNEIGH: (rtnl.RTM_GETNEIGH, ndmsg),
    rtnl.RTM_NEWRULE: (rtnl.RTM_GETRULE, fibmsg),
}
_HEADER = struct.Struct("=IHHII")
_RECEIVE_BUFFER_BYTES = 4 << 20
_DATAGRAM_BYTES = 1 << 17
_REQUESTS_IN_FLIGHT = 64  # so that all acknowledgements fit the receive buffer
_MARSHAL = MarshalRtnl()


class EventsLostError(Exception):
    """The kernel had more events than the socket could hold: what was mirrored must be read anew."""


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message, not decoded yet, since most are of no interest."""

    kind: int
    flags: int
    data: bytes

    @property
    def family(self) -> int:
        """The address family, the first byte of every route netlink message."""
        return self.data[_HEADER.size]

    @property
    def table(self) -> int:
        """The routing table of a route."""
        return self.data[_HEADER.size + 4]

    def decode(self) -> Any:
        """Let pyroute2 decode it."""
        return next(_MARSHAL.parse(self.data))


class Events:
    """The subscription to links, addresses, routes and neighbours."""

    def __init__(self) -> None:
        self._socket = _open()
        self._socket.setblocking(False)
        for group in _GROUPS:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    def receive(self) -> list[Message]:
        """Return all that waits. Raises EventsLostError, after which the next events are complete again."""
        messages: list[Message] = []
        lost = False
        while True:
            try:
                messages += _split(self._socket.recv(_DATAGRAM_BYTES))
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True  # the kernel drops further ones until the queue is empty
        if lost:
            raise EventsLostError
        return messages

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()


class Requests:
    """Questions and changes, each answered before the call returns."""

    def __init__(self) -> None:
        self._socket = _open()

    def dump(self, kind: int) -> list[Message]:
        """Return all objects of a kind, RTM_NEWLINK for links; read again if they changed meanwhile."""
        while True:
            messages = list(self._dump_once(kind))
            if not any(message.flags & NLM_F_DUMP_INTR for message in messages):
                return messages

    def _dump_once(self, kind: int) -> Iterator[Message]:
        request_kind, message_class = _DUMPS[kind]
        request = message_class()
        request["header"].update(type=request_kind, flags=NLM_F_REQUEST | NLM_F_DUMP)
        request["family"] = socket.AF_UNSPEC
        request.encode()
        self._socket.send(request.data)
        while True:
            for message in _split(self._socket.recv(_DATAGRAM_BYTES)):
                if message.kind == NLMSG_DONE:
                    return
                if message.kind == NLMSG_ERROR:
                    _raise(_error_of(message))
                yield message

    def change(self, requests: Sequence[Any]) -> list[int]:
        """Send requests, RTM_NEW… ones as create-or-replace; return each one's errno, 0 for done, in their order."""
        answers: list[int] = []
        for start in range(0, len(requests), _REQUESTS_IN_FLIGHT):
            some = requests[start : start + _REQUESTS_IN_FLIGHT]
            self._socket.send(b"".join(_encode_change(request) for request in some))
            answers += self._receive_acknowledgements(len(some))
        return answers

    def _receive_acknowledgements(self, count: int) -> list[int]:
        answers: list[int] = []
        while len(answers) < count:
            answers += [_error_of(message) for message in _split(self._socket.recv(_DATAGRAM_BYTES))]
        return answers

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _open() -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    netlink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
    netlink.bind((0, 0))
    return netlink


def _split(datagram: bytes) -> Iterator[Message]:
    offset = 0
    while offset < len(datagram):
        length, kind, flags, _, _ = _HEADER.unpack_from(datagram, offset)
        yield Message(kind, flags, datagram[offset : offset + length])
        offset += (length + 3) & ~3


def _encode_change(request: Any) -> bytes:
    creating = request["header"]["type"] in _DUMPS  # an RTM_NEW…
    request["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | (NLM_F_CREATE | NLM_F_REPLACE if creating else 0)
    request.encode()
    return bytes(request.data)


def _error_of(message: Message) -> int:
    (negative_errno,) = struct.unpack_from("=i", message.data, _HEADER.size)
    return -int(negative_errno)


def _raise(code: int) -> None:
    raise OSError(code, f"route netlink refused a dump: {os.strerror(code)}")
