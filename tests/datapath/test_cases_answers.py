"""What the gateway says itself: echo replies, ICMP errors, ARP and neighbour discovery; and whom it learns of."""

import time

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.layers.l2 import ARP, GRE, Ether
from scapy.packet import Packet, Raw

from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.unit.model.support import (
    BLUE,
    CORPNET,
    GATEWAY,
    HOST,
    NEIGHBOUR,
    PROVIDER,
    RED,
    ROUTER,
    external,
    nvgre,
    tunnelled,
    vxlan,
)

pytestmark = needs_root
VM = "10:10:10:10:11:05"
MOVED = "02:00:00:00:dd:99"
ANSWERS = 1000  # at once, and a second


@pytest.mark.parametrize("encapsulation", ["nvgre", "vxlan"])
def test_the_router_answers_a_machines_ping_the_way_it_came(gateway: Gateway, encapsulation: str) -> None:
    gateway.hold()
    ping = IP(src="10.1.1.11", dst="10.1.1.1", id=77, ttl=9) / ICMP(id=5, seq=6) / Raw(b"abcdefgh")
    got = gateway.answers("p0", tunnelled(ping, encapsulation=encapsulation))
    header = nvgre(6001) if encapsulation == "nvgre" else vxlan(6001)
    expected = (
        Ether(dst=HOST, src=PROVIDER)
        / IP(src=GATEWAY, dst="192.168.1.10", id=0, flags="DF", ttl=64)
        / header
        / Ether(dst=VM, src=ROUTER)
        / IP(src="10.1.1.1", dst="10.1.1.11", id=77, ttl=64)
        / ICMP(type=0, id=5, seq=6)
        / Raw(b"abcdefgh")
    )
    assert bytes(got) == bytes(expected)


def test_the_router_answers_an_ipv6_ping_and_corpnets(gateway: Gateway) -> None:
    gateway.hold()
    six = IPv6(src="fd00:1::11", dst="fd00:1::1") / ICMPv6EchoRequest(id=5, seq=6, data=b"abc")
    answer = gateway.answers("p0", tunnelled(six))
    assert (answer[ICMPv6EchoReply].data, answer[IPv6].hlim) == (b"abc", 64)
    corpnet = gateway.answers("x0", external(IP(src="157.1.0.9", dst="157.1.0.254") / ICMP(id=5) / Raw(b"abc")))
    assert (corpnet.src, corpnet.dst, corpnet[IP].src, corpnet[ICMP].type) == (CORPNET, NEIGHBOUR, "157.1.0.254", 0)


def test_every_router_address_of_a_domain_answers_each_of_its_machines(gateway: Gateway) -> None:
    gateway.hold()
    for router in ("10.1.1.1", "10.1.6.254", "10.1.7.1", "157.1.0.254", "10.50.0.1"):
        answer = gateway.answers("p0", tunnelled(IP(src="10.1.1.11", dst=router) / ICMP(id=1)))
        assert answer[GRE][IP].src == router


def test_a_ping_of_nothing_but_zeros_is_answered_with_a_checksum_that_is_right(gateway: Gateway) -> None:
    gateway.hold()
    ping = IP(src="10.1.1.11", dst="10.1.1.1") / ICMP(id=0, seq=0) / Raw(bytes(32))
    assert gateway.answers("p0", tunnelled(ping))[GRE][ICMP].chksum == 0xFFFF


@pytest.mark.parametrize("payload", [TCP(dport=22), UDP(dport=53)])
def test_nothing_else_is_served_at_a_router_address(gateway: Gateway, payload: Packet) -> None:
    gateway.hold()
    outcome = gateway.send("p0", tunnelled(IP(src="10.1.1.11", dst="10.1.1.1") / payload))
    assert (outcome.action, outcome.reason) == ("dropped", "local_not_served")
    assert (outcome.frame is not None) == (UDP in payload)
    if outcome.frame:
        assert (Ether(outcome.frame)[GRE][ICMP].type, Ether(outcome.frame)[GRE][ICMP].code) == (3, 3)


def test_tracert_sees_the_router_and_learns_which_packet_it_was(gateway: Gateway) -> None:
    gateway.hold()
    probe = IP(src="10.1.1.11", dst="157.1.0.9", ttl=1, id=4711) / UDP(sport=33434, dport=33435) / Raw(bytes(32))
    _, answer = gateway.objects("p0", tunnelled(probe))
    error = answer[GRE].payload
    assert (error[IP].src, error[IP].dst, error[ICMP].type, error[ICMP].code) == ("10.1.1.1", "10.1.1.11", 11, 0)
    assert (error[IPerror].id, error[UDPerror].dport) == (4711, 33435)
    six = IPv6(src="fd00:157::9", dst="fd00:1::11", hlim=1) / UDP(dport=33435)
    _, answer = gateway.objects("x0", external(six))
    assert (answer[IPv6].src, answer[ICMPv6TimeExceeded].code) == ("fd00:157::fe", 0)


