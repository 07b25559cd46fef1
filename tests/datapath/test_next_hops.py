"""Next hops that are asked for beforehand: as the programs ask, and known once they have learned."""

import time

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP
from scapy.packet import Packet

from gateway.programming.next_hops import NextHop, find, question
from gateway.programming.ports import Ports
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.unit.model.services import CLIENT, CLIENT6, FAR, SERVICE_PORTS, SERVICES, VM6, inside, outside, udp
from tests.unit.model.support import NEIGHBOUR

pytestmark = needs_root

PORT = ("internet", 0)
HOP = NextHop(PORT, "198.51.100.254", "198.51.100.1")
HOP6 = NextHop(PORT, "2001:db8:100::fe", "2001:db8:100::1")
TOLD = ARP(op="is-at", hwsrc=NEIGHBOUR, psrc=HOP.address, pdst=HOP.source)
TOLD6 = (
    IPv6(src=HOP6.address, dst=HOP6.source, hlim=255)
    / ICMPv6ND_NA(tgt=HOP6.address)
    / ICMPv6NDOptDstLLAddr(lladdr=NEIGHBOUR)
)
CASES = pytest.mark.parametrize(
    ("hop", "sent", "told"),
    [(HOP, udp(FAR, 7, CLIENT, 8), TOLD), (HOP6, udp(VM6, 7, CLIENT6, 8), TOLD6)],
    ids=["IPv4", "IPv6"],
)


def hold(gateway: Gateway) -> tuple[Ports, int]:
    gateway.hold(SERVICES, ports=SERVICE_PORTS, neighbours_known=False)
    programmer = gateway.programs.programmer
    return programmer._ports, programmer._places.port(PORT)


@CASES
def test_the_question_is_the_programs_own(gateway: Gateway, hop: NextHop, sent: Packet, told: Packet) -> None:
    ports, number = hold(gateway)
    asked = gateway.send(*inside(sent))
    assert (asked.reason, asked.interface) == ("resolving", "i0")
    assert asked.frame == question(ports.asker(number), hop)


@CASES
def test_what_the_programs_have_learned_is_known(gateway: Gateway, hop: NextHop, sent: Packet, told: Packet) -> None:
    ports, number = hold(gateway)
    assert not ports.knows(number, hop.address)
    assert gateway.send(*outside(told)).action == "consumed"
    assert ports.knows(number, hop.address)
    assert gateway.send(*inside(sent)).action == "forwarded"


def test_one_that_is_silent_is_not_waited_for_for_long(gateway: Gateway) -> None:
    ports, number = hold(gateway)
    began = time.monotonic()
    find(ports, {HOP: number}, 0.05)
    assert 0.05 <= time.monotonic() - began < 5
    gateway.send(*outside(TOLD))
    began = time.monotonic()
    find(ports, {HOP: number}, 60)
    assert time.monotonic() - began < 5
