import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.bench.kernel import add_kernel
from tests.bench.plan import Plan
from tests.bench.rig import Rig, Router, add_bare_redirect
from tests.bench.traffic import Expected, Measurement, Traffic

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and BPF need root")

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


def test_a_packet_to_another_host_than_its_records_counts_as_wrong(rig: Rig, linux: Router) -> None:
    moved = Plan(1_000, hosts=50, overlapping=False)
    outward = Measurement(rig).send(Traffic(moved, "untagged", "vm"), linux, "vxlan", 20_000)
    assert outward.arrived == 1
    assert outward.wrong > 0.4
