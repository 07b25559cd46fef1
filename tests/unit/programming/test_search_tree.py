"""The search tree: the longest prefix, as a list of prefixes gone through one by one finds it."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.programming.block import BlockBuilder
from gateway.programming.search_tree import NODE, TreeWriter, prefix_intervals
from tests.unit.programming.arena import layout, search_address

DEFAULT = 7
Prefixes = dict[tuple[int, int], int]  # (bits, length) -> leaf


def prefixes(width: int) -> st.SearchStrategy[Prefixes]:
    """Some at random, many that lie in each other."""
    near = st.sampled_from([0, (1 << width) - 1, 0x0A << (width - 8), 0x0A01 << (width - 16), 0x0A0101 << (width - 24)])
    prefix = st.builds(
        lambda bits, length: (bits >> (width - length) << (width - length), length),
        st.one_of(st.integers(0, (1 << width) - 1), near),
        st.integers(0, width),
    )
    return st.dictionaries(prefix, st.integers(0, NODE - 1), max_size=30)


def longest(found: Prefixes, key: int, width: int) -> int:
    matching = [
        (length, leaf) for (bits, length), leaf in found.items() if bits >> (width - length) == key >> (width - length)
    ]
    return max(matching)[1] if matching else DEFAULT


def check(found: Prefixes, keys: list[int], width: int) -> None:
    builder = BlockBuilder()
    builder.reserve(5)
    numbers = [(bits, bits + (1 << width - length) - 1, leaf) for (bits, length), leaf in found.items()]
    cut = prefix_intervals(numbers, width, DEFAULT)
    word = TreeWriter(builder, layout().struct("search_node")).add_intervals(cut, width, 0, int)
    block = builder.finish(numpy.zeros(64, numpy.uint8))
    edges = [bits for bits, _ in found] + [bits + (1 << (width - length)) for bits, length in found]
    for edge in [*keys, *edges, *[edge - 1 for edge in edges]]:
        key = edge & ((1 << width) - 1)
        assert search_address(block, word, key.to_bytes(width // 8)) == longest(found, key, width)


@given(prefixes(32), st.lists(st.integers(0, (1 << 32) - 1), max_size=30))
def test_the_longest_ipv4_prefix_is_found(found: Prefixes, keys: list[int]) -> None:
    check(found, keys, 32)


@given(prefixes(128), st.lists(st.integers(0, (1 << 128) - 1), max_size=30))
def test_the_longest_ipv6_prefix_is_found(found: Prefixes, keys: list[int]) -> None:
    check(found, keys, 128)


@pytest.mark.parametrize("width", [32, 128])
def test_of_many_prefixes_the_longest_is_found(width: int) -> None:
    found = {(number << width - 16, 16): number % 50 for number in range(0, 1 << 16, 97)}
    check(found, [], width)


def test_without_prefixes_every_address_leads_to_the_default() -> None:
    check({}, [0, 1, 0xFFFFFFFF], 32)


def test_of_equal_prefixes_the_last_counts() -> None:
    assert prefix_intervals([(8, 15, 1), (8, 15, 2)], 32, 0) == [(0, 0), (8, 2), (16, 0)]


def test_neighbours_that_lead_to_the_same_are_one_interval() -> None:
    assert prefix_intervals([(0, 7, 1), (8, 15, 1), (12, 13, 1)], 32, 1) == [(0, 1)]
