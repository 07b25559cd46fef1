"""Provider addresses that packets are sent to, each with an encapsulation: their numbers, and Linux's way to each."""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping
from socket import AF_INET, AF_INET6, inet_ntop

import numpy
import numpy.typing

from gateway.datapath.layout import Layout
from gateway.datapath.maps import Map
from gateway.policy.addresses import family
from gateway.programming.block import CapacityError
from gateway.programming.encoding import words_of
from gateway.programming.ports import Ports
from gateway.underlay.hop import Hop

_PROTOCOLS = {"nvgre": 47, "vxlan": 17, "rewrite": 0, "source": 0}
_TTL = 64
_LOW_NUMBERS = 1024  # kept for hosts that send: the first bits of their sets are the quickest to reach


class Endpoints:
    """The `endpoints` map. Numbers stay what they are while any programmed block may use them."""

    def __init__(self, map_: Map, layout: Layout, ports: Ports) -> None:
        self._rows = map_.records(layout.struct("endpoint"))
        self._first_words = self._rows.view(numpy.uint64).reshape(len(self._rows), -1)[:, 0]
        self._kinds = {
            name.removeprefix("ENCAPSULATION_").lower(): value for name, value in layout.enum("encapsulation").items()
        }
        self._ports = ports
        self._hops: dict[str, Hop | None] = {}
        self._numbers = self._adopt()
        self._free = sorted(set(range(1, len(self._rows))) - set(self._numbers.values()))

    def number(self, provider_address: str, encapsulation: str) -> int:
        """Return the endpoint's number, a new one if need be. Raises CapacityError."""
        key = (provider_address, encapsulation)
        if key not in self._numbers:
            self._numbers[key] = self._take(encapsulation == "source")
            self._write(self._numbers[key], *key)
        return self._numbers[key]

    def _take(self, low: bool) -> int:
        if not self._free:
            raise CapacityError(f"all {len(self._rows) - 1} places for provider addresses are taken")
        at = 0 if low else bisect_left(self._free, _LOW_NUMBERS)
        return self._free.pop(min(at, len(self._free) - 1))

    def addresses(self) -> set[str]:
        """Return all provider addresses that are sent to."""
        return {address for address, use in self._numbers if use != "source"}

    def retain(self, used: Collection[tuple[str, str]]) -> None:
        """Forget all others; no packet may be able to reach them any more."""
        for key, number in list(self._numbers.items()):
            if key not in used:
                del self._numbers[key]
                self._rows[number] = numpy.zeros(1, self._rows.dtype)[0]
                insort(self._free, number)

    def hops_changed(self, changes: Mapping[str, Hop | None]) -> None:
        """Follow Linux: the next hop to these provider addresses is another now, or there is none."""
        self._hops.update(changes)
        for (address, encapsulation), number in self._numbers.items():
            if address in changes:
                self._write(number, address, encapsulation)

    def unresolved(self) -> list[str]:
        """Return the provider addresses that cannot be reached at this moment."""
        return sorted(
            {
                address
                for (address, _), number in self._numbers.items()
                if not self._first_words[number] >> numpy.uint64(48)
            }
        )

    def _adopt(self) -> dict[tuple[str, str], int]:
        names = {value: name for name, value in self._kinds.items()}
        found = {}
        for number in numpy.flatnonzero(self._rows["encapsulation"]).tolist():
            row = self._rows[number]
            words = row["destination"].tobytes()
            address = inet_ntop(AF_INET6, words) if row["family"] == 6 else inet_ntop(AF_INET, words[12:])
            found[address, names[int(row["encapsulation"])]] = number
        return found

    def _write(self, number: int, address: str, encapsulation: str) -> None:
        """Write a row; its first word, which makes it usable, last and at once."""
        row, hop = self._rows[number], self._hops.get(address)
        first = 0
        if hop is not None and hop.destination_mac is not None:
            port = self._ports.of_interface(hop.interface, hop.vlan)
            first = int.from_bytes(hop.destination_mac, "little") | port << 48
        old = self._first_words[number]
        if first == 0 or old == 0 or words_of(hop.source if hop else "::") != tuple(row["source"].tolist()):
            self._first_words[number] = 0
        row["family"], row["destination"] = family(address), words_of(address)
        if hop is not None:
            row["mtu"], row["source"] = min(hop.mtu, 65535), words_of(hop.source)
            row["checksum"] = _header_sum(hop.source, address, encapsulation) if family(address) == 4 else 0
        row["encapsulation"] = self._kinds[encapsulation]
        self._first_words[number] = first


def _header_sum(source: str, destination: str, encapsulation: str) -> int:
    """Add up what is constant in the outer IPv4 header: 45, DF, TTL and protocol, the addresses."""
    words = (0x4500, 0x4000, _TTL << 8 | _PROTOCOLS[encapsulation])
    halves: Iterable[int] = [int.from_bytes(word.to_bytes(2), "little") for word in words]
    for address in (source, destination):
        word = words_of(address)[3]
        halves = [*halves, word & 0xFFFF, word >> 16]
    return sum(halves)
