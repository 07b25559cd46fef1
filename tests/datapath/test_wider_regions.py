"""Regions that become larger because connections need it: those that stand go along, and no flood takes memory."""

import time
from dataclasses import replace
from socket import if_nametoindex
from typing import Any

import numpy
import pytest

from gateway.datapath.connections import WAYS
from gateway.datapath.test_run import run
from gateway.policy.model import OutboundNat
from gateway.programming.block import CapacityError
from gateway.programming.connection_regions import CONNECTIONS_AT_FIRST, ConnectionRegions
from gateway.programming.widening import Widening
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.datapath.test_connection_regions import Flows, guarded_gateway, held, in_use, row
from tests.unit.model.services import BALANCER, SERVICE_PORTS, VIP, VM1, inside, outside, udp, with_blue
from tests.unit.model.support import BLUE, make_world

pytestmark = needs_root

guarded = guarded_gateway
MOST = 1 << 18
XDP_REDIRECT = 4
SERVICE: dict[str, Any] = {"ports": SERVICE_PORTS}


def regions(gateway: Gateway) -> ConnectionRegions:
    return gateway.programs.programmer._memory.regions


def widen(gateway: Gateway, family: str, most: int = MOST) -> int:
    return regions(gateway).widen(gateway.programs.programmer.numbers()[BLUE], family, most)


def fill(gateway: Gateway, family: str, flows: range, *, answers: bool) -> Flows:
    traffic = Flows(gateway, family)
    for flow in flows:
        assert traffic.ask(flow)
        assert not answers or traffic.answer(flow)
    return traffic


class Outbound:
    """Questions of one machine to eight servers, and their answers."""

    def __init__(self, gateway: Gateway) -> None:
        self._program = gateway.programs.datapath.programs["gateway"]
        root = gateway.programs.datapath.maps["root"].records(gateway.programs.layout.struct("root"))
        root["capture"] = 0
        servers = [f"203.0.113.{number}" for number in range(8)]
        self._questions = [inside(udp(VM1, 4000, server, 53, chksum=0)) for server in servers]
        self._answers = [outside(udp(server, 53, VIP, 4000, chksum=0)) for server in servers]

    def begin(self, flows: range) -> dict[int, int]:
        """The ports of those that find a place: none of them can make room for another one."""
        lent = {}
        for flow in flows:
            port = self.ask(flow)
            if port is not None:
                assert self.answer(flow, port)
                lent[flow] = port
        return lent

    def ask(self, flow: int) -> int | None:
        """The port that stands for the machine's; None: it is refused."""
        interface, frame = self._questions[flow % 8]
        at = len(frame) - len(b"payload") - 8
        action, out = self._run(interface, frame[:at] + (1024 + flow).to_bytes(2) + frame[at + 2 :])
        return int.from_bytes(out[34:36]) if action == XDP_REDIRECT else None

    def answer(self, flow: int, port: int) -> bool:
        """Whether the answer comes to where the question was from."""
        interface, frame = self._answers[flow % 8]
        action, out = self._run(interface, frame[:36] + port.to_bytes(2) + frame[38:])
        return action == XDP_REDIRECT and out[-len(b"payload") - 6 :][:2] == (1024 + flow).to_bytes(2)

    def _run(self, interface: str, frame: bytes) -> tuple[int, bytes]:
        return run(self._program, frame, if_nametoindex(interface))


