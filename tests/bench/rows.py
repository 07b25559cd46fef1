"""The rows of packet rates: what is sent, against whom, and the bound."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from tests.bench.comparison import Contestant, Pace, ratio, run_in_turn
from tests.bench.figures import Bound, Figure
from tests.bench.plan import Plan
from tests.bench.policies import Direction
from tests.bench.rig import Router
from tests.bench.traffic import Expected, Measurement, Traffic

BARE, LINUX = "of a bare redirect", "times Linux"
FLOWS = 100_000
BROKEN_AT_MOST = 0.001  # of them, while they are opened
FIRST_ROW, FIRST_ROW_LARGE, ACROSS = Bound(0.80), Bound(0.70), Bound(0.75)
ESTABLISHED, NEW = Bound(0.55), Bound(0.35)
LINUX_IN, LINUX_OUT = Bound(4.5), Bound(6)
BOUNDED, LARGE = 10_000, 100_000  # records


class Gateway(Protocol):
    """The gateway under test."""

    router: Router

    def program(self, policy: Plan, encapsulation: str, listed: Direction | None = None) -> None:
        """Give it a policy in place of any other."""
        ...

    def used_bytes(self) -> int:
        """Return how much of the table memory holds something."""
        ...

    def introduce_outside(self) -> None:
        """Let it learn the next hops outside."""
        ...


@dataclass(frozen=True, slots=True)
class Field:
    """Everyone that takes part; `turning` redirects a packet to the port that it came in by."""

    measurement: Measurement
    pace: Pace
    gateway: Gateway
    bare: Router
    turning: Router
    linux: Router | None = None
    linux_plan: Plan | None = None

    def against_bare(self, name: str, traffic: Traffic, expected: Expected, bound: Bound | None) -> Figure:
        self.gateway.introduce_outside()
        bare = self.turning if traffic.destination == "other_subnet" else self.bare
        contestants = Contestant(self.gateway.router, traffic, expected), Contestant(bare, traffic, "unchanged")
        ours, other = run_in_turn(self.measurement, self.pace, *contestants)
        return ratio(name, ours, other, BARE, bound)

    def against_both(
        self, name: str, traffic: Traffic, expected: Expected, linux: Contestant, times: Bound
    ) -> list[Figure]:
        self.gateway.introduce_outside()
        ours, bare, other = run_in_turn(
            self.measurement,
            self.pace,
            Contestant(self.gateway.router, traffic, expected),
            Contestant(self.bare, traffic, "unchanged"),
            linux,
        )
        against = f"{name}, against Linux's VXLAN and forwarding"
        return [ratio(name, ours, bare, BARE, FIRST_ROW), ratio(against, ours, other, LINUX, times)]


def noise(field: Field, twin: Router) -> Figure:
    """Compare the bare redirect with itself."""
    traffic = Traffic(Plan(BOUNDED), "nvgre", "corpnet")
    contestants = Contestant(field.bare, traffic, "unchanged"), Contestant(twin, traffic, "unchanged")
    once, again = run_in_turn(field.measurement, field.pace, *contestants)
    return ratio("noise: the bare redirect twice", once, again, BARE, None)


def forwarding(field: Field, policy: Plan) -> Iterator[Figure]:
    """Route without access lists, each way and each encapsulation."""
    size = f"{policy.records:,} records"
    field.gateway.program(policy, "vxlan")
    used = field.gateway.used_bytes()
    yield Figure(
        f"table memory per record, {size}", used / policy.records, "bytes", remark=f"{used / 1e6:.1f} MB in all"
    )
    for frame in ("nvgre", "vxlan"):
        yield from _first_row(
            field, f"{frame.upper()} to CorpNet, {size}", Traffic(policy, frame, "corpnet"), "corpnet"
        )
    yield from _first_row(field, f"CorpNet to VXLAN, {size}", Traffic(policy, "tagged", "vm"), "vxlan")
    across = Traffic(policy, "nvgre", "other_subnet")
    bound = ACROSS if policy.records == BOUNDED else None
    yield field.against_bare(f"VSID to VSID, NVGRE in, VXLAN out, {size}", across, "vxlan", bound)
    field.gateway.program(policy, "nvgre")
    yield from _first_row(field, f"CorpNet to NVGRE, {size}", Traffic(policy, "tagged", "vm"), "nvgre")


def _first_row(field: Field, name: str, traffic: Traffic, expected: Expected) -> list[Figure]:
    records = traffic.plan.records
    if records != BOUNDED or field.linux is None or field.linux_plan is None:
        bound = {BOUNDED: FIRST_ROW, LARGE: FIRST_ROW_LARGE}.get(records)
        return [field.against_bare(name, traffic, expected, bound)]
    if traffic.destination == "vm":
        linux = Contestant(field.linux, Traffic(field.linux_plan, "untagged", "vm"), "vxlan")
        return field.against_both(name, traffic, expected, linux, LINUX_OUT)
    linux = Contestant(field.linux, Traffic(field.linux_plan, "vxlan", "corpnet"), "corpnet_untagged")
    return field.against_both(name, traffic, expected, linux, LINUX_IN)


def listed(field: Field, policy: Plan) -> Iterator[Figure]:
    """Route through access lists of 1,000 rules in the clients' direction: flows that are known, then new ones."""
    size = f"{policy.records:,} records"
    established, new = (ESTABLISHED, NEW) if policy.records == BOUNDED else (None, None)
    field.gateway.program(policy, "vxlan", "outbound")
    outward = Traffic(policy, "vxlan", "corpnet", "established", FLOWS, client="vm")
    inward = Traffic(policy, "tagged", "vm", "established", FLOWS, client="vm")
    yield _established(field, f"1,000 rules, {FLOWS:,} flows, VXLAN to CorpNet, {size}", outward, inward, established)
    fresh = Traffic(policy, "vxlan", "corpnet", "new", client="vm")
    yield field.against_bare(f"1,000 rules, every packet a new flow, VXLAN to CorpNet, {size}", fresh, "corpnet", new)
    field.gateway.program(policy, "vxlan", "inbound")
    inward = Traffic(policy, "tagged", "vm", "established", FLOWS, client="remote")
    outward = Traffic(policy, "vxlan", "corpnet", "established", FLOWS, client="remote")
    yield _established(field, f"1,000 rules, {FLOWS:,} flows, CorpNet to VXLAN, {size}", inward, outward, established)
    fresh = Traffic(policy, "tagged", "vm", "new", client="remote")
    yield field.against_bare(f"1,000 rules, every packet a new flow, CorpNet to VXLAN, {size}", fresh, "vxlan", new)


def _established(field: Field, name: str, requests: Traffic, replies: Traffic, bound: Bound | None) -> Figure:
    """Open every flow, answer it, then send requests at random."""
    field.gateway.introduce_outside()
    broken = 0
    for traffic in (requests, replies):
        once = replace(traffic, selection="in_turn")
        opened = field.measurement.send(once, field.gateway.router, _expected(once), FLOWS)
        broken += round((1 - opened.arrived) * FLOWS)
    if broken > FLOWS * BROKEN_AT_MOST:
        return Figure(name, 0.0, BARE, bound, remark=f"{broken:,} OF {FLOWS:,} FLOWS COULD NOT BE OPENED")
    figure = field.against_bare(name, requests, _expected(requests), bound)
    return replace(figure, remark=f"{figure.remark}, {broken} flows could not be opened") if broken else figure


def _expected(traffic: Traffic) -> Expected:
    return "vxlan" if traffic.destination == "vm" else "corpnet"