@pytest.mark.parametrize("size", [0, 1, 3, 99, 100, 101, 200, 1400])
@pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])
def test_an_icmp_errors_checksum_is_right_for_every_length_of_what_it_quotes(
    gateway: Gateway, size: int, six: bool
) -> None:
    gateway.hold()
    payload = UDP(sport=7, dport=8) / Raw(bytes(n * 7 & 0xFF for n in range(size)))
    header = IPv6(src="fd00:1::11", dst="fd00:9::9") if six else IP(src="10.1.1.11", dst="10.99.0.9")
    reason, answer = gateway.objects("p0", tunnelled(header / payload))
    assert reason == "no_route"
    inner = answer[GRE].payload
    assert (inner[ICMPv6DestUnreach].code if six else inner[ICMP].code) == 0
    quoted = bytes(inner[ICMPv6DestUnreach] if six else inner[ICMP])[8:]
    assert quoted == bytes(header / payload)[: min(len(header / payload), 128) & ~3]


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_there_is_no_error_about_an_error(gateway: Gateway, kind: int) -> None:
    gateway.hold()
    error = IP(src="10.1.1.11", dst="10.99.0.9") / ICMP(type=kind) / IP(src="10.99.0.9", dst="10.1.1.11") / UDP()
    assert gateway.drops("p0", tunnelled(error)) == "no_route"


def test_there_is_no_error_about_a_later_fragment(gateway: Gateway) -> None:
    gateway.hold()
    assert gateway.drops("p0", tunnelled(IP(src="10.1.1.11", dst="10.99.0.9", frag=5, proto=17) / Raw(bytes(40)))) == (
        "no_route"
    )


def test_the_thousand_and_first_answer_at_once_is_answer_limited(gateway: Gateway) -> None:
    """The budget fills up by one a millisecond: as many as it took milliseconds to send may be answered more."""
    gateway.hold()
    frame = tunnelled(IP(src="10.1.1.11", dst="10.1.1.1") / ICMP())
    started = time.monotonic()
    first = next(number for number in range(ANSWERS * 100) if gateway.send("p0", frame).action != "answered")
    elapsed = time.monotonic() - started
    assert ANSWERS <= first <= ANSWERS + elapsed * ANSWERS + 1
    limited = gateway.send("p0", frame)
    while limited.action == "answered":
        limited = gateway.send("p0", frame)
    assert (limited.reason, limited.domain, limited.frame) == ("answer_limited", BLUE, None)


def test_one_tenants_pings_do_not_use_up_anothers_answers(gateway: Gateway) -> None:
    gateway.hold()
    frame = tunnelled(IP(src="10.1.1.11", dst="10.1.1.1") / ICMP())
    while gateway.send("p0", frame).action == "answered":
        gateway.flood("p0", frame)
    reds = tunnelled(IP(src="10.1.1.11", dst="10.1.1.1") / ICMP(), 5001, "192.168.3.30", mac="20:20:20:20:21:05")
    outcome = gateway.send("p0", reds)
    assert (outcome.action, outcome.domain) == ("answered", RED)


def test_a_drop_keeps_its_own_reason_when_no_answer_is_left(gateway: Gateway) -> None:
    gateway.hold()
    echo = tunnelled(IP(src="10.1.1.11", dst="10.1.1.1") / ICMP())
    lost = tunnelled(IP(src="10.1.1.11", dst="10.99.0.9") / UDP())
    outcome = gateway.send("p0", lost)
    assert outcome.frame is not None
    for _ in range(100_000):
        if gateway.send("p0", echo).action != "answered":
            outcome = gateway.send("p0", lost)
            if outcome.frame is None:
                break
    assert (outcome.reason, outcome.frame) == ("no_route", None)


def overlay_arp(target: str, sender: str = "10.1.1.11", vsid: int = 6001, source: str = "192.168.1.10") -> bytes:
    request = ARP(op=1, hwsrc=VM, psrc=sender, pdst=target)
    return tunnelled(request, vsid, source, router="ff:ff:ff:ff:ff:ff")


