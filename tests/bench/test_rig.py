import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.bench.kernel import add_kernel
from tests.bench.nftables import add_nftables
from tests.bench.plan import Plan
from tests.bench.rig import Rig, Router, add_bare_redirect
from tests.bench.traffic import Expected, Measurement, Traffic

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and BPF need root")

FLOWS = 20_000
SEPARATE = Plan(1_000, overlapping=False)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with ExitStack() as lifetime:
        yield Rig(lifetime)


@pytest.fixture(scope="module")
def linux(rig: Rig) -> Router:
    return add_kernel(rig, SEPARATE)


def test_what_is_only_redirected_all_arrives_and_counts_as_wrong_where_it_was_to_be_routed(rig: Rig) -> None:
    bare, measurement = add_bare_redirect(rig, "bare"), Measurement(rig)
    due: tuple[Expected, ...] = ("corpnet", "corpnet_untagged", "nvgre", "vxlan", "balanced", "client")
    for frame in ("nvgre", "vxlan"):
        traffic = Traffic(Plan(1_000), frame, "corpnet")
        unchanged = measurement.send(traffic, bare, "unchanged", 20_000)
        assert (unchanged.arrived, unchanged.wrong) == (1, 0)
        for expected in due:
            assert measurement.send(traffic, bare, expected, 20_000).wrong == 1


def test_what_another_router_forwards_is_right_both_ways(rig: Rig, linux: Router) -> None:
    measurement = Measurement(rig)
    inward = measurement.send(Traffic(SEPARATE, "vxlan", "corpnet"), linux, "corpnet_untagged", 20_000)
    outward = measurement.send(Traffic(SEPARATE, "untagged", "vm"), linux, "vxlan", 20_000)
    assert (inward.arrived, inward.wrong) == (1, 0)
    assert (outward.arrived, outward.wrong) == (1, 0)


def test_what_nftables_balances_is_right_both_ways_and_stays_with_its_member(rig: Rig) -> None:
    nftables, measurement = add_nftables(rig, SEPARATE), Measurement(rig)
    requests = Traffic(SEPARATE, "untagged", "vip", "in_turn", FLOWS)
    opened = measurement.send(requests, nftables, "balanced", FLOWS, learns=True)
    answered = measurement.send(Traffic(SEPARATE, "vxlan", "client", "in_turn", FLOWS), nftables, "client", FLOWS)
    again = measurement.send(replace(requests, selection="established"), nftables, "balanced", FLOWS)
    assert [(each.arrived, each.wrong) for each in (opened, answered, again)] == [(1, 0)] * 3


def test_a_flow_that_reaches_another_member_than_before_counts_as_wrong(rig: Rig, linux: Router) -> None:
    nftables, measurement = add_nftables(rig, SEPARATE, "first"), Measurement(rig)
    requests = Traffic(SEPARATE, "untagged", "vip", "established", FLOWS)
    measurement.send(replace(requests, selection="in_turn"), nftables, "balanced", FLOWS, learns=True)
    other = add_nftables(rig, SEPARATE, "other")  # it hashes with another seed
    assert measurement.send(requests, other, "balanced", FLOWS).wrong > 0.5


def test_a_packet_to_another_host_than_its_records_counts_as_wrong(rig: Rig, linux: Router) -> None:
    moved = Plan(1_000, hosts=50, overlapping=False)
    outward = Measurement(rig).send(Traffic(moved, "untagged", "vm"), linux, "vxlan", 20_000)
    assert outward.arrived == 1
    assert outward.wrong > 0.4
