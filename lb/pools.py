"""What the datapath needs to know of a pool: who takes new connections, who keeps those it has, who is gone."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.policy.balancing import BackendPool, LoadBalancer
from gateway.policy.model import RoutingDomain
from lb import maglev
from lb.health import MemberHealth, Status, left_out

NUMBER_MAX = 65535


@dataclass(frozen=True, slots=True, order=True)
class Choice:
    """A pool as one probe sees it (None: as nobody probes it). Rules that name the same two share a table of slots."""

    load_balancer: str
    pool: str
    probe: str | None


@dataclass(frozen=True, slots=True, order=True)
class DrainingMember:
    """A member of a pool that is to take no new connections."""

    load_balancer: str
    pool: str
    customer_address: str


@dataclass(frozen=True, slots=True)
class MemberState:
    """`active` takes new connections, `draining` keeps what it has, the connections of a `down` one are released."""

    customer_address: str
    weight: int
    state: Literal["active", "draining", "down"]


@dataclass(frozen=True, slots=True)
class PoolState:
    """The members of a pool in the order of the policy. Who is not among them is removed: its connections end."""

    choice: Choice
    members: tuple[MemberState, ...]

    def slots(self) -> maglev.Slots | None:
        """Return for each slot of the table the position in `members` of who serves it; None where nobody is active.

        The size of the table follows from how many members there are, whatever their state.
        """
        weights = [(one.customer_address, one.weight if one.state == "active" else 0) for one in self.members]
        return maglev.slots(weights, maglev.table_size(weights)) if any(weight for _, weight in weights) else None


class MemberNumbers:
    """Numbers from 1 to 65,535 by which connections remember the members of one pool.

    A member keeps its number while it is in the pool; a number that has become free is given again after all others.
    `known` is what the datapath holds from before, `last` the number that was given last.
    """

    def __init__(self, known: Mapping[str, int], last: int | None = None) -> None:
        self._numbers = dict(known)
        self.last = max(known.values(), default=0) if last is None else last

    def assign(self, members: Collection[str]) -> Mapping[str, int]:
        """Make `members`, 65,535 at most, those of the pool; return their numbers. Raises ValueError if too many."""
        if len(members) > NUMBER_MAX:
            raise ValueError(f"{len(members):,} members: a pool has {NUMBER_MAX:,} numbers")
        self._numbers = {member: self._numbers[member] for member in members if member in self._numbers}
        free = self._free_numbers()
        for member in sorted(set(members) - self._numbers.keys()):
            self._numbers[member] = self.last = next(free)
        return dict(self._numbers)

    def _free_numbers(self) -> Iterator[int]:
        taken = frozenset(self._numbers.values())
        following = (number % NUMBER_MAX + 1 for number in range(self.last, self.last + NUMBER_MAX))
        return (number for number in following if number not in taken)


def choices(balancer: LoadBalancer) -> tuple[Choice, ...]:
    """Return what the rules of a load balancer choose from, each once, sorted."""
    found = {(rule.pool, rule.probe or "") for rule in balancer.rules}
    return tuple(Choice(balancer.name, pool, probe or None) for pool, probe in sorted(found))


def draining_members(domain: RoutingDomain) -> frozenset[DrainingMember]:
    """Return all members that the policy says are draining."""
    return frozenset(
        DrainingMember(balancer.name, pool.name, member.customer_address)
        for balancer in domain.load_balancers
        for pool in balancer.backend_pools
        for member in pool.members
        if member.state == "draining"
    )


def pool_states(
    domain: RoutingDomain,
    health: Mapping[Choice, Iterable[MemberHealth]],
    drained: Collection[DrainingMember] = frozenset(),
) -> dict[Choice, PoolState]:
    """Return the state of every pool that a rule of the domain uses, by choice.

    `health`: what the probes found; members that it does not mention count as healthy. `drained`: members whose time
    for draining is over.
    """
    states = {}
    for balancer in domain.load_balancers:
        pools = {pool.name: pool for pool in balancer.backend_pools}
        for choice in choices(balancer):
            statuses = {member.customer_address: member.status for member in health.get(choice, ())}
            states[choice] = _pool_state(choice, pools[choice.pool], statuses, drained)
    return states


def _pool_state(
    choice: Choice, pool: BackendPool, statuses: Mapping[str, Status], drained: Collection[DrainingMember]
) -> PoolState:
    active = [member.customer_address for member in pool.members if member.state == "active"]
    down = set(left_out(statuses, active, pool.minimum_healthy)) | {
        one.customer_address for one in drained if (one.load_balancer, one.pool) == (choice.load_balancer, choice.pool)
    }
    return PoolState(
        choice,
        tuple(
            MemberState(
                member.customer_address,
                member.weight,
                "down" if member.customer_address in down else member.state,
            )
            for member in pool.members
        ),
    )
