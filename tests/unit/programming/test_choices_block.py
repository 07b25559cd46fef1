"""Who takes a rule's connections, as a packet finds it in a choice's block."""

from collections import Counter
from typing import Any, Literal

import numpy
import pytest

from gateway.programming.block import LINE_BYTES, Bytes
from gateway.programming.choices_block import compile_choice, read_choice
from gateway.programming.encoding import address_of
from lb.pools import Choice, MemberState, PoolState
from tests.unit.programming.arena import layout

State = Literal["active", "draining", "down"]
NUMBERS = {"10.0.0.1": 5, "10.0.0.2": 2, "10.0.0.3": 9}


def pool(*states: State, weights: tuple[int, ...] = (1, 1, 1)) -> PoolState:
    members = zip(NUMBERS, weights, states, strict=True)
    return PoolState(Choice("lb", "pool", None), tuple(MemberState(*member) for member in members))


def header(block: Bytes) -> Any:
    return block[:LINE_BYTES].view(layout().struct("choice"))[0]


def slots(block: Bytes) -> list[int]:
    at = int(header(block)["slots"]) * LINE_BYTES
    found: list[int] = block[at : at + 2 * int(header(block)["slot_count"])].view(numpy.uint16).tolist()
    return found


def member(block: Bytes, number: int) -> Any:
    """A member by its number, None where the programs see none."""
    if number >= header(block)["member_count"]:
        return None
    kind = layout().struct("member")
    at = int(header(block)["members"]) * LINE_BYTES + number * kind.itemsize
    row = block[at : at + kind.itemsize].view(kind)[0]
    return row if row["state"] else None


def test_slots_hold_numbers_of_active_members_in_proportion_to_their_weights() -> None:
    block = compile_choice(pool("active", "draining", "active", weights=(1, 5, 3)), NUMBERS, layout())
    counted = Counter(slots(block))
    assert counted.keys() == {5, 9}
    assert header(block)["slot_count"] == 16381
    assert counted[9] / counted[5] == pytest.approx(3, rel=0.001)


def test_the_slots_of_a_machine_do_not_depend_on_numbers() -> None:
    others = {"10.0.0.1": 1, "10.0.0.2": 3, "10.0.0.3": 2}
    state = pool("active", "active", "active")
    names = [
        [{number: address for address, number in numbers.items()}[slot] for slot in slots(block)]
        for numbers in (NUMBERS, others)
        for block in [compile_choice(state, numbers, layout())]
    ]
    assert names[0] == names[1]


def test_members_are_found_by_number_with_their_state() -> None:
    block = compile_choice(pool("active", "draining", "down"), NUMBERS, layout())
    states = layout().enum("member_state")
    found = {address: int(member(block, number)["state"]) for address, number in NUMBERS.items()}
    assert list(found.values()) == [states[f"MEMBER_{name}"] for name in ("ACTIVE", "DRAINING", "DOWN")]
    assert all(address_of(member(block, number)["address"]) == address for address, number in NUMBERS.items())
    assert [number for number in range(12) if member(block, number) is not None] == sorted(NUMBERS.values())


@pytest.mark.parametrize(("states", "expected"), [(("down", "active", "draining"), [2]), (("down",) * 3, [])])
def test_who_is_alone_takes_everything_and_nobody_takes_nothing(states: Any, expected: list[int]) -> None:
    assert slots(compile_choice(pool(*states), NUMBERS, layout())) == expected


def test_a_choice_is_read_back_as_it_was_written() -> None:
    block = compile_choice(pool("active", "draining", "down"), NUMBERS, layout())
    assert read_choice(block, layout()) == (NUMBERS, {"10.0.0.3"})


def test_ipv6_members_are_read_back_too() -> None:
    state = PoolState(Choice("lb", "pool", None), (MemberState("fd00:1::11", 1, "active"),))
    assert read_choice(compile_choice(state, {"fd00:1::11": 1}, layout()), layout()) == ({"fd00:1::11": 1}, frozenset())


def test_a_pool_of_more_than_a_hundred_has_the_large_table() -> None:
    numbers = {f"10.0.{index >> 8}.{index & 255}": index for index in range(1, 1001)}
    state = PoolState(Choice("lb", "pool", None), tuple(MemberState(address, 1, "active") for address in numbers))
    assert header(compile_choice(state, numbers, layout()))["slot_count"] == 65537
