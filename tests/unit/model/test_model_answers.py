"""What the gateway answers: echo replies and ICMP errors, to whoever sent the packet, the way it came."""

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from gateway.datapath.model.verdict import Verdict
from tests.unit.model.support import (
    BLUE_DOMAIN,
    CORPNET,
    GATEWAY,
    HOST,
    NEIGHBOUR,
    PROVIDER,
    ROUTER,
    changed,
    external,
    make_world,
    nvgre,
    sent,
    tunnelled,
    vxlan,
)


def from_vm(packet: Packet, **how: Any) -> Verdict:
    return make_world().process("p0", tunnelled(packet, **how))


def inner(verdict: Verdict) -> Packet:
    """The inner IP packet of an answer into the overlay."""
    frame = sent(verdict)
    packet: Packet = (frame[VXLAN] if VXLAN in frame else frame[GRE])[Ether].payload
    return packet


@pytest.mark.parametrize("encapsulation", ["nvgre", "vxlan"])
def test_an_echo_reply_goes_back_in_the_same_tunnel(encapsulation: str) -> None:
    request = IP(src="10.1.1.11", dst="10.1.1.1", ttl=9, tos=4, id=77) / ICMP(id=3, seq=4) / Raw(b"payload")
    verdict = from_vm(request, encapsulation=encapsulation, tos=0x28)
    reply = IP(src="10.1.1.1", dst="10.1.1.11", ttl=64, tos=4, id=77) / ICMP(type=0, id=3, seq=4) / Raw(b"payload")
    header = nvgre(6001) if encapsulation == "nvgre" else vxlan(6001)
    outer = Ether(dst=HOST, src=PROVIDER) / IP(src=GATEWAY, dst="192.168.1.10", flags="DF", id=0, ttl=64)
    expected = outer / header / Ether(dst="10:10:10:10:11:05", src=ROUTER) / reply
    assert (verdict.action, verdict.interface) == ("answered", "p0")
    assert sent(verdict) == Ether(bytes(expected))
    assert verdict.frame == bytes(expected)


def test_an_ipv6_echo_reply_goes_back_in_an_ipv6_tunnel() -> None:
    request = IPv6(src="fd00:1::11", dst="fd00:1::1", hlim=9, tc=4, fl=5) / ICMPv6EchoRequest(id=3, data=b"payload")
    verdict = from_vm(request, source="fd00:99::10", encapsulation="vxlan", tc=0x28, fl=7)
    reply = IPv6(src="fd00:1::1", dst="fd00:1::11", hlim=64, tc=4, fl=5) / ICMPv6EchoReply(id=3, data=b"payload")
    outer = Ether(dst=HOST, src=PROVIDER) / IPv6(src="fd00:99::2", dst="fd00:99::10", hlim=64) / vxlan(6001)
    assert verdict.frame == bytes(outer / Ether(dst="10:10:10:10:11:05", src=ROUTER) / reply)


def test_corpnet_may_ping_the_gateway_on_either_side() -> None:
    for address in ("157.1.0.254", "10.1.6.254"):
        request = IP(src="157.1.0.9", dst=address) / ICMP(id=1)
        frame = sent(make_world().process("x0", external(request)))
        assert (frame.dst, frame.src, frame[IP].src, frame[ICMP].type) == (NEIGHBOUR, CORPNET, address, 0)


def test_an_answer_leaves_in_the_vlan_that_the_question_came_in() -> None:
    request = IP(src="157.1.0.9", dst="157.1.0.254") / ICMP(id=1)
    assert sent(make_world().process("x0", external(request, vlan=10)))[Dot1Q].vlan == 10


@pytest.mark.parametrize("size", [0, 1, 30, 100, 101, 400])
def test_time_exceeded_quotes_the_packet_as_it_came(size: int) -> None:
    packet = IP(src="10.1.1.11", dst="157.1.0.9", ttl=1, tos=1) / UDP(sport=5, dport=6) / Raw(b"q" * size)
    verdict = from_vm(packet, tos=3)
    answer = inner(verdict)
    assert (answer.src, answer.dst, answer.ttl, answer.tos, answer.id, answer.flags) == (
        "10.1.1.1", "10.1.1.11", 64, 0, 0, "DF",
    )  # fmt: skip
    assert (answer[ICMP].type, answer[ICMP].code) == (11, 0)
    quote = bytes(packet)[: min(len(packet), 128) & ~3]
    assert bytes(answer[ICMP])[8:] == quote


def test_an_ipv6_hop_limit_used_up_is_told_from_the_vsids_router_address() -> None:
    packet = IPv6(src="fd00:1::11", dst="fd00:157::9", hlim=1) / UDP(sport=5, dport=6) / Raw(b"q" * 200)
    answer = inner(from_vm(packet))
    assert (answer.src, answer.dst, answer.hlim) == ("fd00:1::1", "fd00:1::11", 64)
    assert (answer[ICMPv6TimeExceeded].code, bytes(answer[ICMPv6TimeExceeded])[8:]) == (0, bytes(packet)[:128])


@pytest.mark.parametrize(
    ("destination", "reason", "code", "code6"),
    [("8.8.8.8", "no_route", 0, None), ("10.1.6.200", "no_record", 1, None), ("2001:db8::1", "no_route", None, 0),
     ("fd00:1::99", "no_record", None, 3)],
)  # fmt: skip
def test_unreachable_destinations_are_told(destination: str, reason: str, code: int | None, code6: int | None) -> None:
    packet = IP(src="10.1.1.11", dst=destination) if code6 is None else IPv6(src="fd00:1::11", dst=destination)
    verdict = from_vm(packet / TCP())
    answer = inner(verdict)
    assert verdict.reason == reason
    if code6 is None:
        assert (answer[ICMP].type, answer[ICMP].code) == (3, code)
    else:
        assert answer[ICMPv6DestUnreach].code == code6


