"""The rows of load balancing: clients behind the Internet's port, a public VIP in each domain."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from tests.bench import pools
from tests.bench.comparison import Contestant, Pace, ratio, run_in_turn
from tests.bench.figures import Bound, Figure
from tests.bench.gateway import GatewayUnderTest
from tests.bench.plan import Plan
from tests.bench.rig import Router
from tests.bench.rows import BARE, BROKEN_AT_MOST
from tests.bench.traffic import Expected, Measurement, Traffic

POLICY, LINUX_POLICY = Plan(10_000, mixed=True), Plan(1_000, overlapping=False)
ESTABLISHED = {10_000: Bound(0.70), 100_000: Bound(0.55)}
NEW, LINUX = Bound(0.40), Bound(7)
MEMORY = Bound(96, "at most")
MOST = max(ESTABLISHED)


@dataclass(frozen=True, slots=True)
class Field:
    """Everyone that takes part; `linux` has the load balancers of `LINUX_POLICY`."""

    measurement: Measurement
    pace: Pace
    gateway: GatewayUnderTest
    bare: Router
    linux: Router


def packet_rates(field: Field) -> Iterator[Figure]:
    """Balance what clients send: flows that are known, their replies, then new ones."""
    for flows, bound in ESTABLISHED.items():
        field.gateway.apply(pools.document(POLICY))
        requests = Traffic(POLICY, "untagged", "vip", "established", flows)
        replies = Traffic(POLICY, "nvgre", "client", "established", flows)
        name = f"{flows:,} connections to {POLICY.domains} VIPs"
        if lost := _open(field, field.gateway.router, requests, replies):
            yield Figure(name, 0.0, BARE, bound, remark=f"{lost:,} COULD NOT BE OPENED")
            continue
        if flows == MOST:
            yield _memory(field, "IPv4")
        yield _against_bare(field, f"{name}, Internet to NVGRE and VXLAN", requests, bound)
        yield _against_bare(field, f"{name}, replies, NVGRE to Internet", replies, None)
        if flows == MOST:
            yield _against_linux(field, f"{name}, against nftables' DNAT and Linux's VXLAN", requests)
    field.gateway.apply(pools.document(POLICY))
    fresh = Traffic(POLICY, "untagged", "vip", "new")
    yield _against_bare(field, "every packet a new connection, Internet to NVGRE and VXLAN", fresh, NEW)
    yield _memory_six(field)


def _open(field: Field, router: Router, requests: Traffic, replies: Traffic) -> int:
    """Let every flow find its member and be answered; return how many were not, if they are more than a few."""
    once, back = replace(requests, selection="in_turn"), replace(replies, selection="in_turn")
    field.gateway.introduce_outside()
    opened = field.measurement.send(once, router, "balanced", once.flows, learns=True)
    answered = field.measurement.send(back, router, "client", back.flows)
    lost = once.flows - round(min(opened.arrived, answered.arrived) * once.flows)
    return lost if lost > once.flows * BROKEN_AT_MOST or opened.wrong or answered.wrong else 0


def _against_bare(field: Field, name: str, traffic: Traffic, bound: Bound | None) -> Figure:
    field.gateway.introduce_outside()
    expected: Expected = "balanced" if traffic.destination == "vip" else "client"
    ours, bare = run_in_turn(
        field.measurement,
        field.pace,
        Contestant(field.gateway.router, traffic, expected),
        Contestant(field.bare, traffic, "unchanged"),
    )
    return ratio(name, ours, bare, BARE, bound)


def _against_linux(field: Field, name: str, traffic: Traffic) -> Figure:
    unit = "times nftables"
    requests = replace(traffic, plan=LINUX_POLICY)
    if lost := _open(field, field.linux, requests, Traffic(LINUX_POLICY, "vxlan", "client", flows=traffic.flows)):
        return Figure(name, 0.0, unit, LINUX, remark=f"{lost:,} COULD NOT BE OPENED BY LINUX")
    ours, linux = run_in_turn(
        field.measurement,
        field.pace,
        Contestant(field.gateway.router, traffic, "balanced"),
        Contestant(field.linux, requests, "balanced"),
    )
    return ratio(name, ours, linux, unit, LINUX)


def _memory_six(field: Field) -> Figure:
    field.gateway.apply(pools.document_six(POLICY))
    requests = Traffic(POLICY, "six", "vip", "in_turn", MOST)
    opened = field.measurement.send(requests, field.gateway.router, "balanced_six", MOST)
    if opened.wrong:
        return Figure("memory per connection, IPv6", None, "bytes", MEMORY, remark=f"{opened.wrong:.1%} WRONG PACKETS")
    return _memory(field, "IPv6")


def _memory(field: Field, family: Literal["IPv4", "IPv6"]) -> Figure:
    """Divide the part of the connection table that is in use by the connections in it."""
    connections, used = field.gateway.connections_in_use(family)
    name = f"memory per connection, {family}, {MOST:,} opened"
    if not connections:
        return Figure(name, None, "bytes", MEMORY, remark="NO CONNECTION IN THE TABLE")
    remark = f"{connections:,} in {used / 1e6:.1f} MB"
    return Figure(name, used / connections, "bytes", MEMORY, remark=remark)
