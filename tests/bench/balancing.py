"""The rows of load balancing: clients behind the Internet's port, a public VIP in each domain."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.bench import pools
from tests.bench.comparison import Contestant, Pace, ratio, run_in_turn
from tests.bench.figures import Bound, Figure
from tests.bench.gateway import GatewayUnderTest
from tests.bench.plan import Plan
from tests.bench.rig import Router
from tests.bench.rows import BARE
from tests.bench.traffic import Measurement, Traffic

POLICY = Plan(10_000, mixed=True)
FLOWS = {10_000: Bound(0.70), 100_000: Bound(0.55)}
NEW = Bound(0.40)


@dataclass(frozen=True, slots=True)
class Field:
    """Everyone that takes part."""

    measurement: Measurement
    pace: Pace
    gateway: GatewayUnderTest
    bare: Router


def balanced(field: Field) -> Iterator[Figure]:
    """Balance what clients send: flows that are known, their answers, then new ones."""
    for flows, bound in FLOWS.items():
        field.gateway.apply(pools.document(POLICY))
        requests = Traffic(POLICY, "untagged", "vip", "established", flows)
        answers = Traffic(POLICY, "nvgre", "client", "established", flows)
        if lost := open_flows(field, field.gateway.router, requests, answers):
            yield Figure(f"{flows:,} connections", 0.0, BARE, bound, remark=f"{lost:,} COULD NOT BE OPENED")
            continue
        name = f"{flows:,} connections to {POLICY.domains} VIPs"
        yield _against_bare(field, f"{name}, Internet to NVGRE and VXLAN", requests, bound)
        yield _against_bare(field, f"{name}, replies, NVGRE to Internet", answers, None)
    field.gateway.apply(pools.document(POLICY))
    fresh = Traffic(POLICY, "untagged", "vip", "new")
    yield _against_bare(field, "every packet a new connection, Internet to NVGRE and VXLAN", fresh, NEW)


def open_flows(field: Field, router: Router, requests: Traffic, answers: Traffic) -> int:
    """Let every flow find its member and be answered; return how many were not."""
    field.gateway.introduce_outside()
    once, back = replace(requests, selection="in_turn"), replace(answers, selection="in_turn")
    opened = field.measurement.send(once, router, "balanced", once.flows, learns=True)
    answered = field.measurement.send(back, router, "client", back.flows)
    return once.flows - round(min(opened.arrived, answered.arrived) * once.flows)


def _against_bare(field: Field, name: str, traffic: Traffic, bound: Bound | None) -> Figure:
    field.gateway.introduce_outside()
    ours = Contestant(field.gateway.router, traffic, "balanced" if traffic.destination == "vip" else "client")
    bare = Contestant(field.bare, traffic, "unchanged")
    mine, its = run_in_turn(field.measurement, field.pace, ours, bare)
    return ratio(name, mine, its, BARE, bound)
