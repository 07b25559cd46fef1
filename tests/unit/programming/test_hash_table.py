"""The hash table: a packet finds every key in few steps, and nothing that is not there."""

from random import Random

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.programming.block import BlockBuilder, Bytes, CapacityError
from gateway.programming.hash_table import Region, add_table
from tests.unit.programming.arena import find_cell, fold, layout, rotate_left

Word = st.integers(1, 0xFFFFFFFF)
Words = st.tuples(*[st.integers(0, 0xFFFFFFFF)] * 4).filter(any)
Step = st.sampled_from((1, 3, 256, 1 << 16, 1 << 24))  # addresses in a row are rows of words with their bytes turned
InARow = st.builds(
    lambda first, step, count: {(first + step * n) & 0xFFFFFFFF for n in range(count)} - {0},
    Word,
    Step,
    st.integers(1, 300),
)
InARow6 = st.builds(
    lambda prefix, first, step: {(*prefix, 0, (first + step * n) & 0xFFFFFFFF) for n in range(200)} - {(0, 0, 0, 0)},
    st.tuples(Word, Word),
    Word,
    Step,
)
Keys = list[int] | list[tuple[int, ...]]


def table(keys: Keys, six: bool) -> tuple[Bytes, Region]:
    """The keys in a block, each with its number as target; something lies before the table and nothing behind it."""
    builder = BlockBuilder()
    builder.reserve(3)
    cells = numpy.zeros(len(keys), layout().struct("cell6" if six else "cell"))
    if keys:
        cells["key"] = keys
    cells["target"] = numpy.arange(1, len(keys) + 1)
    region = add_table(builder, cells)
    return builder.finish(numpy.zeros(64, numpy.uint8)), region


def check(keys: Keys, foreign: set[int] | set[tuple[int, ...]], six: bool) -> None:
    block, region = table(keys, six)
    for number, key in enumerate(keys, 1):
        assert find_cell(block, region, key)["target"] == number
    for key in foreign - set(keys):
        assert find_cell(block, region, key) is None


@given(st.sets(Word, max_size=300), st.sets(Word, max_size=100))
def test_every_key_is_found_and_no_other(keys: set[int], foreign: set[int]) -> None:
    check(sorted(keys), foreign, six=False)


@given(InARow, InARow)
def test_addresses_in_a_row_are_found_and_those_beside_them_are_not(keys: set[int], foreign: set[int]) -> None:
    check(sorted(keys), foreign, six=False)


@given(st.sets(Words, max_size=150), st.sets(Words, max_size=50))
def test_every_ipv6_key_is_found_and_no_other(keys: set[tuple[int, ...]], foreign: set[tuple[int, ...]]) -> None:
    check(sorted(keys), foreign, six=True)


@given(InARow6, InARow6)
def test_ipv6_addresses_in_a_row_are_found(keys: set[tuple[int, ...]], foreign: set[tuple[int, ...]]) -> None:
    check(sorted(keys), foreign, six=True)


@pytest.mark.parametrize("six", [False, True])
def test_an_empty_table_holds_nothing(six: bool) -> None:
    block, region = table([], six)
    for word in (1, 0x7FFFFFFF, 0xFFFFFFFF):
        assert find_cell(block, region, (0, 0, 0, word) if six else word) is None


def test_a_table_too_large_to_be_sparse_holds_all_its_keys() -> None:
    random = Random(1)
    keys = sorted(random.sample(range(1, 1 << 32), 10_000))
    check(keys, set(random.sample(range(1, 1 << 32), 1000)), six=False)


def test_addresses_made_to_hash_alike_are_refused_and_not_waited_for() -> None:
    """Whoever writes a tenant's records chooses these; more of them than a search looks at fit into no table."""
    alike = [(1, 2, word, rotate_left(rotate_left(word, 18) ^ 0x1234, 5)) for word in range(100)]
    assert len({fold(words) for words in alike}) == 1
    with pytest.raises(CapacityError, match="hash alike"):
        table(alike, six=True)
