"""How regions of connections fill and grow: nobody is forgotten while there is room, and little of it is left empty."""

from collections.abc import Iterator
from socket import if_nametoindex
from typing import Any

import numpy
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from gateway.datapath.connections import LINES_OF_SET, WORDS_PER_LINE, Entries
from gateway.datapath.test_run import run
from gateway.policy.model import AccessControlList, AppliesTo
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.unit.model.support import BLUE, changed, external, tunnelled

pytestmark = needs_root

MACHINE = {"4": "10.1.6.21", "6": "fd00:6::21"}
OUTSIDE = {"4": "157.1.0.9", "6": "fd00:157::9"}
XDP_REDIRECT = 4
SET_BYTES = {family: lines * 64 for family, lines in LINES_OF_SET.items()}
MOST_BYTES = {"4": 48, "6": 100}  # of a connection, right after a region has doubled


def ports(flow: int) -> bytes:
    """Ports that no two of 16,384 flows have in common: those of the machine, and of whom it asks."""
    return (1024 + flow % 128).to_bytes(2) + (2048 + flow // 128).to_bytes(2)


class Flows:
    """Questions of one machine behind a list, and their answers: frames of which only the ports differ."""

    def __init__(self, gateway: Gateway, family: str) -> None:
        self._gateway = gateway
        self._program = gateway.programs.datapath.programs["gateway"]
        version: type[Packet] = IP if family == "4" else IPv6
        asked, told = (
            version(src=one[family], dst=other[family]) / UDP(chksum=0)
            for one, other in ((MACHINE, OUTSIDE), (OUTSIDE, MACHINE))
        )
        self._question, self._answer = tunnelled(asked, 6002, "192.168.6.4"), external(told)

    def ask(self, flow: int) -> bool:
        """Whether the question passes."""
        return self._passes("p0", self._question, ports(flow))

    def answer(self, flow: int) -> bool:
        """Whether the answer does."""
        return self._passes("x0", self._answer, ports(flow)[2:] + ports(flow)[:2])

    def _passes(self, interface: str, frame: bytes, numbers: bytes) -> bool:
        result, _ = run(self._program, frame[:-8] + numbers + frame[-4:], if_nametoindex(interface))
        return result == XDP_REDIRECT


def row(gateway: Gateway) -> Any:
    """Blue's struct domain."""
    maps, layout = gateway.programs.datapath.maps, gateway.programs.layout
    return maps["domains"].records(layout.struct("domain"))[gateway.programs.programmer.numbers()[BLUE]]


def in_use(gateway: Gateway, family: str) -> Entries:
    table = gateway.programs.datapath.maps["connections"].mmap().view(numpy.uint64).reshape(-1, WORDS_PER_LINE)
    return Entries.in_use(table, row(gateway), family)


def held(gateway: Gateway, family: str) -> int:
    """Connections that there are."""
    return int(numpy.count_nonzero(in_use(gateway, family).ends))


@pytest.fixture(name="guarded")
def guarded_gateway(gateway: Gateway) -> Iterator[Gateway]:
    """Blue behind a list that lets its machines ask and nobody ask them; what passes is not captured."""
    gateway.hold(changed(access_control_lists=(AccessControlList("guard", (AppliesTo(6002),), "deny", "allow"),)))
    root = gateway.programs.datapath.maps["root"].records(gateway.programs.layout.struct("root"))
    root["capture"] = 0
    yield gateway
    root["capture"] = 1


@pytest.mark.parametrize(("family", "flows"), [("4", 5000), ("6", 1000)])
def test_nobody_is_forgotten_while_a_region_fills_and_grows(guarded: Gateway, family: str, flows: int) -> None:
    traffic, sets = Flows(guarded, family), len(in_use(guarded, family).ends)
    assert all(traffic.ask(flow) for flow in range(flows))
    assert len(in_use(guarded, family).ends) >= sets * 16
    assert held(guarded, family) == flows
    assert all(traffic.answer(flow) for flow in range(flows))
    assert not traffic.answer(flows)


@pytest.mark.parametrize(("family", "flows"), [("4", 5000), ("6", 1000)])
def test_a_connection_takes_little_more_than_its_entry_even_right_after_growth(
    guarded: Gateway, family: str, flows: int
) -> None:
    traffic, sets, most = Flows(guarded, family), len(in_use(guarded, family).ends), []
    for flow in range(flows):
        assert traffic.ask(flow)
        now = len(in_use(guarded, family).ends)
        if now != sets:
            most.append(now * SET_BYTES[family] / (flow + 1))
        sets = now
    assert len(most) >= 4, "each time what is in use doubles"
    assert max(most) <= MOST_BYTES[family], most