@pytest.mark.parametrize(
    ("target", "mac"),
    [
        ("10.1.1.1", ROUTER),
        ("10.1.1.12", "10:10:10:10:11:07"),
        ("10.1.1.77", ROUTER),  # a more specific route leads away from the subnet
    ],
)
def test_arp_of_a_machine_is_answered_with_who_has_the_address(gateway: Gateway, target: str, mac: str) -> None:
    gateway.hold()
    answer = gateway.answers("p0", overlay_arp(target))
    expected = (
        Ether(dst=HOST, src=PROVIDER)
        / IP(src=GATEWAY, dst="192.168.1.10", id=0, flags="DF", ttl=64)
        / nvgre(6001)
        / Ether(dst=VM, src=ROUTER)
        / ARP(op=2, hwsrc=mac, psrc=target, hwdst=VM, pdst="10.1.1.11")
    )
    assert bytes(answer) == bytes(expected)


@pytest.mark.parametrize(
    ("target", "sender"),
    [("10.1.1.11", "10.1.1.11"), ("10.1.1.200", "10.1.1.11"), ("10.1.6.21", "10.1.1.11"), ("8.8.8.8", "10.1.1.11")],
    ids=["its_own", "nobodys", "of_another_subnet", "of_the_world"],
)
def test_arp_for_an_address_that_is_not_there_stays_unanswered(gateway: Gateway, target: str, sender: str) -> None:
    gateway.hold()
    assert gateway.drops("p0", overlay_arp(target, sender)) == "neighbor_unanswered"


def test_arp_of_a_host_that_is_not_admitted_stays_unanswered(gateway: Gateway) -> None:
    gateway.hold()
    assert gateway.drops("p0", overlay_arp("10.1.1.1", source="192.168.3.30")) == "source_not_admitted"


@pytest.mark.parametrize(("target", "mac", "flags"), [("fd00:1::1", ROUTER, 0xE), ("fd00:1::77", ROUTER, 0x6)])
def test_a_neighbour_solicitation_of_a_machine_is_answered(gateway: Gateway, target: str, mac: str, flags: int) -> None:
    gateway.hold()
    question = (
        IPv6(src="fd00:1::11", dst="ff02::1:ff00:1", hlim=255)
        / ICMPv6ND_NS(tgt=target)
        / ICMPv6NDOptSrcLLAddr(lladdr=VM)
    )
    answer = gateway.answers("p0", tunnelled(question, router="33:33:ff:00:00:01"))
    inner = answer[GRE].payload
    assert (inner.dst, inner[IPv6].src, inner[IPv6].dst, inner[IPv6].hlim) == (VM, target, "fd00:1::11", 255)
    advertisement = inner[ICMPv6ND_NA]
    assert flags == (advertisement.R << 3 | advertisement.S << 2 | advertisement.O << 1)
    assert (advertisement.tgt, advertisement[ICMPv6NDOptDstLLAddr].lladdr) == (target, mac)


def test_corpnets_arp_for_our_address_is_answered_and_its_sender_learned(gateway: Gateway) -> None:
    gateway.hold(neighbours_known=False)
    mac = "02:00:00:00:dd:55"
    request = Ether(dst="ff:ff:ff:ff:ff:ff", src=mac) / ARP(op=1, hwsrc=mac, psrc="157.1.0.55", pdst="157.1.0.254")
    answer = gateway.answers("x0", bytes(request))
    assert (answer.dst, answer[ARP].hwsrc, answer[ARP].psrc) == (mac, CORPNET, "157.1.0.254")
    got = gateway.forwards("p0", tunnelled(IP(src="10.1.1.11", dst="157.1.0.55") / UDP()))
    assert (got.dst, got.src) == (mac, CORPNET)


