"""Who has no port left to lend is named in the log."""

from structlog.testing import capture_logs

from gateway.exhaustion import Exhaustion

BLUE, RED = "11111111-2222-3333-4444-000000000001", "11111111-2222-3333-4444-000000000002"


def test_a_domain_is_named_when_packets_were_dropped_since_the_last_look() -> None:
    exhaustion = Exhaustion()
    with capture_logs() as logs:
        for dropped in ({BLUE: 5}, {BLUE: 5}, {BLUE: 7, RED: 1}, {BLUE: 7, RED: 1}):
            exhaustion.look(dropped)
    assert [(each["routing_domain"], each["packets_dropped"]) for each in logs] == [(BLUE, 2), (RED, 1)]
    assert {each["log_level"] for each in logs} == {"warning"}


def test_counters_that_begin_anew_are_no_reason_to_warn() -> None:
    exhaustion = Exhaustion()
    with capture_logs() as logs:
        for dropped in ({BLUE: 5}, {BLUE: 0}, {}):
            exhaustion.look(dropped)
    assert logs == []
