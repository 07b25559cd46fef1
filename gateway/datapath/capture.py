"""Capturing: a switch that the programs ask for each packet, and a ring buffer for what they then send.

A capture works on the pinned maps beside the daemon, with or without it. Its lock tells a switch that a killed capture
left on from that of a running one.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy

from gateway.datapath.layout import Layout
from gateway.datapath.maps import Map
from gateway.datapath.ring_buffer import RingBuffer
from gateway.datapath.statistics import drop_reasons

VERDICT = "VERDICT_"
_MAPS = ("root", "captured", "domains")


class CaptureError(Exception):
    """A capture that cannot be made; says why and how to mend it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which packets: those that meet every condition given; of these one in `sample`.

    `port` is where they come in or leave: Linux's index of the interface, and the VLAN, 0: untagged. `domain` is the
    datapath's number. `reasons` are numbers of drop reasons: None is no condition, the empty set any drop.
    """

    port: tuple[int, int] | None = None
    domain: int | None = None
    reasons: frozenset[int] | None = None
    sample: int = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it came in on, or as it left (`after`) by, `interface` (Linux's index).

    `time` is when the packet came, in ns since 1970; `verdict` is, say, "forwarded" or "dropped no_route"; `domain` an
    RDID, "" where it belongs to none; `data` the first of its `length` bytes.
    """

    time: int
    interface: int
    after: bool
    verdict: str
    domain: str
    length: int
    data: bytes


class Capture:
    """The capturing end of a pinned datapath. Errors: CaptureError, BpfError."""

    def __init__(self, pin_dir: Path) -> None:
        directory = pin_dir / "current" / "maps"
        if not directory.exists():
            raise CaptureError(f"there is no datapath in {pin_dir}: start the gateway once (tgw gateway run)")
        maps = {name: Map.from_pin(directory / name) for name in _MAPS}
        layout = maps["root"].layout()
        self._layout = layout
        self._root = maps["root"].records(layout.struct("root"))
        self._domains = maps["domains"].records(layout.struct("domain"))
        self._record = layout.struct("capture_record")
        self._verdicts = _verdict_names(layout)
        self._wanted = Wanted()
        self._booted = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._ring = RingBuffer(maps["captured"])
        for map_ in maps.values():
            map_.close()

    @property
    def ready_fd(self) -> int:
        """A file descriptor that is readable when there are frames."""
        return self._ring.epoll_fd

    @property
    def most_bytes(self) -> int:
        """How much of a frame is kept."""
        return int(self._record["frame"].itemsize)

    @property
    def lost(self) -> int:
        """How many frames were not kept since the switch was turned on, as they came faster than they were taken."""
        return int(self._root["capture_lost"][0])

    def drop_reasons(self) -> dict[str, int]:
        """Return the numbers of the named drop reasons."""
        return drop_reasons(self._layout)

    def domain_numbers(self) -> dict[str, int]:
        """Return the numbers of the programmed routing domains by RDID."""
        programmed = numpy.flatnonzero(self._domains["id"].any(axis=1)).tolist()
        return {self._domain(number): number for number in programmed}

    @contextmanager
    def switched_on(self, wanted: Wanted) -> Iterator[None]:
        """Let the programs send what is wanted; off again at the end."""
        bits, root = self._layout.enum("capture_what"), self._root[0]
        root["capture"] = 0
        while self._ring.consume():
            pass  # what a killed capture did not take
        self._wanted = wanted
        what = bits["CAPTURE_ON"]
        if wanted.port is not None:
            what |= bits["CAPTURE_PORT"]
            interface, vlan = wanted.port
            root["capture_port"] = interface << 12 | vlan
        if wanted.domain is not None:
            what |= bits["CAPTURE_DOMAIN"]
            root["capture_domain"] = wanted.domain
        if wanted.reasons is not None:
            what |= bits["CAPTURE_DROPS"]
        if wanted.reasons and len(wanted.reasons) == 1:
            what |= bits["CAPTURE_REASON"]
            (root["capture_reason"],) = wanted.reasons
        root["capture_sample"], root["capture_lost"] = wanted.sample, 0
        root["capture"] = what  # last: the programs go by it
        try:
            yield
        finally:
            root["capture"] = 0

    def frames(self) -> list[Frame]:
        """Take the frames that are there, some thousands at most."""
        records = numpy.frombuffer(b"".join(self._ring.consume()), self._record)
        reasons = self._wanted.reasons
        return [self._frame(record) for record in records if not reasons or int(record["verdict"]) in reasons]

    def close(self) -> None:
        """Give the ring buffer back."""
        self._ring.close()

    def _frame(self, record: Any) -> Frame:
        number, after = int(record["verdict"]), bool(record["after"])
        return Frame(
            time=self._booted + int(record["time"]),
            interface=int(record["egress" if after else "ingress"]),
            after=after,
            verdict=self._verdicts.get(number, f"verdict {number}"),
            domain=self._domain(int(record["domain"])),
            length=int(record["length"]),
            data=record["frame"].tobytes()[: int(record["captured"])],
        )

    def _domain(self, number: int) -> str:
        return str(UUID(bytes=self._domains[number]["id"].tobytes())) if number else ""


@contextmanager
def alone(lock_file: Path) -> Iterator[None]:
    """Hold the lock of captures. Raises CaptureError if another capture runs."""
    with lock_file.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise CaptureError(f"process {file.read().strip()} captures already: stop it first") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def end_stale(root: Map, layout: Layout, lock_file: Path) -> bool:
    """Turn off what a killed capture left on; tell whether there was such a one."""
    words = root.records(layout.struct("root"))
    if not words["capture"][0]:
        return False
    try:
        with alone(lock_file):
            words["capture"] = 0
    except CaptureError:
        return False
    return True


def lock_of(state_dir: Path) -> Path:
    """Return where captures of a gateway lock each other out."""
    return state_dir / "capture.lock"


def _verdict_names(layout: Layout) -> dict[int, str]:
    names = {number: f"dropped {reason}" for reason, number in drop_reasons(layout).items()}
    verdicts = layout.enum("verdict").items()
    return names | {number: name.removeprefix(VERDICT).lower() for name, number in verdicts if name.startswith(VERDICT)}
