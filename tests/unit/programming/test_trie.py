"""The trie: the longest prefix, as a list of prefixes gone through one by one finds it."""

import numpy
from hypothesis import given
from hypothesis import strategies as st

from gateway.programming.block import BlockBuilder
from gateway.programming.trie import CHILD, Trie
from tests.unit.programming.arena import trie_find

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
    return st.dictionaries(prefix, st.integers(0, CHILD - 1), max_size=30)


def longest(found: Prefixes, key: int, width: int) -> int:
    matching = [
        (length, leaf) for (bits, length), leaf in found.items() if bits >> (width - length) == key >> (width - length)
    ]
    return max(matching)[1] if matching else DEFAULT


def check(found: Prefixes, keys: list[int], width: int, stride: int = 8) -> None:
    trie = Trie(DEFAULT, stride)
    for (bits, length), leaf in sorted(found.items(), key=lambda item: item[0][1]):
        trie.insert(bits.to_bytes(width // 8), length, leaf)
    builder = BlockBuilder()
    builder.reserve(5)
    root = trie.add_to(builder)
    block = builder.finish(numpy.zeros(64, numpy.uint8))
    edges = [bits for bits, _ in found] + [bits + (1 << (width - length)) for bits, length in found]
    for edge in [*keys, *edges, *[edge - 1 for edge in edges]]:
        key = edge & ((1 << width) - 1)
        wanted = longest(found, key, width)
        assert trie.find(key.to_bytes(width // 8)) == wanted
        assert trie_find(block, root, key.to_bytes(width // 8), stride) == wanted


@given(prefixes(32), st.lists(st.integers(0, (1 << 32) - 1), max_size=30))
def test_the_longest_ipv4_prefix_is_found(found: Prefixes, keys: list[int]) -> None:
    check(found, keys, 32)


@given(prefixes(128), st.lists(st.integers(0, (1 << 128) - 1), max_size=30))
def test_the_longest_ipv6_prefix_is_found(found: Prefixes, keys: list[int]) -> None:
    check(found, keys, 128)


@given(prefixes(32), st.lists(st.integers(0, (1 << 32) - 1), max_size=30))
def test_small_nodes_find_the_same(found: Prefixes, keys: list[int]) -> None:
    check(found, keys, 32, stride=4)


def test_an_empty_trie_has_its_default_everywhere() -> None:
    check({}, [0, 1, 0xFFFFFFFF], 32)
