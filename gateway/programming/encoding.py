"""Addresses as the datapath holds them: network order, in little-endian words, IPv4 in the last of four."""

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any

import numpy
import numpy.typing

from gateway.datapath.layout import Layout


def packed(address: str) -> bytes:
    """The address in network order."""
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address)


def words_of(address: str) -> tuple[int, ...]:
    """The address as four little-endian readings of its network-order words; IPv4 is the last one."""
    raw = packed(address).rjust(16, b"\0")
    return tuple(int.from_bytes(raw[at : at + 4], "little") for at in range(0, 16, 4))


def address_of(words: numpy.typing.NDArray[Any]) -> str:
    """The address of such words. One in ::/96 cannot be told from IPv4; it is never routed."""
    raw = words.tobytes()
    return inet_ntop(AF_INET6, raw) if any(raw[:12]) else inet_ntop(AF_INET, raw[12:])


def port_word(port: int) -> int:
    """A transport port as a little-endian reading of its network order."""
    return port >> 8 | (port & 0xFF) << 8


def mac_bytes(mac: str) -> bytes:
    """The six bytes of a MAC address, whose text has "-" or ":" between them."""
    return bytes.fromhex(mac.replace("-", "").replace(":", ""))


def cells_for(layout: Layout, version: int, addresses: list[str]) -> numpy.typing.NDArray[Any]:
    """Cells with these addresses of one family as keys."""
    cells = numpy.zeros(len(addresses), layout.struct("cell" if version == 4 else "cell6"))
    raw = numpy.frombuffer(b"".join(map(packed, addresses)), numpy.uint32)
    cells["key"] = raw if version == 4 else raw.reshape(-1, 4)
    return cells
