"""Neighbours that the programs have learned and that then fall silent: asked for, kept, moved or forgotten."""

from collections.abc import Iterator
from socket import AF_PACKET, SOCK_RAW, socket

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP
from scapy.packet import Packet

from gateway.programming.neighbours import QUESTIONS, REACHABLE_S
from gateway.programming.next_hops import NextHop, question
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import ip, needs_root
from tests.unit.model.services import CLIENT, CLIENT6, FAR, SERVICE_PORTS, SERVICES, VM6, inside, outside, udp
from tests.unit.model.support import NEIGHBOUR

pytestmark = needs_root

PORT = ("internet", 0)
HOP = NextHop(PORT, "198.51.100.254", "198.51.100.1")
HOP6 = NextHop(PORT, "2001:db8:100::fe", "2001:db8:100::1")
ELSEWHERE = "02:00:00:00:99:99"
CASES = pytest.mark.parametrize(
    ("hop", "sent"), [(HOP, udp(FAR, 7, CLIENT, 8)), (HOP6, udp(VM6, 7, CLIENT6, 8))], ids=["IPv4", "IPv6"]
)


def told(hop: NextHop, mac: str) -> Packet:
    if hop is HOP:
        return ARP(op="is-at", hwsrc=mac, psrc=hop.address, pdst=hop.source)
    advertisement = ICMPv6ND_NA(tgt=hop.address) / ICMPv6NDOptDstLLAddr(lladdr=mac)
    return IPv6(src=hop.address, dst=hop.source, hlim=255) / advertisement


class Wire:
    """The far end of the Internet's port, and what the gateway does about its neighbours there."""

    def __init__(self, gateway: Gateway, link: socket) -> None:
        self._programmer = gateway.programs.programmer
        self._link = link
        self._number = self._programmer._places.port(PORT)

    def grow_silent(self, seconds: int) -> None:
        for entries in self._programmer._ports.neighbours(self._number):
            entries["seen"][entries["seen"] > 0] -= seconds

    def keep(self) -> list[bytes]:
        """Let the gateway look after its neighbours once; return what it asks."""
        self._programmer.keep_neighbours()
        asked = []
        try:
            while True:
                asked.append(self._link.recv(2048))
        except BlockingIOError:
            return asked

    def question(self, hop: NextHop) -> bytes:
        return question(self._programmer._ports.asker(self._number), hop)


@pytest.fixture
def wire(gateway: Gateway) -> Iterator[Wire]:
    gateway.hold(SERVICES, ports=SERVICE_PORTS, neighbours_known=False)
    ip("link set i0-peer up")
    with socket(AF_PACKET, SOCK_RAW) as link:
        link.bind(("i0-peer", 3))  # ETH_P_ALL
        link.setblocking(False)
        yield Wire(gateway, link)


@CASES
def test_a_neighbour_heard_of_lately_is_not_asked(gateway: Gateway, wire: Wire, hop: NextHop, sent: Packet) -> None:
    gateway.send(*outside(told(hop, NEIGHBOUR)))
    wire.grow_silent(REACHABLE_S - 5)
    assert wire.keep() == []


@CASES
def test_one_that_is_elsewhere_without_a_word_is_followed_and_no_packet_waits(
    gateway: Gateway, wire: Wire, hop: NextHop, sent: Packet
) -> None:
    gateway.send(*outside(told(hop, NEIGHBOUR)))
    wire.grow_silent(REACHABLE_S + 1)
    assert wire.keep() == [wire.question(hop)]
    assert gateway.forwards(*inside(sent)).dst == NEIGHBOUR
    gateway.send(*outside(told(hop, ELSEWHERE)))
    assert gateway.forwards(*inside(sent)).dst == ELSEWHERE
    assert wire.keep() == []


@CASES
def test_one_that_is_gone_is_forgotten_and_the_next_packet_asks(
    gateway: Gateway, wire: Wire, hop: NextHop, sent: Packet
) -> None:
    gateway.send(*outside(told(hop, NEIGHBOUR)))
    wire.grow_silent(REACHABLE_S + 1)
    for _ in range(QUESTIONS):
        assert wire.keep() == [wire.question(hop)]
        assert gateway.send(*inside(sent)).action == "forwarded"
    assert wire.keep() == []
    asked = gateway.send(*inside(sent))
    assert (asked.reason, asked.frame) == ("resolving", wire.question(hop))
    gateway.send(*outside(told(hop, ELSEWHERE)))
    assert gateway.forwards(*inside(sent)).dst == ELSEWHERE


@CASES
def test_one_answer_is_enough_to_stay(gateway: Gateway, wire: Wire, hop: NextHop, sent: Packet) -> None:
    for silent in (REACHABLE_S + 1, REACHABLE_S + 5):
        gateway.send(*outside(told(hop, NEIGHBOUR)))
        wire.grow_silent(silent)
        for _ in range(QUESTIONS):
            wire.keep()
    assert gateway.send(*inside(sent)).action == "forwarded"


def test_where_nobody_can_be_asked_nobody_is_forgotten(gateway: Gateway, wire: Wire) -> None:
    gateway.send(*outside(told(HOP, NEIGHBOUR)))
    wire.grow_silent(REACHABLE_S + 1)
    ip("link set i0 down")
    for _ in range(QUESTIONS + 1):
        assert wire.keep() == []
    ip("link set i0 up")
    assert gateway.send(*inside(udp(FAR, 7, CLIENT, 8))).action == "forwarded"
