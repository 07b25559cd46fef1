"""Free lines: none is given out twice, all that come back join again."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.programming.block import CapacityError
from gateway.programming.space import Space

SIZE = 512
# How many lines to take, or (negative) which of those taken to give back.
Steps = st.lists(st.integers(1, 90) | st.integers(-20, -1), max_size=120)


def run(space: Space, steps: list[int], chunk: int = SIZE) -> list[tuple[int, int]]:
    """Take and give back; what is taken never overlaps. Return what is still taken."""
    taken: list[tuple[int, int]] = []
    for step in steps:
        if step < 0:
            if taken:
                space.release(*taken.pop(step % len(taken)))
            continue
        try:
            first = space.allocate(step)
        except CapacityError:
            assert longest_gap(taken, chunk) < step
            continue
        assert 0 < first <= first + step <= SIZE
        assert first // chunk == (first + step - 1) // chunk
        assert all(first + step <= other or other + lines <= first for other, lines in taken)
        taken.append((first, step))
        assert space.free_lines() == SIZE - 1 - sum(lines for _, lines in taken)
    return taken


def longest_gap(taken: list[tuple[int, int]], chunk: int) -> int:
    """Lines in the longest run of free ones that lies in one chunk."""
    used = {0} | {line for first, lines in taken for line in range(first, first + lines)}
    longest = length = 0
    for line in range(SIZE):
        length = 0 if line in used else 1 if line % chunk == 0 else length + 1
        longest = max(longest, length)
    return longest


@given(Steps)
def test_no_line_is_given_out_twice_and_room_that_is_there_is_found(steps: list[int]) -> None:
    run(Space("the memory", SIZE), steps)


@given(Steps)
def test_what_is_given_out_lies_in_one_chunk(steps: list[int]) -> None:
    run(Space("the memory", SIZE, 128), steps, 128)


@given(Steps, st.integers())
def test_when_all_is_given_back_it_is_one_piece_again(steps: list[int], seed: int) -> None:
    space = Space("the memory", SIZE)
    taken = run(space, steps)
    Random(seed).shuffle(taken)
    for first, lines in taken:
        space.release(first, lines)
    assert space.allocate(SIZE - 1) == 1


@given(Steps)
def test_what_another_daemon_left_is_claimed_and_given_to_nobody(steps: list[int]) -> None:
    left = run(Space("the memory", SIZE), steps)
    space = Space("the memory", SIZE)
    for first, lines in left:
        space.claim(first, lines)
    for first, lines in left:
        with pytest.raises(ValueError, match="used twice"):
            space.claim(first, lines)
    used = {line for first, lines in left for line in range(first, first + lines)}
    given_out = {space.allocate(1) for _ in range(space.free_lines())}
    assert given_out == set(range(1, SIZE)) - used


def test_line_0_means_none_and_is_never_given_out() -> None:
    assert Space("the memory", 2).allocate(1) == 1
    with pytest.raises(CapacityError):
        Space("the memory", 1).allocate(1)


def test_a_full_memory_says_what_is_wanted_and_how_to_mend_it() -> None:
    space = Space("the memory", 100)
    space.allocate(60)
    with pytest.raises(CapacityError, match="the memory is full: 50 lines .* 39 are free .* raise memory_mb"):
        space.allocate(50)