@pytest.mark.parametrize("family", ["4", "6"])
def test_those_that_stand_go_along_and_the_region_holds_twice_as_many(guarded: Gateway, family: str) -> None:
    places = CONNECTIONS_AT_FIRST[family]
    traffic = fill(guarded, family, range(places * 5 // 8), answers=True)
    before = held(guarded, family)
    assert widen(guarded, family) == 2 * places
    assert held(guarded, family) == before
    assert all(traffic.answer(flow) for flow in range(0, places * 5 // 8, 7))
    fill(guarded, family, range(places * 5 // 8, places * 9 // 8), answers=True)
    assert held(guarded, family) == places * 9 // 8
    assert len(in_use(guarded, family).ends) * WAYS[family] == 2 * places
    assert all(traffic.answer(flow) for flow in range(0, places * 9 // 8, 7))


def test_a_restart_that_allows_fewer_keeps_a_larger_region_with_its_connections(guarded: Gateway) -> None:
    places = CONNECTIONS_AT_FIRST["6"]
    traffic = fill(guarded, "6", range(places * 5 // 8), answers=True)
    assert widen(guarded, "6") == 2 * places
    world = make_world()
    guarded.programs.programmer = guarded.programs.restarted(world.ports, world.router_mac, world.dscp)
    assert widen(guarded, "6", most=places) == 0
    first, lines = int(row(guarded)["connections6"]), int(row(guarded)["connections6_lines"])
    with pytest.raises(ValueError, match="used twice"):
        regions(guarded)._space.claim(first, lines)
    assert all(traffic.answer(flow) for flow in range(0, places * 5 // 8, 7))


def test_ports_stay_lent_where_a_region_becomes_larger_than_they_reach(gateway: Gateway) -> None:
    """Beyond 4,096 sets the remote end says where a lent port leads."""
    gateway.hold(with_blue(load_balancers=(replace(BALANCER, outbound_nat=(OutboundNat("public", 6002),)),)), **SERVICE)
    traffic = Outbound(gateway)
    lent = traffic.begin(range(8_500))
    assert widen(gateway, "4") == 2 * CONNECTIONS_AT_FIRST["4"]
    lent |= traffic.begin(range(8_500, 17_000))
    assert len(in_use(gateway, "4").ends) > 4096
    assert all(traffic.ask(flow) == port and traffic.answer(flow, port) for flow, port in lent.items())
    assert len(lent) > 16_800


def test_unanswered_flows_get_no_larger_region(guarded: Gateway) -> None:
    fill(guarded, "6", range(CONNECTIONS_AT_FIRST["6"] * 2), answers=False)
    assert widen(guarded, "6") == 0


def test_a_region_is_not_widened_beyond_what_a_domain_may_have(guarded: Gateway) -> None:
    places = CONNECTIONS_AT_FIRST["6"]
    fill(guarded, "6", range(places * 5 // 8), answers=True)
    assert widen(guarded, "6", most=places) == 0


def test_a_quarter_of_the_table_is_left_to_domains_to_come(guarded: Gateway) -> None:
    fill(guarded, "6", range(CONNECTIONS_AT_FIRST["6"] * 3 // 4), answers=True)
    space = regions(guarded)._space
    space.allocate(space.free_lines() * 3 // 4)
    first = int(row(guarded)["connections6"])
    with pytest.raises(CapacityError, match="memory_mb"):
        widen(guarded, "6")
    assert int(row(guarded)["connections6"]) == first


def test_a_domain_fills_the_largest_region(guarded: Gateway) -> None:
    for places in (1 << 15, 1 << 16, 1 << 17, 1 << 18):
        fill_with_answered(guarded)
        assert widen(guarded, "4") == places
    fill_with_answered(guarded)
    assert widen(guarded, "4") == 0
    in_use(guarded, "4").ends[:] = 0
    traffic = fill(guarded, "4", range(16000), answers=True)
    assert all(traffic.answer(flow) for flow in range(0, 16000, 7))


def test_what_a_domain_may_have_is_rounded_up_to_a_power_of_two(guarded: Gateway) -> None:
    widening = Widening(regions(guarded), 20_000)
    for _ in range(2):
        fill_with_answered(guarded)
        widening.look(guarded.programs.programmer.numbers())
        assert int(row(guarded)["connections4_lines"]) * WAYS["4"] == 1 << 15


def fill_with_answered(gateway: Gateway) -> None:
    """All of the region in use, half of it by answered flows of nobody."""
    of_blue = row(gateway)
    of_blue["connections4_used"] = of_blue["connections4_lines"]
    answered = 17 | 2 << 8 | (time.monotonic_ns() >> 33 & 0x7FF) << 13 | 5 << 24
    in_use(gateway, "4").ends[:, : WAYS["4"] // 2] = numpy.uint64(answered << 32)
