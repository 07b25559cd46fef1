"""What is thought of a member after a series of outcomes, and who is left out of a pool."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.balancing import Probe
from lb.health import MemberHealth, Outcome, Status, left_out, observed, unprobed

PROBE = Probe(name="p", protocol="tcp", port=80, rise=2, fall=3)
OUTCOMES = {"+": Outcome(True, "ok"), "-": Outcome(False, "refused"), "?": Outcome(None, "not probed: no compartment")}
UNKNOWN, HEALTHY, UNHEALTHY = Status.UNKNOWN, Status.HEALTHY, Status.UNHEALTHY


def after(outcomes: str) -> MemberHealth:
    """Return what is thought after these outcomes at the seconds 1, 2, 3 and so on."""
    health = unprobed("10.1.6.21", 0.0)
    for number, outcome in enumerate(outcomes, 1):
        health = observed(health, OUTCOMES[outcome], PROBE, float(number))
    return health


@pytest.mark.parametrize(
    ("outcomes", "status", "since"),
    [
        ("", UNKNOWN, 0),
        ("+", UNKNOWN, 0),
        ("--", UNKNOWN, 0),
        ("-+-+-", UNKNOWN, 0),
        ("++", HEALTHY, 2),
        ("---", UNHEALTHY, 3),
        ("++--+--", HEALTHY, 2),
        ("++---", UNHEALTHY, 5),
        ("---+-+-", UNHEALTHY, 3),
        ("---++", HEALTHY, 5),
        ("++++++", HEALTHY, 2),
        ("--?-", UNHEALTHY, 4),
        ("---+?+", HEALTHY, 6),
        ("++????????", HEALTHY, 2),
    ],
)
def test_only_rise_or_fall_outcomes_in_a_row_change_the_status(outcomes: str, status: Status, since: float) -> None:
    health = after(outcomes)
    assert (health.status, health.since) == (status, since)


def test_the_reason_is_that_of_the_change_and_the_latest_that_of_the_last_probe() -> None:
    health = after("++--?")
    assert (health.status, health.reason) == (HEALTHY, "ok")
    assert health.latest == "not probed: no compartment"
    assert after("---+").reason == "refused"


def statuses(text: str) -> dict[str, Status]:
    """Name members a, b, c, … by the letters u(nknown), h(ealthy), d(own)."""
    letters = {"u": UNKNOWN, "h": HEALTHY, "d": UNHEALTHY}
    return {chr(ord("a") + number): letters[letter] for number, letter in enumerate(text)}


@pytest.mark.parametrize(
    ("members", "minimum", "out"),
    [
        ("hhh", 0, ""),
        ("hdh", 0, "b"),
        ("udd", 0, "bc"),
        ("ddd", 0, ""),
        ("hhd", 2, "c"),
        ("hdd", 2, ""),
        ("hdd", 1, "bc"),
        ("hdh", 3, ""),
        ("d", 0, ""),
    ],
)
def test_the_unhealthy_are_left_out_while_enough_others_remain(members: str, minimum: int, out: str) -> None:
    assert left_out(statuses(members), statuses(members), minimum) == frozenset(out)


def test_only_those_that_may_take_new_connections_count_for_the_floor() -> None:
    assert left_out(statuses("hd"), ["b"], 0) == frozenset()
    assert left_out(statuses("hd"), ["a"], 0) == {"b"}


@given(st.text("uhd", min_size=1, max_size=8), st.integers(0, 8))
def test_a_pool_is_never_emptied_nor_brought_below_its_floor(members: str, minimum: int) -> None:
    known = statuses(members)
    remaining = known.keys() - left_out(known, known, minimum)
    assert len(remaining) >= max(min(minimum, len(known)), 1)