@pytest.mark.parametrize("six", [False, True], ids=["arp", "discovery"])
def test_the_first_packet_to_an_unknown_neighbour_asks_for_it_and_the_next_one_goes(
    gateway: Gateway, six: bool
) -> None:
    """No daemon has a part in this."""
    gateway.hold(neighbours_known=False)
    mac, address = "02:00:00:00:dd:55", "fd00:157::55" if six else "157.1.0.55"
    packet = IPv6(src="fd00:1::11", dst=address) / UDP() if six else IP(src="10.1.1.11", dst=address) / UDP()
    outcome = gateway.send("p0", tunnelled(packet))
    assert (outcome.reason, outcome.interface) == ("resolving", "x0")
    assert outcome.frame is not None
    question = Ether(outcome.frame)
    assert question.src == CORPNET
    if six:
        assert (question[ICMPv6ND_NS].tgt, question[IPv6].src, question[IPv6].hlim) == (address, "fd00:157::fe", 255)
        advertisement = ICMPv6ND_NA(tgt=address, R=0) / ICMPv6NDOptDstLLAddr(lladdr=mac)
        answer = Ether(dst=CORPNET, src=mac) / IPv6(src=address, dst="fd00:157::fe", hlim=255) / advertisement
    else:
        assert (question[ARP].op, question[ARP].psrc, question[ARP].pdst) == (1, "157.1.0.254", address)
        reply = ARP(op=2, hwsrc=mac, psrc=address, hwdst=CORPNET, pdst="157.1.0.254")
        answer = Ether(dst=CORPNET, src=mac) / reply
    assert gateway.send("x0", bytes(answer)).action == "consumed"
    assert gateway.forwards("p0", tunnelled(packet)).dst == mac


def test_a_neighbour_of_one_vlan_is_none_of_another(gateway: Gateway) -> None:
    gateway.hold(neighbours_known=False)
    mac = "02:00:00:00:dd:55"
    reply = ARP(op=2, hwsrc=mac, psrc="157.1.0.55", hwdst=CORPNET, pdst="157.1.0.254")
    assert gateway.send("x0", bytes(Ether(dst=CORPNET, src=mac) / reply)).action == "consumed"
    assert gateway.send("p0", tunnelled(IP(src="10.1.1.11", dst="157.1.0.55") / UDP())).action == "forwarded"
    reds = tunnelled(IP(src="10.1.1.11", dst="157.1.0.55") / UDP(), 5001, "192.168.3.30")
    assert gateway.send("p0", reds).reason == "resolving"


def to_corpnet(six: bool) -> bytes:
    if six:
        return tunnelled(IPv6(src="fd00:1::11", dst="fd00:157::9") / UDP())
    return tunnelled(IP(src="10.1.1.11", dst="157.1.0.9") / UDP())


def announced(six: bool, mac: str, override: int = 1) -> bytes:
    """What a neighbour tells all when it has another MAC."""
    if not six:
        gratuitous = ARP(op=1, hwsrc=mac, psrc="157.1.0.9", pdst="157.1.0.9")
        return bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=mac) / gratuitous)
    packet = IPv6(src="fd00:157::9", dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt="fd00:157::9", S=0, O=override)
    return bytes(Ether(dst="33:33:00:00:00:01", src=mac) / packet / ICMPv6NDOptDstLLAddr(lladdr=mac))


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_a_neighbour_that_says_that_it_has_another_mac_is_followed(gateway: Gateway, six: bool) -> None:
    gateway.hold()
    assert gateway.forwards("p0", to_corpnet(six)).dst == NEIGHBOUR
    assert gateway.send("x0", announced(six, MOVED)).action == "passed"
    assert gateway.forwards("p0", to_corpnet(six)).dst == MOVED


def test_an_advertisement_that_is_not_to_override_moves_nobody(gateway: Gateway) -> None:
    gateway.hold()
    assert gateway.send("x0", announced(True, MOVED, override=0)).action == "passed"
    assert gateway.forwards("p0", to_corpnet(True)).dst == NEIGHBOUR


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_what_a_stranger_tells_all_is_not_learned(gateway: Gateway, six: bool) -> None:
    gateway.hold(neighbours_known=False)
    assert gateway.send("x0", announced(six, MOVED)).action == "passed"
    assert gateway.send("p0", to_corpnet(six)).reason == "resolving"


def test_many_neighbours_are_known_at_once(gateway: Gateway) -> None:
    """As many as a port has room for; of those that share a line the oldest goes."""
    gateway.hold(neighbours_known=False)
    for number in range(256):
        address, mac = f"157.1.1.{number}", f"02:00:00:01:00:{number:02x}"
        reply = ARP(op=2, hwsrc=mac, psrc=address, hwdst=CORPNET, pdst="157.1.0.254")
        assert gateway.send("x0", bytes(Ether(dst=CORPNET, src=mac) / reply)).action == "consumed"
    known = 0
    for number in range(256):
        outcome = gateway.send("p0", tunnelled(IP(src="10.1.1.11", dst=f"157.1.1.{number}") / UDP()))
        if outcome.action == "forwarded":
            assert outcome.frame is not None
            assert Ether(outcome.frame).dst == f"02:00:00:01:00:{number:02x}"
            known += 1
    assert known > 230
