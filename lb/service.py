"""The health of all pools' members: what is to be probed, what was found, and who has to be told."""

import math
import resource
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import structlog

from gateway.policy.addresses import family
from gateway.policy.balancing import LoadBalancer
from gateway.policy.model import RoutingDomain
from lb.drains import Drains
from lb.health import MemberHealth, Outcome, Status, observed, unprobed
from lb.pools import Choice, PoolState, choices, draining_members, pool_states
from lb.prober import Member, Prober, Way
from lb.probes import MakeSocket, socket_in

log = structlog.get_logger(__name__)

GATHERED_S = 0.1  # members that fall together are told of together
PROBES_PER_SECOND_MAX = 1000  # of one domain; they take a third of a processor

DomainHealth: TypeAlias = dict[Choice, tuple[MemberHealth, ...]]


@dataclass(frozen=True, slots=True)
class ProbedDomain:
    """A routing domain, the path of its compartment's namespace, and its addresses there, one of each IP family."""

    domain: RoutingDomain
    namespace: str
    source_addresses: tuple[str, ...]


class HealthService:
    """Probes the members of all pools that a rule with a probe uses; each once by each probe of a load balancer.

    A domain that asks for more than a thousand probes a second gets intervals that are some times longer.
    `on_change` gets the RDID of a domain whose pool states may have changed. It is called from the prober's thread and
    should only take note; the changes of a tenth of a second are told in one call for each domain.
    `down_before` is asked once, at the first `reconcile`, for the members that are unhealthy until probes say
    otherwise, as the datapath had them before a restart, also where their domain joins the plan later.
    """

    def __init__(
        self,
        on_change: Callable[[str], None],
        drains: Drains,
        down_before: Callable[[], Collection[Member]] = tuple,
        make_socket: MakeSocket = socket_in,
    ) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()  # of all that follows
        self._ask_down_before = down_before
        self._down_before: frozenset[Member] | None = None  # of members that were in no plan yet
        self._domains: dict[str, RoutingDomain] = {}
        self._ways: dict[Member, Way] = {}
        self._health: dict[Member, MemberHealth] = {}
        self._drains = drains
        self._drain_timer = False
        self._untold: set[str] = set()
        _allow_descriptors()
        self._prober = Prober(self._observe, make_socket)

    def reconcile(self, plan: Mapping[str, ProbedDomain]) -> None:
        """Make these, by RDID, all domains that are probed. What is known of members that stay is kept."""
        ways: dict[Member, Way | None] = {}
        for rdid, one in plan.items():
            ways |= ways_of(rdid, one)
        now = time.time()
        with self._lock:
            if self._down_before is None:
                self._down_before = frozenset(self._ask_down_before())
            down_before, self._down_before = self._down_before, self._down_before.difference(ways)
            self._domains = {rdid: one.domain for rdid, one in plan.items()}
            self._health = {member: self._known(member, way, now, down_before) for member, way in ways.items()}
            self._ways = {member: way for member, way in ways.items() if way}
            self._prober.probe(self._ways)

    def drain(self, domains: Iterable[RoutingDomain]) -> None:
        """Make these all domains whose members' time for draining is counted, probed or not."""
        with self._lock:
            self._drains.replace({(one.id, member) for one in domains for member in draining_members(one)}, time.time())
            self._wait_for_drains()

    def health(self) -> dict[str, DomainHealth]:
        """Return what is known of each pool that is probed, by RDID and choice; members in the order of the policy."""
        with self._lock:
            return {rdid: self._health_of(domain) for rdid, domain in self._domains.items()}

    def pool_states(self, domain: RoutingDomain) -> dict[Choice, PoolState]:
        """Return the pools of a domain as they are at this moment. Members that are not probed yet count as healthy."""
        with self._lock:
            ended = self._drains.ended(time.time())
            drained = frozenset(member for rdid, member in ended if rdid == domain.id)
            return pool_states(domain, self._health_of(domain), drained)

    def close(self) -> None:
        """End all probes."""
        self._prober.close()

    def _known(self, member: Member, way: Way | None, now: float, down_before: Collection[Member]) -> MemberHealth:
        known = self._health.get(member)
        if known is None:
            first = unprobed(member.customer_address, now, "not probed yet" if way else "not probed: no source address")
            down = member in down_before
            return replace(first, status=Status.UNHEALTHY, reason="so before the restart") if down else first
        return known if way == self._ways.get(member) else replace(known, streak=0)

    def _health_of(self, domain: RoutingDomain) -> DomainHealth:
        return {
            choice: tuple(self._health[member] for member in members if member in self._health)
            for balancer in domain.load_balancers
            for choice, members in _members_by_choice(domain.id, balancer).items()
        }

    def _observe(self, member: Member, outcome: Outcome) -> None:
        with self._lock:
            way = self._ways.get(member)
            if way is None:  # it ended while the probe was under way
                return
            before = self._health[member]
            after = self._health[member] = observed(before, outcome, way.probe, time.time())
            if after.status != before.status:
                log.info(
                    "member_health_changed",
                    routing_domain=member.routing_domain,
                    load_balancer=member.load_balancer,
                    probe=member.probe,
                    member=member.customer_address,
                    status=after.status,
                    why=after.reason,
                )
            if (after.status is Status.UNHEALTHY) != (before.status is Status.UNHEALTHY):
                self._tell_soon({member.routing_domain})

    def _tell_soon(self, routing_domains: Collection[str]) -> None:
        if routing_domains and not self._untold:
            self._prober.later(GATHERED_S, self._tell)
        self._untold.update(routing_domains)

    def _tell(self) -> None:
        with self._lock:
            untold, self._untold = self._untold, set()
        for routing_domain in sorted(untold):
            self._on_change(routing_domain)

    def _wait_for_drains(self) -> None:
        now = time.time()
        end = self._drains.next_end(now)
        if end is not None and not self._drain_timer:  # a later one's end is later: one timer is enough
            self._drain_timer = True
            self._prober.later(end - now, self._drains_ended)

    def _drains_ended(self) -> None:
        with self._lock:
            self._drain_timer = False
            self._tell_soon({rdid for rdid, _ in self._drains.ended(time.time())})
            self._wait_for_drains()


def _members_by_choice(rdid: str, balancer: LoadBalancer) -> dict[Choice, tuple[Member, ...]]:
    pools = {pool.name: pool for pool in balancer.backend_pools}
    return {
        choice: tuple(
            Member(rdid, balancer.name, choice.probe, member.customer_address) for member in pools[choice.pool].members
        )
        for choice in choices(balancer)
        if choice.probe is not None
    }


def ways_of(rdid: str, probed: ProbedDomain) -> dict[Member, Way | None]:
    """Return how each member is probed; None where there is no source address of its family."""
    probes = {
        member: probe
        for balancer in probed.domain.load_balancers
        for members in _members_by_choice(rdid, balancer).values()
        for member in members
        for probe in balancer.probes
        if probe.name == member.probe
    }
    sources = {family(source): source for source in probed.source_addresses}
    slower = math.ceil(sum(1 / probe.interval_s for probe in probes.values()) / PROBES_PER_SECOND_MAX)
    return {
        member: Way(probe, probe.interval_s * slower, probed.namespace, source)
        if (source := sources.get(family(member.customer_address)))
        else None
        for member, probe in probes.items()
    }


def _allow_descriptors() -> None:
    """Let the process have as many sockets as it may: the probes of all dead members wait at the same time."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
