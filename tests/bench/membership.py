"""The rows of pools and their members: pushed, changed, moved."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

import numpy

from gateway.policy.document import parse_json
from gateway.policy.model import RoutingDomain
from lb import maglev
from lb.health import MemberHealth, Status
from lb.pools import choices, pool_states
from tests.bench import plan as addresses
from tests.bench import pools
from tests.bench.daemon import Daemon, as_body
from tests.bench.figures import Bound, Figure
from tests.bench.gateway import GatewayUnderTest
from tests.bench.plan import Plan
from tests.bench.rig import Router

MANY, LARGE = Plan(10_000, mixed=True), Plan(1_000, domains=1)
LEAVING_FROM = 100  # members
CHANGES = 11


def push(router: Router, directory: Path) -> Figure:
    """Push 1,000 pools of 10 members as JSON to an empty gateway."""
    count = MANY.records // addresses.MEMBERS
    with ExitStack() as lifetime:
        daemon = Daemon(router, directory, lifetime, "internet")
        took = daemon.put("/v1/policy", as_body(pools.many(MANY)))
        used = daemon.status()["memory"]["tables"]["used"]
    name = f"{count:,} pools of {addresses.MEMBERS} members to an empty gateway, programmed and read back"
    return Figure(name, took, "s", Bound(15, "at most"), remark=f"{used / 1e6:.1f} MB of table memory")


def change(gateway: GatewayUnderTest) -> Figure:
    """Let one of 1,000 members be down and up again: the table is computed anew and programmed."""
    document = pools.single(LARGE)
    gateway.apply(document)
    domain = parse_json(as_body(document)).routing_domains[0]
    took = [_set_down(gateway, domain, down=number % 2 == 0) * 1000 for number in range(CHANGES)]
    first, _, third = quantiles(took, n=4)
    name = f"a member of a pool of {LARGE.records:,} down or up, table computed and programmed"
    return Figure(name, median(took), "ms", Bound(100, "at most"), (first, third), f"{maglev.LARGE_TABLE:,} slots")


def _set_down(gateway: GatewayUnderTest, domain: RoutingDomain, down: bool) -> float:
    (choice,) = choices(domain.load_balancers[0])
    member = domain.load_balancers[0].backend_pools[0].members[0].customer_address
    found = MemberHealth(member, Status.UNHEALTHY if down else Status.HEALTHY, 0.0, "", "")
    began = time.perf_counter()
    gateway.take_states(domain.id, pool_states(domain, {choice: [found]}))
    return time.perf_counter() - began


def moved_slots() -> Figure:
    """Take each member out of a pool in turn; the worst of them counts."""
    members = [(str(MANY.customer_address(0, index)), 1) for index in range(LEAVING_FROM)]
    size = maglev.table_size(members)
    before = maglev.slots(members, size)
    shares = [share * 100 for share in _moved_shares(members, before, size)]
    name = f"slots moved when 1 of {LEAVING_FROM} members leaves, beyond its own"
    remark = f"the worst of {len(shares)}, median {median(shares):.2f} %"
    return Figure(name, max(shares), "%", Bound(2, "at most"), remark=remark)


def _moved_shares(members: list[tuple[str, int]], before: maglev.Slots, size: int) -> Iterator[float]:
    for gone in range(len(members)):
        left = members[:gone] + members[gone + 1 :]
        after = maglev.slots(left, size)
        numbers = numpy.delete(numpy.arange(len(members)), gone)
        yield float(((numbers[after] != before) & (before != gone)).mean())
