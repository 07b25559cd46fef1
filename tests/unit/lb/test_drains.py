"""How long members may drain, also across restarts."""

from pathlib import Path

import pytest

from lb.drains import Drains
from lb.pools import DrainingMember

BLUE = "11111111-2222-3333-4444-000000000001"
A, B = ((BLUE, DrainingMember("web", "all", address)) for address in ("10.1.1.11", "10.1.1.12"))
NOON = 1_800_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "drains.json"


def test_a_restart_gives_nobody_a_new_time(path: Path) -> None:
    Drains(path, 3600).replace({A}, NOON)
    restarted = Drains(path, 3600)
    restarted.replace({A, B}, NOON + 3000)
    assert restarted.next_end(NOON + 3000) == NOON + 3600
    assert restarted.ended(NOON + 3600) == {A}
    assert Drains(path, 3600).ended(NOON + 6600) == {A, B}


def test_a_drain_ends_when_its_time_is_over_whatever_others_do(path: Path) -> None:
    drains = Drains(path, 10)
    drains.replace({A}, NOON)
    drains.replace({A, B}, NOON + 5)
    assert drains.next_end(NOON + 6) == NOON + 10
    assert drains.ended(NOON + 9.9) == frozenset()
    assert drains.ended(NOON + 10) == {A}
    assert drains.next_end(NOON + 10) == NOON + 15
    drains.replace({B}, NOON + 11)
    drains.replace({A, B}, NOON + 12)
    assert drains.ended(NOON + 15) == {B}
    assert drains.next_end(NOON + 20) == NOON + 22


def test_who_stopped_draining_begins_anew(path: Path) -> None:
    drains = Drains(path, 3600)
    drains.replace({A}, NOON)
    drains.replace(set(), NOON + 10)
    drains.replace({A}, NOON + 20)
    assert Drains(path, 3600).next_end(NOON + 20) == NOON + 3620


def test_a_clock_that_is_set_back_makes_no_drain_longer_than_its_limit(path: Path) -> None:
    Drains(path, 3600).replace({A}, NOON)
    drains = Drains(path, 3600)
    drains.replace({A}, NOON - 10_000)
    assert drains.next_end(NOON - 10_000) == NOON - 6_400


@pytest.mark.parametrize("content", ["", "{", "[1]", '[["a", "b", "c", "d", "e"]]', "null"])
def test_a_file_that_cannot_be_read_gives_a_new_time(path: Path, content: str) -> None:
    path.write_text(content)
    drains = Drains(path, 3600)
    drains.replace({A}, NOON)
    assert drains.next_end(NOON) == NOON + 3600


def test_a_full_disk_keeps_the_time_while_the_gateway_runs(tmp_path: Path) -> None:
    drains = Drains(tmp_path / "nowhere" / "drains.json", 3600)
    drains.replace({A}, NOON)
    assert drains.ended(NOON + 3600) == {A}
