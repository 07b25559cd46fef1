"""Frames that another process sends through the programs all the while, and what became of them."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from socket import if_nametoindex

from gateway.datapath import test_run
from tests.datapath.programs_under_test import CAPTURE_ON, ProgramsUnderTest

Result = tuple[int, bytes]  # XDP action, and the frame as it was left


@dataclass
class Seen:
    """By name of the frame: every different result, with how often it was seen. Filled when the context ends."""

    results: dict[str, dict[Result, int]] = field(default_factory=dict)


@contextmanager
def frames_meanwhile(programs: ProgramsUnderTest, frames: Mapping[str, tuple[str, bytes]]) -> Iterator[Seen]:
    """Send `frames` ({name: (interface, frame)}) in turn for as long as the context lasts; none of them is captured."""
    root = programs.datapath.maps["root"].records(programs.layout.struct("root"))
    root["capture"] = 0
    started_read, started_write = os.pipe()
    stop_read, stop_write = os.pipe()
    results_read, results_write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(stop_write)
            _send_until_stopped(programs, frames, started_write, stop_read, results_write)
            status = 0
        finally:
            os._exit(status)
    os.close(results_write)
    seen = Seen()
    try:
        os.read(started_read, 1)
        yield seen
    finally:
        os.close(stop_write)
        with os.fdopen(results_read) as results:
            text = results.read()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for fd in (started_read, started_write, stop_read):
            os.close(fd)
        root["capture"] = CAPTURE_ON
    for name, action, frame, count in json.loads(text):
        seen.results.setdefault(name, {})[action, bytes.fromhex(frame)] = count


def _send_until_stopped(
    programs: ProgramsUnderTest, frames: Mapping[str, tuple[str, bytes]], started: int, stop: int, results: int
) -> None:
    program = programs.datapath.programs["gateway"]
    places = [(name, if_nametoindex(interface), frame) for name, (interface, frame) in frames.items()]
    found: dict[tuple[str, int, bytes], int] = {}
    os.set_blocking(stop, False)
    while True:
        for name, index, frame in places:
            key = (name, *test_run.run(program, frame, index))
            found[key] = found.get(key, 0) + 1
        if started >= 0:
            os.write(started, b".")
            started = -1
        try:
            os.read(stop, 1)
        except BlockingIOError:
            continue
        break
    with os.fdopen(results, "w") as out:
        json.dump([(name, action, frame.hex(), count) for (name, action, frame), count in found.items()], out)
