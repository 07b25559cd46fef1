"""A flood of first messages of IKE, from addresses that are not the sender's."""

import os
import random
import socket
import struct
import threading
from types import TracebackType
from typing import Self

from vpn_rig import Namespace

from gateway.compartments.entering import socket_in

_HEADER_BYTES = 28
_TRANSFORMS = ((1, 12, b"\x80\x0e\x01\x00"), (2, 5, b""), (3, 12, b""), (4, 14, b""))  # aes256-sha256-modp2048


class Flood:
    """Well-formed IKE_SA_INIT requests (RFC 7296, 1.2), each a new one, as fast as one thread can."""

    def __init__(self, namespace: Namespace, source: str, target: str) -> None:
        self.sent = 0
        self._addresses = socket.inet_aton(source) + socket.inet_aton(target)
        self._target = target
        self._socket = socket_in(namespace.path, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _send(self) -> None:
        rest = _first_message_after_spi()
        while not self._ended.is_set():
            message = os.urandom(8) + rest
            port = random.randrange(1024, 65536)
            udp = struct.pack("!HHHH", port, 500, 8 + len(message), 0) + message
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + self._addresses
            self._socket.sendto(header + udp, (self._target, 0))
            self.sent += 1


def _first_message_after_spi() -> bytes:
    transforms = b"".join(
        struct.pack("!BBHBBH", 3 if number < len(_TRANSFORMS) else 0, 0, 8 + len(attribute), kind, 0, identifier)
        + attribute
        for number, (kind, identifier, attribute) in enumerate(_TRANSFORMS, start=1)
    )
    proposal = struct.pack("!BBHBBBB", 0, 0, 8 + len(transforms), 1, 1, 0, len(_TRANSFORMS)) + transforms
    security_association = struct.pack("!BBH", 34, 0, 4 + len(proposal)) + proposal
    key_exchange = struct.pack("!BBHHH", 40, 0, 8 + 256, 14, 0) + b"\x01" + os.urandom(255)
    nonce = struct.pack("!BBH", 0, 0, 4 + 32) + os.urandom(32)
    body = security_association + key_exchange + nonce
    return bytes(8) + struct.pack("!BBBBII", 33, 0x20, 34, 0x08, 0, _HEADER_BYTES + len(body)) + body
