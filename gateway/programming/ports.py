"""Ports: an interface or a VLAN of it, with a number, what Linux says of it, and room for its neighbours."""

import errno
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy
import numpy.typing

from gateway.datapath.layout import Layout
from gateway.datapath.loader import Datapath
from gateway.datapath.maps import MapError
from gateway.policy import addresses
from gateway.programming.block import CapacityError
from gateway.programming.encoding import words_of
from gateway.programming.hash_table import fold
from gateway.programming.space import Space
from gateway.underlay.network import Link

PROGRAM = "gateway"
NEIGHBOUR_LINES = 128  # 4 IPv4 neighbours each
NEIGHBOUR_LINES6 = 32  # 2 IPv6 neighbours each
_SPREAD = 0x9E3779B1  # of neighbours.h


@dataclass(frozen=True, slots=True)
class Asker:
    """As whom a port asks for neighbours."""

    interface: str
    vlan: int
    mac: bytes


class Ports:
    """The `ports`, `devices` and `neighbours` maps, and the XDP links of the interfaces."""

    def __init__(self, datapath: Datapath, layout: Layout, providers: Collection[tuple[str, int]]) -> None:
        """`providers`: the interfaces and VLANs where hosts are."""
        self._datapath = datapath
        self._providers = providers
        self._rows = datapath.maps["ports"].records(layout.struct("port"))
        self._neighbours = datapath.maps["neighbours"].records(layout.struct("line"))
        self._neighbour_kinds = {4: layout.struct("neighbour"), 6: layout.struct("neighbour6")}
        self._room = Space("the table of external neighbours", len(self._neighbours))
        self._links: dict[str, Link] = {}
        self._addressed: dict[str, bytes] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        self._devices: dict[str, int] = {}  # places in the devices map
        self._pinned_devices: dict[int, int] = {}
        self._pinned = self._adopt()

    def of_interface(self, interface: str, vlan: int) -> int:
        """Return the number of a port, a new one if need be. Raises CapacityError."""
        key = (interface, vlan)
        if key not in self._numbers:
            self._numbers[key] = self._pinned_number(key) or self._free_number()
            self._write(key)
        return self._numbers[key]

    def make_external(self, number: int) -> None:
        """Give a port room for the neighbours that it will learn. Raises CapacityError."""
        row = self._rows[number]
        if not row["neighbours4_lines"]:
            for family, lines in (("4", NEIGHBOUR_LINES), ("6", NEIGHBOUR_LINES6)):
                first = self._room.allocate(lines)
                self._neighbours[first : first + lines] = numpy.zeros(lines, self._neighbours.dtype)
                row[f"neighbours{family}"] = first
                row[f"neighbours{family}_lines"] = lines

    def interface_index(self, interface: str) -> int:
        """Return Linux's index of an interface, 0 while it is not there."""
        link = self._links.get(interface)
        return link.index if link else 0

    def links_changed(self, changes: Mapping[str, Link | None]) -> None:
        """Follow Linux: these interfaces are new, different or gone."""
        for name, link in changes.items():
            if link is None:
                self._links.pop(name, None)
            else:
                self._links[name] = link
        for key in self._numbers:
            if key[0] in changes:
                self._write(key)

    def address_to(self, macs: Mapping[str, bytes]) -> None:
        """Let frames that come in by these interfaces be for these MAC addresses, by others for the interface's own."""
        changed = {name for name in macs.keys() | self._addressed.keys() if macs.get(name) != self._addressed.get(name)}
        self._addressed = dict(macs)
        for key in self._numbers:
            if key[0] in changed:
                self._write(key)

    def forget(self, interfaces: Collection[str]) -> None:
        """Give back the ports of interfaces that no block and no directory names any more."""
        for key in [key for key in self._numbers if key[0] in interfaces]:
            number = self._numbers.pop(key)
            self._pinned = {place: pinned for place, pinned in self._pinned.items() if pinned != number}
            row = self._rows[number]
            for family in ("4", "6"):
                if row[f"neighbours{family}_lines"]:
                    self._room.release(int(row[f"neighbours{family}"]), int(row[f"neighbours{family}_lines"]))
            self._rows[number] = numpy.zeros(1, self._rows.dtype)[0]
        for interface in interfaces:
            device = self._devices.pop(interface, None)
            self._pinned_devices = {index: place for index, place in self._pinned_devices.items() if place != device}

    def attach(self, interface: str) -> None:
        """Let the datapath take an interface's packets, if it is there. Raises AttachError."""
        index = self.interface_index(interface)
        if index:
            self._datapath.attach(index, interface, PROGRAM)

    def knows(self, number: int, neighbour: str) -> bool:
        """Tell whether the datapath has learned where a neighbour's address is at a port."""
        version = addresses.family(neighbour)
        line = neighbour_line(self._rows[number], neighbour)
        if line is None:
            return False
        entries = self._neighbours[line : line + 1].view(self._neighbour_kinds[version])
        words = numpy.array(words_of(neighbour), numpy.uint32)
        return bool(
            (entries["address"] == (words if version == 6 else words[3])).reshape(len(entries), -1).all(1).any()
        )

    def neighbours(self, number: int) -> Iterator[numpy.typing.NDArray[Any]]:
        """Yield the entries of a port's neighbours, by family, in the datapath's own memory; address 0: none."""
        row = self._rows[number]
        for version, kind in self._neighbour_kinds.items():
            first, lines = int(row[f"neighbours{version}"]), int(row[f"neighbours{version}_lines"])
            yield self._neighbours[first : first + lines].view(kind)

    def asker(self, number: int) -> Asker:
        """Return as whom a port asks for neighbours."""
        known = list(self._numbers.items())  # others may add ports meanwhile
        interface, vlan = next(key for key, taken in known if taken == number)
        return Asker(interface, vlan, self._rows[number]["mac"].tobytes())

    def names(self) -> dict[int, str]:
        """Return the interface name of each interface index in use."""
        return {self.interface_index(name): name for name, _ in self._numbers if self.interface_index(name)}

    def _adopt(self) -> dict[tuple[int, int], int]:
        found = {}
        for number in numpy.flatnonzero(self._rows["interface"]).tolist():
            row = self._rows[number]
            found[int(row["interface"]), int(row["vlan"])] = number
            self._pinned_devices[int(row["interface"])] = int(row["device"])
            for family in ("4", "6"):
                if row[f"neighbours{family}_lines"]:
                    self._room.claim(int(row[f"neighbours{family}"]), int(row[f"neighbours{family}_lines"]))
        return found

    def _pinned_number(self, key: tuple[str, int]) -> int | None:
        """The number that an earlier daemon gave it; an interface that returned has another index."""
        number = self._pinned.get((self.interface_index(key[0]), key[1]))
        return number if number not in self._numbers.values() else None

    def _free_number(self) -> int:
        taken = set(self._numbers.values()) | set(self._pinned.values())
        number = next((each for each in range(1, len(self._rows)) if each not in taken), None)
        if number is None:
            raise CapacityError(
                f"all {len(self._rows) - 1} ports are taken: fewer VLANs with l3 connections are needed"
            )
        return number

    def _device(self, interface: str) -> int:
        if interface not in self._devices:
            pinned = self._pinned_devices.get(self.interface_index(interface))
            taken = {*self._devices.values(), *self._pinned_devices.values()}
            free = (each for each in range(self._datapath.maps["devices"].max_entries) if each not in taken)
            device = pinned if pinned is not None else next(free, None)
            if device is None:
                raise CapacityError(f"all {len(taken)} places for interfaces are taken: start the gateway again")
            self._devices[interface] = device
        return self._devices[interface]

    def _write(self, key: tuple[str, int]) -> None:
        number, link = self._numbers[key], self._links.get(key[0])
        row = self._rows[number]
        row["vlan"] = key[1]
        row["provider"] = key in self._providers
        if link is None:
            row["interface"] = 0
            return
        row["mtu"] = min(link.mtu, 65535)
        row["mac"] = list(self._addressed.get(key[0]) or link.mac or bytes(6))
        row["interface"] = link.index
        device = self._device(key[0])
        try:
            self._datapath.maps["devices"].update(_word(device), _word(link.index))
        except MapError as error:
            if error.errno != errno.EINVAL:  # it is gone again; that news is still to come
                raise
        row["device"] = device


def neighbour_line(port: Any, neighbour: str) -> int | None:
    """Return the line that a port (struct port) has for a neighbour; `line_for` of neighbours.h."""
    version = addresses.family(neighbour)
    words = numpy.array([words_of(neighbour)], numpy.uint32)
    key = int(fold(words)[0] if version == 6 else words[0, 3])
    first, lines = (int(port[f"neighbours{version}{part}"]) for part in ("", "_lines"))
    return first + ((key * _SPREAD & 0xFFFFFFFF) * lines >> 32) if lines else None


def _word(number: int) -> bytes:
    return number.to_bytes(4, "little")
