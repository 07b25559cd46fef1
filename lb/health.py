"""What is thought of a pool's members after what their probes found, and which of them may be used."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.policy.balancing import Probe


class Status(StrEnum):
    """`UNKNOWN` until enough probes agree. It counts as healthy: else every restart would empty the pools."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one probe found, in words. `passed` is None where the fault was the gateway's own: that is no verdict."""

    passed: bool | None
    words: str


@dataclass(frozen=True, slots=True)
class MemberHealth:
    """What one probe, asked again and again, tells of one member.

    `since`: when the status was reached, in seconds since 1970; `reason`: the words of the outcome that brought it.
    `latest`: those of the last outcome. `streak`: how many of the last outcomes agree, below 0 for failures.
    """

    customer_address: str
    status: Status
    since: float
    reason: str
    latest: str
    streak: int = 0


def unprobed(customer_address: str, now: float, words: str = "not probed yet") -> MemberHealth:
    """Return what is thought of a member before its first probe."""
    return MemberHealth(customer_address, Status.UNKNOWN, now, words, words)


def observed(health: MemberHealth, outcome: Outcome, probe: Probe, now: float) -> MemberHealth:
    """Return what is thought after one more outcome: `rise` passes or `fall` failures in a row settle the status."""
    if outcome.passed is None:
        return replace(health, latest=outcome.words)
    streak = max(health.streak, 0) + 1 if outcome.passed else min(health.streak, 0) - 1
    status = health.status
    if streak >= probe.rise:
        status = Status.HEALTHY
    elif -streak >= probe.fall:
        status = Status.UNHEALTHY
    if status == health.status:
        return replace(health, latest=outcome.words, streak=streak)
    return MemberHealth(health.customer_address, status, now, outcome.words, outcome.words, streak)


def left_out(statuses: Mapping[str, Status], candidates: Iterable[str], minimum_healthy: int) -> frozenset[str]:
    """Return the members, of those in `statuses`, that must not be used.

    These are the unhealthy ones, as long as at least `minimum_healthy` of the `candidates` for new connections are not
    unhealthy, and at least one. Else nobody: with so few left the others would be overrun, or it is the way of the
    probes that is broken, and to try members that may be dead is better than to send clients away.
    """
    unhealthy = frozenset(member for member, status in statuses.items() if status is Status.UNHEALTHY)
    usable = sum(candidate not in unhealthy for candidate in candidates)
    return unhealthy if usable >= max(minimum_healthy, 1) else frozenset()
