"""Packets per second through a router: what the generator sends, what the sink must see, and how fast it came."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal

import numpy

from gateway.datapath.maps import Bytes
from gateway.datapath.test_run import live_frames
from tests.bench import frames, plan
from tests.bench.plan import Plan
from tests.bench.programs import word
from tests.bench.rig import CORPNET_MAC, Rig, Router

CORE = max(os.sched_getaffinity(0))
SAMPLE_EVERY = 64  # packets, of sink.c
_ONE = word(0)

Selection = Literal["random", "established", "in_turn", "new"]
Expected = Literal["unchanged", "corpnet", "corpnet_untagged", "nvgre", "vxlan", "balanced", "balanced_six", "client"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """`flows` counts those of the selections `established` and `in_turn`; `client` says who opened them."""

    plan: Plan
    frame: frames.Kind
    destination: Literal["corpnet", "other_subnet", "vm", "vip", "client"]
    selection: Selection = "random"
    flows: int = 1
    client: Literal["vm", "remote"] = "vm"

    @property
    def enters(self) -> str:
        return "external" if self.destination in ("vm", "vip") else "provider"

    @property
    def checksummed(self) -> bool:
        """Tell whether UDP has a checksum, as what is translated has in life."""
        return self.destination in ("vip", "client")


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: packets per second at the sink; the share of those sent that arrived; of those read, that were wrong."""

    rate: float
    arrived: float
    wrong: float


class Measurement:
    """Runs traffic on one core: generator, router and sink follow each other on it."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._members: dict[str, Bytes] = {}

    def send(self, traffic: Traffic, router: Router, expected: Expected, count: int, *, learns: bool = False) -> Sample:
        """Send exactly so many packets. `learns`: flows belong from now on to the members that they are sent to."""
        self._configure(traffic, router, expected, learns)
        self._clear()
        template = frames.template(traffic.frame, traffic.checksummed)
        with _alone_on_core():
            live_frames(self._rig.generator.programs[f"generate_{traffic.frame}"], template, count)
        if learns:
            self._members[router.name] = self._rig.sink.maps["members"].mmap().copy()
        return self._read(count)

    def _configure(self, traffic: Traffic, router: Router, expected: Expected, learns: bool) -> None:
        layout = self._rig.generator.layout
        settings = numpy.zeros((), layout.struct("settings"))
        policy = traffic.plan
        values = {
            "domains": policy.domains,
            "records": policy.records_per_domain,
            "hosts": policy.hosts,
            "first_vsid": plan.FIRST_VSID,
            "first_ca": plan.FIRST_CA,
            "first_pa": plan.FIRST_PA,
            "first_remote": plan.FIRST_REMOTE,
            "gateway_pa": int(IPv4Address(plan.GATEWAY_PA)),
            "domain_stride": policy.domain_stride,
            "sharing_shift": policy.sharing_shift,
            "nested": policy.nested,
            "first_vip": plan.FIRST_VIP,
            "mixed": policy.mixed,
            "selection": layout.enum("selection")[f"SELECT_{traffic.selection.upper()}"],
            "flows": traffic.flows,
            "client": layout.enum("opener")[f"CLIENT_{traffic.client.upper()}"],
            "destination": layout.enum("destination")[f"TO_{traffic.destination.upper()}"],
            "output": router.ports[traffic.enters],
            "learns": learns,
            "expected": layout.enum("expected")[f"EXPECT_{expected.upper()}"],
            "router_mac": _mac_bytes(plan.ROUTER_MAC),
            "next_hop_mac": _mac_bytes(CORPNET_MAC),
        }
        for name, value in values.items():
            settings[name] = value
        for programs in (self._rig.generator, self._rig.sink):
            programs.maps["settings"].update(_ONE, settings.tobytes())
            if router.name in self._members:
                programs.maps["members"].mmap()[:] = self._members[router.name]
        template = frames.template(traffic.frame, traffic.checksummed)
        self._rig.generator.maps["template"].update(_ONE, template.ljust(frames.LONGEST, b"\0"))

    def _clear(self) -> None:
        arrived = self._rig.sink.maps["arrived"]
        for cpu in range(os.cpu_count() or 1):
            arrived.update(word(cpu), bytes(arrived.value_size))

    def _read(self, sent: int) -> Sample:
        """Take the rate between the first and the last packet that the sink read, by the sink's clock."""
        _, values = self._rig.sink.maps["arrived"].entries()
        counters = values.view(self._rig.sink.layout.struct("counters"))
        counters = counters[counters["sampled"] > 0]
        packets, sampled = int(counters["packets"].sum()), int(counters["sampled"].sum())
        if sampled < 2:
            return Sample(rate=0, arrived=packets / sent, wrong=1)
        elapsed = float(counters["last"].max() - counters["first"].min())
        rate = (sampled - 1) * SAMPLE_EVERY / elapsed * 1e9
        return Sample(rate=rate, arrived=packets / sent, wrong=int(counters["wrong"].sum()) / sampled)


@contextmanager
def _alone_on_core() -> Iterator[None]:
    """On one core and ahead of whatever else wants to run there."""
    affinity, scheduler = os.sched_getaffinity(0), os.sched_getscheduler(0)
    os.sched_setaffinity(0, {CORE})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, scheduler, os.sched_param(0))
        os.sched_setaffinity(0, affinity)


def _mac_bytes(text: str) -> list[int]:
    return list(bytes.fromhex(text.replace(":", "").replace("-", "")))
