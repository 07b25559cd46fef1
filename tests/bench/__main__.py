"""`deploy/bench`: every figure of one run, in one table, each beside its bound."""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import balancing, control, membership, rows, tunnels
from tests.bench.comparison import Contestant, Pace, rate, run_in_turn
from tests.bench.figures import Figure, as_json, as_markdown, as_text
from tests.bench.gateway import GatewayUnderTest
from tests.bench.kernel import add_kernel
from tests.bench.nftables import add_nftables
from tests.bench.openvswitch import add_openvswitch
from tests.bench.plan import Plan
from tests.bench.rig import Rig, Router, add_bare_redirect, address_provider_side
from tests.bench.rows import Field
from tests.bench.traffic import CORE, Measurement, Traffic

GROUPS = ("noise", "forwarding", "lists", "lb", "vpn", "ovs", "control")
SIZES = (1_000, 10_000, 100_000)
FULL, QUICK = Pace(rounds=9, seconds=0.1), Pace(rounds=3, seconds=0.05)
SWITCH_PACE = Pace(rounds=5, seconds=0.5)
SWITCH_WARMING = 1_000_000  # packets at a time
WORTHWHILE = 1.05  # times as fast as before


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deploy/bench", description=__doc__)
    parser.add_argument("--rows", default=",".join(GROUPS), help=f"groups of rows, of {', '.join(GROUPS)}")
    parser.add_argument("--records", help="sizes of the policy, such as 1000,10000")
    parser.add_argument("--quick", action="store_true", help="few and short runs, 10,000 records only")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--markdown", action="store_true")
    chosen = parser.parse_args()
    chosen.groups = chosen.rows.split(",")
    if unknown := set(chosen.groups) - set(GROUPS):
        parser.error(f"--rows: no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    chosen.sizes = [int(size) for size in chosen.records.split(",")] if chosen.records else SIZES
    if chosen.quick and not chosen.records:
        chosen.sizes = [rows.BOUNDED]
    return chosen


def measure(chosen: argparse.Namespace, lifetime: ExitStack) -> Iterator[Figure]:
    directory = Path(lifetime.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    rig = Rig(lifetime)
    measurement = Measurement(rig)
    pace = QUICK if chosen.quick else FULL
    gateway = GatewayUnderTest(rig, directory / "gateway")
    bare, turning = add_bare_redirect(rig, "bare"), add_bare_redirect(rig, "turn", turn_back=True)
    if "noise" in chosen.groups:
        twin = add_bare_redirect(rig, "twin")
        yield rows.noise(Field(measurement, pace, gateway, bare, turning), twin)
    if "forwarding" in chosen.groups:
        linux_plan = Plan(rows.BOUNDED, overlapping=False)
        field = Field(measurement, pace, gateway, bare, turning, add_kernel(rig, linux_plan), linux_plan)
        for size in chosen.sizes:
            yield from rows.forwarding(field, Plan(size))
    if "lists" in chosen.groups:
        for size in chosen.sizes:
            yield from rows.listed(Field(measurement, pace, gateway, bare, turning), Plan(size))
    gateway.close()
    if "lb" in chosen.groups:
        yield from load_balancing(rig, measurement, pace, bare, directory)
    if "vpn" in chosen.groups:
        with ExitStack() as ending:
            yield from tunnels.tunnels(directory / "tunnels", ending)
    if "ovs" in chosen.groups:
        yield from switch(rig, measurement, directory / "ovs")
    if "control" in chosen.groups:
        yield from control_plane(rig, chosen, directory)


def load_balancing(rig: Rig, measurement: Measurement, pace: Pace, bare: Router, directory: Path) -> Iterator[Figure]:
    gateway = GatewayUnderTest(rig, directory / "balancer", "internet")
    linux = add_nftables(rig, balancing.LINUX_POLICY)
    yield from balancing.packet_rates(balancing.Field(measurement, pace, gateway, bare, linux))
    yield membership.change(gateway)
    gateway.close()
    yield membership.moved_slots()
    router = rig.add("pools")
    address_provider_side(router, membership.MANY)
    yield membership.push(router, directory / "pools")


def switch(rig: Rig, measurement: Measurement, directory: Path) -> Iterator[Figure]:
    """Open vSwitch, which has a core for itself besides the generator's."""
    directory.mkdir()
    policy = Plan(rows.BOUNDED)
    router = add_openvswitch(rig, policy, directory)
    remark = "on a core of its own, AF_XDP"
    for name, contestant in (
        ("VXLAN to CorpNet", Contestant(router, Traffic(policy, "vxlan", "corpnet"), "corpnet")),
        ("CorpNet to VXLAN", Contestant(router, Traffic(policy, "tagged", "vm"), "vxlan")),
    ):
        warm_up(measurement, contestant)
        (samples,) = run_in_turn(measurement, SWITCH_PACE, contestant)
        yield rate(f"Open vSwitch userspace, {name}, {policy.records:,} records", samples, remark)


def warm_up(measurement: Measurement, contestant: Contestant) -> None:
    """Send until its caches hold so many flows that it gets no faster."""
    best, idle = 0.0, 0
    while idle < SWITCH_PACE.rounds:
        sample = measurement.send(contestant.traffic, contestant.router, contestant.expected, SWITCH_WARMING)
        idle = 0 if sample.rate > best * WORTHWHILE else idle + 1
        best = max(best, sample.rate)


def control_plane(rig: Rig, chosen: argparse.Namespace, directory: Path) -> Iterator[Figure]:
    router = rig.add("daemon")
    address_provider_side(router, Plan(max(chosen.sizes)))
    largest = max(chosen.sizes)
    for size in chosen.sizes:
        changes = 300 if size == largest else 100
        bounded = size == rows.LARGE
        yield from control.push_and_change(router, Plan(size), changes, bounded, directory / f"json{size}")
    yield control.push_yaml(router, Plan(largest), directory / "yaml")


def machine() -> dict[str, str]:
    models = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "kernel": platform.release(),
        "processor": next(models, "model name: ?").partition(": ")[2],
        "cores": str(os.cpu_count()),
        "packet path": f"core {CORE}: generator, router and sink in turn",
    }


def watched(figures: Iterable[Figure]) -> Iterator[Figure]:
    """Say on the terminal what has just been measured."""
    began = time.monotonic()
    for figure in figures:
        _, measured, _, bound, verdict, _ = figure.cells()
        print(
            f"{time.monotonic() - began:4.0f} s  {figure.name}: {measured} {bound} {verdict}",
            file=sys.stderr,
            flush=True,
        )
        yield figure


def main() -> int:
    chosen = arguments()
    with ExitStack() as lifetime:
        figures = list(watched(measure(chosen, lifetime)))
    about = machine()
    if chosen.json:
        print(as_json(figures, about))
    else:
        print("\n".join(f"{name}: {value}" for name, value in about.items()), end="\n\n")
        print(as_markdown(figures) if chosen.markdown else as_text(figures))
    return 1 if any(figure.verdict == "miss" for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
