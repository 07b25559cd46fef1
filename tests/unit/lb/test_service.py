"""The service that keeps probing: what it finds, whom it tells, what it keeps when the policy changes."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from balanced_domains import RDID, TCP, domain, pool
from balancing_servers import answer, own_socket, serving, silence

from gateway.policy.balancing import Probe
from gateway.policy.model import RoutingDomain
from lb.drains import DRAIN_SECONDS_MAX, Drains
from lb.health import MemberHealth, Status
from lb.pools import Choice
from lb.prober import Member, following, phase
from lb.service import GATHERED_S, HealthService, ProbedDomain, ways_of

A, B = "127.0.0.1", "127.0.0.3"
WEB = Choice("lb", "web", "tcp")
RED = "11111111-2222-3333-4444-000000000002"
Start = Callable[..., "Watched"]


class Watched:
    """A service, and the domains that it told of."""

    def __init__(self, drains: Drains, **options: object) -> None:
        self.told: queue.Queue[str] = queue.Queue()
        self.service = HealthService(self.told.put, drains, make_socket=own_socket, **options)

    def probe(self, *domains: RoutingDomain) -> None:
        self.service.drain(domains)
        self.service.reconcile({one.id: ProbedDomain(one, "", ("127.0.0.2",)) for one in domains})

    def member(self, address: str, choice: Choice = WEB, rdid: str = RDID) -> MemberHealth:
        (found,) = [one for one in self.service.health()[rdid][choice] if one.customer_address == address]
        return found

    def until(self, *statuses: Status, address: str = A, choice: Choice = WEB, streak: int = 0) -> MemberHealth:
        """Wait, for a few seconds at most, until a member has one of the statuses, and that many outcomes like it."""
        deadline = time.monotonic() + 8
        while (found := self.member(address, choice)).status not in statuses or abs(found.streak) < streak:
            assert time.monotonic() < deadline, f"still {found}"
            time.sleep(0.02)
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started = []

    def run(drain_limit_s: float = DRAIN_SECONDS_MAX, **options: object) -> Watched:
        started.append(Watched(Drains(tmp_path / "drains.json", drain_limit_s), **options))
        return started[-1]

    yield run
    for watched in started:
        watched.service.close()


def at(port: int, **options: object) -> Probe:
    return replace(TCP, port=port, **options)


def test_a_member_that_stops_listening_goes_down_and_comes_back(start: Start) -> None:
    watched = start()
    with serving(silence, A) as port:
        both = domain(pool("web", A, B), probes=(at(port),))
        with serving(silence, B, port):
            watched.probe(both)
            assert watched.until(Status.HEALTHY).reason == "ok"
            watched.until(Status.HEALTHY, address=B)
        began = time.time()
        down = watched.until(Status.UNHEALTHY, address=B)
        assert (down.reason, down.latest) == ("refused", "refused")
        assert began <= down.since <= time.time()
        assert watched.told.get(timeout=2) == RDID
        assert [one.state for one in watched.service.pool_states(both)[WEB].members] == ["active", "down"]
        with serving(silence, B, port):
            assert watched.told.get(timeout=5) == RDID
            assert [one.state for one in watched.service.pool_states(both)[WEB].members] == ["active", "active"]


def test_what_was_unknown_and_is_healthy_is_told_to_nobody(start: Start) -> None:
    watched = start()
    with serving(silence) as port:
        watched.probe(domain(pool("web", A), probes=(at(port),)))
        watched.until(Status.HEALTHY)
        with pytest.raises(queue.Empty):
            watched.told.get(timeout=0.3)


def test_a_member_is_probed_once_for_all_rules_and_pools_with_the_same_probe(start: Start) -> None:
    watched, connections = start(), []

    def count(connection: object, ended: threading.Event) -> None:
        connections.append(time.monotonic())

    with serving(count) as port:
        watched.probe(domain(pool("web", A), pool("api", A), probes=(at(port),), rules="web/tcp web/tcp api/tcp"))
        watched.until(Status.HEALTHY)
        watched.until(Status.HEALTHY, choice=Choice("lb", "api", "tcp"))
        first = connections[0]
        time.sleep(2.5)
    assert len([moment for moment in connections if moment < first + 2.4]) <= 3


def test_health_that_is_known_survives_a_change_of_policy(start: Start) -> None:
    watched = start()
    with serving(silence) as port:
        before = domain(pool("web", A), probes=(at(port),))
        watched.probe(before)
        known = watched.until(Status.HEALTHY)
        watched.probe(domain(pool("web", A, B), probes=(at(port),)), domain(pool("web", A), rdid=RED))
        assert watched.member(A) == known
        assert watched.member(B).status is Status.UNKNOWN
        watched.probe(domain(pool("web", B), probes=(at(port),)))
        assert list(watched.service.health()) == [RDID]
        watched.probe(before)
        assert watched.member(A).status is Status.UNKNOWN


def test_a_changed_probe_takes_effect_and_until_then_the_status_stays(start: Start) -> None:
    watched = start()
    with serving(silence) as open_port, serving(silence) as closed_port:
        watched.probe(domain(pool("web", A, B), probes=(at(open_port),)))
        watched.until(Status.HEALTHY)
    watched.probe(domain(pool("web", A, B), probes=(at(closed_port, fall=2),)))
    assert watched.member(A).status is Status.HEALTHY
    watched.until(Status.UNHEALTHY)


def test_members_that_were_down_before_a_restart_are_down_until_they_answer(start: Start) -> None:
    with serving(silence) as port:
        both = domain(pool("web", A, B), probes=(at(port),))
        watched = start(down_before=lambda: [Member(RDID, "lb", "tcp", A)])
        watched.probe(both)
        assert [one.state for one in watched.service.pool_states(both)[WEB].members] == ["down", "active"]
        watched.until(Status.HEALTHY)


def test_members_of_a_domain_that_joins_later_are_as_they_were_before_a_restart(start: Start) -> None:
    with serving(silence) as port:
        first, later = (domain(pool("web", A, B), probes=(at(port),), rdid=rdid) for rdid in (RDID, RED))
        watched = start(down_before=lambda: [Member(RED, "lb", "tcp", A)])
        watched.probe(first)
        watched.probe(first, later)
        assert watched.member(A, rdid=RED).status is Status.UNHEALTHY
        watched.probe(first)
        watched.probe(first, later)
        assert watched.member(A, rdid=RED).status is Status.UNKNOWN


def test_a_member_without_a_source_address_of_its_family_counts_as_healthy_and_says_why(start: Start) -> None:
    watched = start()
    wanted = domain(pool("web", "fd00:6::21"))
    watched.probe(wanted)
    found = watched.member("fd00:6::21")
    assert (found.status, found.latest) == (Status.UNKNOWN, "not probed: no source address")
    assert watched.service.pool_states(wanted)[WEB].members[0].state == "active"


def test_a_drain_that_is_over_is_told_and_the_member_is_down(start: Start) -> None:
    watched = start(drain_limit_s=0.5)
    draining = domain(pool("web", A, B, draining=(B,)), rules="web")
    watched.probe(draining)
    choice = Choice("lb", "web", None)
    assert [one.state for one in watched.service.pool_states(draining)[choice].members] == ["active", "draining"]
    assert watched.told.get(timeout=3) == RDID
    assert [one.state for one in watched.service.pool_states(draining)[choice].members] == ["active", "down"]


def test_a_drain_ends_in_a_domain_without_compartment_too(start: Start) -> None:
    watched = start(drain_limit_s=0.5)
    draining = domain(pool("web", A, B, draining=(B,)), rules="web")
    watched.service.drain([draining])
    assert watched.told.get(timeout=3) == RDID
    assert watched.service.pool_states(draining)[Choice("lb", "web", None)].members[1].state == "down"


def test_members_that_fall_together_are_told_of_in_few_calls(start: Start) -> None:
    addresses = [f"127.0.1.{number}" for number in range(1, 201)]
    watched = start()
    with serving(silence) as closed_port:
        pass
    many = domain(pool("web", *addresses), probes=(at(closed_port),))
    began = time.monotonic()
    watched.probe(many)
    for address in addresses:
        watched.until(Status.UNHEALTHY, address=address)
    assert watched.told.get(timeout=5) == RDID
    assert watched.told.qsize() <= (time.monotonic() - began) / GATHERED_S


def test_a_thousand_members_that_are_silent_do_not_delay_one_that_answers(start: Start) -> None:
    watched = start()
    silent = [f"127.2.{number >> 8}.{number & 255}" for number in range(1, 1001)]
    with serving(answer(b"")) as port, socket.create_server(("0.0.0.0", 0)) as mute:  # nobody accepts
        probes = (at(port), at(mute.getsockname()[1], name="mute", protocol="http"))
        watched.probe(domain(pool("web", A), pool("dead", *silent), probes=probes, rules="web/tcp dead/mute"))
        dead = Choice("lb", "dead", "mute")
        assert watched.until(Status.UNHEALTHY, address=silent[0], choice=dead).reason == "timed out"
        assert watched.until(Status.UNHEALTHY, address=silent[-1], choice=dead).reason == "timed out"
        answered = watched.until(Status.HEALTHY).streak
        watched.until(Status.HEALTHY, streak=answered + 2)


def test_closing_while_probes_wait_ends_at_once(tmp_path: Path) -> None:
    watched, asked = Watched(Drains(tmp_path / "drains.json")), threading.Event()

    def note(connection: socket.socket, ended: threading.Event) -> None:
        asked.set()
        ended.wait()

    with serving(note) as port:
        probe = Probe(name="tcp", protocol="http", port=port, interval_s=1, timeout_s=60)
        watched.probe(domain(pool("web", A), probes=(probe,)))
        assert asked.wait(10)
        start = time.monotonic()
        watched.service.close()
        assert time.monotonic() - start < 5


def test_a_fault_in_what_is_told_ends_the_thread_instead_of_probing_on_unheard(tmp_path: Path) -> None:
    died = threading.Event()
    before, threading.excepthook = threading.excepthook, lambda _: died.set()
    try:
        service = HealthService(lambda _: [][1], Drains(tmp_path / "drains.json"), make_socket=own_socket)
        with serving(silence) as port:
            pass
        probed = ProbedDomain(domain(pool("web", A), probes=(at(port),)), "", ("127.0.0.2",))
        service.reconcile({RDID: probed})
        assert died.wait(5)
    finally:
        threading.excepthook = before


def test_a_domain_that_asks_for_too_many_probes_is_probed_less_often(start: Start) -> None:
    probes = (Probe("a", "tcp", 80, interval_s=1, timeout_s=1), Probe("b", "tcp", 80, interval_s=10))
    members = [f"127.2.{number >> 8}.{number & 255}" for number in range(1500)]
    greedy = ProbedDomain(domain(pool("web", *members), probes=probes, rules="web/a web/b"), "", ("127.0.0.2",))
    modest = ProbedDomain(domain(pool("web", A), probes=probes, rules="web/a web/b"), "", ("127.0.0.2",))
    intervals = {(member.probe, way.interval_s) for member, way in ways_of(RDID, greedy).items() if way}
    assert intervals == {("a", 2), ("b", 20)}
    assert {(member.probe, way.interval_s) for member, way in ways_of(RDID, modest).items() if way} == {
        ("a", 1),
        ("b", 10),
    }


def test_first_probes_are_spread_over_the_interval() -> None:
    phases = [phase(Member(RDID, "lb", "tcp", f"10.1.{n >> 8}.{n & 255}")) for n in range(2000)]
    for tenth in range(10):
        assert 120 < sum(tenth / 10 <= one < (tenth + 1) / 10 for one in phases) < 280


@pytest.mark.parametrize(
    ("now", "due"), [(100.0, 105.0), (101.9, 105.0), (105.0, 105.0), (105.1, 110.0), (123.0, 125.0)]
)
def test_a_probe_that_is_late_is_left_out(now: float, due: float) -> None:
    assert following(100.0, 5, now) == due