def test_udp_to_the_router_is_told_port_unreachable_and_tcp_nothing() -> None:
    udp = from_vm(IP(src="10.1.1.11", dst="10.1.1.1") / UDP(sport=5, dport=33434))
    assert (udp.reason, inner(udp)[ICMP].type, inner(udp)[ICMP].code) == ("local_not_served", 3, 3)
    udp6 = from_vm(IPv6(src="fd00:1::11", dst="fd00:1::1") / UDP(sport=5, dport=33434))
    assert inner(udp6)[ICMPv6DestUnreach].code == 4
    assert from_vm(IP(src="10.1.1.11", dst="10.1.1.1") / TCP()).frame is None


@pytest.mark.parametrize(("encapsulation", "limit"), [("10.1.1.11", 1600 - 42), ("10.1.6.21", 1600 - 50),
                                                      ("10.1.6.22", 1600 - 70), ("10.1.6.23", 1600 - 62)])  # fmt: skip
def test_too_big_names_the_mtu_that_the_tunnel_leaves(encapsulation: str, limit: int) -> None:
    world = make_world()
    whole = IP(src="157.1.0.9", dst=encapsulation) / UDP() / Raw(bytes(limit - 28))
    assert world.process("x0", external(whole)).action == "forwarded"
    longer = IP(src="157.1.0.9", dst=encapsulation) / UDP() / Raw(bytes(limit - 27))
    verdict = world.process("x0", external(longer))
    frame = sent(verdict)
    assert verdict.reason == "too_big"
    assert (frame[ICMP].type, frame[ICMP].code, frame[ICMP].nexthopmtu) == (3, 4, limit)
    assert (frame[IP].src, frame[IP].dst) == ("157.1.0.254", "157.1.0.9")


def test_ipv6_packet_too_big_names_the_mtu() -> None:
    packet = IPv6(src="fd00:157::9", dst="fd00:6::21") / UDP() / Raw(bytes(1600))
    frame = sent(make_world().process("x0", external(packet)))
    assert (frame[ICMPv6PacketTooBig].code, frame[ICMPv6PacketTooBig].mtu) == (0, 1550)
    assert frame[IPv6].src == "fd00:157::fe"


def test_too_big_for_corpnet_names_its_mtu() -> None:
    packet = IP(src="10.1.1.11", dst="157.1.0.9", flags=0) / UDP() / Raw(bytes(1480))
    verdict = from_vm(packet)
    assert (verdict.reason, inner(verdict)[ICMP].nexthopmtu) == ("too_big", 1500)


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_nobody_is_told_about_an_icmp_error(kind: int) -> None:
    packet = IP(src="10.1.1.11", dst="8.8.8.8") / ICMP(type=kind) / IPerror() / Raw(bytes(8))
    verdict = from_vm(packet)
    assert (verdict.reason, verdict.frame) == ("no_route", None)


def test_nobody_is_told_about_an_icmpv6_error_or_a_later_fragment() -> None:
    error = IPv6(src="fd00:1::11", dst="2001:db8::1") / ICMPv6DestUnreach() / Raw(bytes(48))
    later = IPv6(src="fd00:1::11", dst="2001:db8::1") / IPv6ExtHdrFragment(offset=5, nh=17) / Raw(bytes(8))
    later4 = IP(src="10.1.1.11", dst="8.8.8.8", frag=5, proto=17) / Raw(bytes(8))
    for packet in (error, later, later4):
        verdict = from_vm(packet)
        assert (verdict.reason, verdict.frame) == ("no_route", None)


def test_somebody_is_told_about_a_first_fragment() -> None:
    first = IP(src="10.1.1.11", dst="8.8.8.8", flags="MF") / UDP() / Raw(bytes(8))
    assert from_vm(first).frame is not None


def test_a_fragmented_ping_of_the_router_is_not_answered() -> None:
    first = IP(src="10.1.1.11", dst="10.1.1.1", flags="MF") / ICMP() / Raw(bytes(8))
    assert from_vm(first).reason == "local_not_served"


def test_without_an_address_of_the_family_nobody_is_told() -> None:
    subnets = (BLUE_DOMAIN.virtual_subnets[0].__class__(6001, ("10.1.1.0/24",)), *BLUE_DOMAIN.virtual_subnets[1:])
    records = tuple(one for one in BLUE_DOMAIN.lookup_records if one.customer_address != "fd00:1::11")
    world = make_world(changed(virtual_subnets=subnets, lookup_records=records))
    verdict = world.process("p0", tunnelled(IPv6(src="fd00:1::11", dst="2001:db8::1") / UDP()))
    assert (verdict.reason, verdict.frame) == ("no_route", None)


def test_answers_are_limited_by_domain_and_come_back_with_time() -> None:
    world = make_world()
    ping = tunnelled(IP(src="10.1.1.11", dst="10.1.1.1") / ICMP())
    red_ping = tunnelled(IP(src="10.1.1.11", dst="10.1.1.1") / ICMP(), 5001, "192.168.3.30")
    lost = tunnelled(IP(src="10.1.1.11", dst="8.8.8.8") / UDP())
    assert [world.process("p0", ping).action for _ in range(1000)] == ["answered"] * 1000
    assert world.process("p0", ping).reason == "answer_limited"
    assert (world.process("p0", lost).reason, world.process("p0", lost).frame) == ("no_route", None)
    assert world.process("p0", red_ping).action == "answered"
    world.clock = lambda: 1000.0055
    assert [world.process("p0", ping).action for _ in range(7)] == ["answered"] * 5 + ["dropped"] * 2
