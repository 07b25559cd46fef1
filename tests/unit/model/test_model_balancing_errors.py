"""ICMP errors about translated packets."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6
from scapy.packet import Packet, Raw

from gateway.datapath.model.checksum import checksum
from gateway.policy.model import AccessControlList, AccessRule, AppliesTo
from tests.unit.model.services import (
    CLIENT,
    CLIENT6,
    FAR,
    OWN,
    OWNER,
    TIER,
    VIP,
    VIP6,
    VM2,
    VM3,
    VM6,
    Balancing,
    ends,
    inner,
    inside,
    outside,
    tcp,
    udp,
    with_blue,
    with_rule,
)

ROUTER_OUTSIDE = "203.0.113.1"


def quoting(packet: Packet, length: int | None = 28) -> bytes:
    """What an ICMP error has of the packet: its IPv4 header and eight bytes, unless all of it (None)."""
    return bytes(packet)[:length]


def unreachable(source: str, destination: str, quote: bytes, code: int = 1) -> Packet:
    return IP(src=source, dst=destination) / ICMP(type=3, code=code) / Raw(quote)


def quoted(error: Packet) -> tuple[str, int, str, int]:
    """Ends of the packet that the (inner) error quotes, whose header's checksum must be right."""
    data = bytes(inner(error)[ICMP].payload)
    assert checksum(data[:20]) == 0
    packet = IP(data[:20])
    return packet.src, int.from_bytes(data[20:22]), packet.dst, int.from_bytes(data[22:24])


def assert_icmp_checksum(error: Packet) -> None:
    assert checksum(bytes(inner(error).payload)) == 0


def test_an_error_about_an_answer_reaches_the_machine_that_gave_it(gateway: Balancing) -> None:
    gateway.hold()
    gateway.forwards(*outside(udp(CLIENT, 4000, VIP, 53)))
    answer = quoting(udp(VIP, 53, CLIENT, 4000))
    error = gateway.forwards(*outside(unreachable(ROUTER_OUTSIDE, VIP, answer)))
    assert (inner(error).src, inner(error).dst) == (ROUTER_OUTSIDE, VM2)
    assert quoted(error) == (VM2, 5353, CLIENT, 4000)
    assert_icmp_checksum(error)


@pytest.mark.parametrize("length", [28, None], ids=["eight bytes", "whole"])
def test_the_path_mtu_of_a_client_is_learned_by_the_machine(gateway: Balancing, length: int | None) -> None:
    gateway.hold(with_rule("www", backend_port=8080))
    gateway.forwards(*outside(tcp(CLIENT, 4000, VIP, 80)))
    answer = IP(src=VIP, dst=CLIENT) / TCP(sport=80, dport=4000, flags="A") / bytes(20)
    told = IP(src=ROUTER_OUTSIDE, dst=VIP) / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(quoting(answer, length))
    error = gateway.forwards(*outside(told))
    assert (inner(error).dst, inner(error)[ICMP].nexthopmtu) == (VM2, 1400)
    assert quoted(error) == (VM2, 8080, CLIENT, 4000)
    assert_icmp_checksum(error)


def test_the_quoted_checksums_follow_where_they_are_there(gateway: Balancing) -> None:
    gateway.hold()
    gateway.forwards(*outside(udp(CLIENT, 4000, VIP, 53)))
    gateway.forwards(*outside(tcp(CLIENT, 4000, VIP, 8000)))
    member = inner(gateway.forwards(*outside(tcp(CLIENT, 4000, VIP, 8000)))).dst
    for answer, source, port in ((udp(VIP, 53, CLIENT, 4000), VM2, 5353), (tcp(VIP, 8000, CLIENT, 4000), member, 8080)):
        error = gateway.forwards(*outside(unreachable(ROUTER_OUTSIDE, VIP, quoting(answer, None))))
        data = bytes(inner(error)[ICMP].payload)
        wanted = answer.copy()
        wanted.src, wanted.payload.sport = source, port
        assert data == bytes(wanted)


def test_a_quoted_udp_checksum_of_zero_stays(gateway: Balancing) -> None:
    gateway.hold()
    gateway.forwards(*outside(udp(CLIENT, 4000, VIP, 53)))
    answer = quoting(udp(VIP, 53, CLIENT, 4000, chksum=0))
    error = gateway.forwards(*outside(unreachable(ROUTER_OUTSIDE, VIP, answer)))
    assert bytes(inner(error)[ICMP].payload)[26:28] == b"\0\0"
    assert_icmp_checksum(error)


def test_an_error_of_a_machine_about_a_question_comes_from_the_frontend(gateway: Balancing) -> None:
    gateway.hold()
    gateway.forwards(*outside(udp(CLIENT, 4000, VIP, 53)))
    question = quoting(udp(CLIENT, 4000, VM2, 5353))
    error = gateway.forwards(*inside(unreachable(VM2, CLIENT, question, code=3)))
    assert (error[IP].src, error[IP].dst) == (VIP, CLIENT)
    assert quoted(error) == (CLIENT, 4000, VIP, 53)
    assert_icmp_checksum(error)


def test_nobody_outside_is_told_of_a_router_inside(gateway: Balancing) -> None:
    gateway.hold()
    gateway.forwards(*outside(udp(CLIENT, 4000, VIP, 53)))
    question = quoting(udp(CLIENT, 4000, VM2, 5353))
    assert gateway.forwards(*inside(unreachable(VM3, CLIENT, question)))[IP].src == VIP


def test_an_error_about_an_internal_connection_keeps_its_source_unless_it_is_the_machine(gateway: Balancing) -> None:
    gateway.hold()
    gateway.forwards(*inside(tcp(FAR, 4000, TIER, 81)))
    question = quoting(tcp(FAR, 4000, VM2, 8081))
    for source, told_by in ((VM2, TIER), (VM3, VM3)):
        error = gateway.forwards(*inside(unreachable(source, FAR, question)))
        assert inner(error).src == told_by
        assert quoted(error) == (FAR, 4000, TIER, 81)


def test_an_error_about_a_question_with_a_given_port_reaches_the_client(gateway: Balancing) -> None:
    gateway.hold()
    nat_port = ends(gateway.forwards(*inside(tcp(VM3, 4000, TIER, 81))))[1]
    question = quoting(tcp(TIER, nat_port, VM2, 8081))
    error = gateway.forwards(*inside(unreachable(VM2, TIER, question)))
    assert (inner(error).src, inner(error).dst) == (TIER, VM3)
    assert quoted(error) == (VM3, 4000, TIER, 81)
    assert_icmp_checksum(error)


def test_an_error_about_an_answer_to_a_given_port_reaches_the_machine(gateway: Balancing) -> None:
    gateway.hold()
    nat_port = ends(gateway.forwards(*inside(tcp(VM3, 4000, TIER, 81))))[1]
    answer = quoting(tcp(TIER, 81, VM3, 4000))
    error = gateway.forwards(*inside(unreachable(VM3, TIER, answer)))
    assert (inner(error).src, inner(error).dst) == (VM3, VM2)
    assert quoted(error) == (VM2, 8081, TIER, nat_port)


@pytest.mark.parametrize("transport", ["tcp", "udp", "echo"])
def test_an_error_about_what_left_outbound_reaches_the_machine(gateway: Balancing, transport: str) -> None:
    gateway.hold()
    packets = {
        "tcp": tcp(FAR, 4000, CLIENT, 443),
        "udp": udp(FAR, 4000, CLIENT, 443),
        "echo": IP(src=FAR, dst=CLIENT) / ICMP(id=7) / b"payload",
    }
    left = gateway.forwards(*inside(packets[transport]))
    error = gateway.forwards(*outside(unreachable(ROUTER_OUTSIDE, VIP, quoting(left[IP], None))))
    assert inner(error).dst == FAR
    wanted = packets[transport].copy()
    wanted.ttl = 63
    assert bytes(inner(error)[ICMP].payload) == bytes(wanted)
    assert_icmp_checksum(error)


def test_an_error_of_a_machine_about_an_answer_from_outside_comes_from_its_frontend(gateway: Balancing) -> None:
    gateway.hold()
    nat_port = ends(gateway.forwards(*inside(udp(FAR, 4000, CLIENT, 443))))[1]
    other_port = ends(gateway.forwards(*inside(udp(FAR, 4000, CLIENT, 444))))[1]
    for port, given in ((443, nat_port), (444, other_port)):
        answer = quoting(udp(CLIENT, port, FAR, 4000))
        error = gateway.forwards(*inside(unreachable(FAR, CLIENT, answer, code=3)))
        assert (error[IP].src, quoted(error)) == (VIP, (CLIENT, port, VIP, given))
    other = quoting(udp(CLIENT, 445, FAR, 4000))
    assert gateway.drops(*inside(unreachable(FAR, CLIENT, other, code=3))) == "no_route"


def test_errors_to_and_from_a_machine_with_a_public_address_are_translated_inside(gateway: Balancing) -> None:
    gateway.hold()
    error = gateway.forwards(*outside(unreachable(ROUTER_OUTSIDE, OWN, quoting(udp(OWN, 53, CLIENT, 4000)))))
    assert (inner(error).dst, quoted(error)) == (OWNER, (OWNER, 53, CLIENT, 4000))
    error = gateway.forwards(*inside(unreachable(OWNER, CLIENT, quoting(udp(CLIENT, 4000, OWNER, 53)))))
    assert (error[IP].src, quoted(error)) == (OWN, (CLIENT, 4000, OWN, 53))
    assert_icmp_checksum(error)


def test_an_error_about_no_connection_is_not_served(gateway: Balancing) -> None:
    gateway.hold()
    gateway.forwards(*outside(udp(CLIENT, 4000, VIP, 53)))
    for quote in (
        quoting(udp(VIP, 53, CLIENT, 4001)),
        quoting(udp(VIP, 54, CLIENT, 4000)),
        quoting(udp(VM2, 53, CLIENT, 4000)),
        quoting(udp(VIP, 53, CLIENT, 4000), 27),
        quoting(IP(src=VIP, dst=CLIENT, frag=3, proto=17) / Raw(bytes(8))),
    ):
        assert gateway.drops(*outside(unreachable(ROUTER_OUTSIDE, VIP, quote))) == "vip_not_served"


def test_an_error_of_floating_ip_reaches_the_machine_as_it_is(gateway: Balancing) -> None:
    gateway.hold(with_rule("www", floating_ip=True))
    gateway.forwards(*outside(tcp(CLIENT, 4000, VIP, 80)))
    answer = quoting(tcp(VIP, 80, CLIENT, 4000))
    error = gateway.forwards(*outside(unreachable(ROUTER_OUTSIDE, VIP, answer)))
    assert (inner(error).dst, quoted(error)) == (VIP, (VIP, 80, CLIENT, 4000))
    assert error.getlayer("Ether", 2).dst == "10:10:10:10:16:21"


def test_errors_over_ipv6_are_translated_both_ways(gateway: Balancing) -> None:
    gateway.hold()
    gateway.forwards(*outside(udp(CLIENT6, 4000, VIP6, 53)))
    answer = bytes(udp(VIP6, 53, CLIENT6, 4000))[:48]
    too_big = IPv6(src="2001:db8:7::1", dst=VIP6) / ICMPv6PacketTooBig(mtu=1400) / Raw(answer)
    error = gateway.forwards(*outside(too_big))
    data = bytes(inner(error)[ICMPv6PacketTooBig].payload)
    assert inner(error).dst == VM6
    assert (IPv6(data[:40]).src, int.from_bytes(data[40:42])) == (VM6, 5353)
    question = bytes(udp(CLIENT6, 4000, VM6, 5353))[:48]
    refusal = IPv6(src=VM6, dst=CLIENT6) / ICMPv6DestUnreach(code=4) / Raw(question)
    error = gateway.forwards(*inside(refusal))
    data = bytes(error[ICMPv6DestUnreach].payload)
    assert error[IPv6].src == VIP6
    assert (IPv6(data[:40]).dst, int.from_bytes(data[42:44])) == (VIP6, 53)


def test_errors_pass_access_lists_by_the_connection_that_the_machine_knows(gateway: Balancing) -> None:
    dns = AccessRule(10, "inbound", "allow", "udp", destination_prefix=f"{VM2}/32", destination_ports="5353")
    gateway.hold(
        with_blue(access_control_lists=(AccessControlList("dns", (AppliesTo(6002),), "deny", "deny", (dns,)),))
    )
    gateway.forwards(*outside(udp(CLIENT, 4000, VIP, 53)))
    gateway.forwards(*outside(unreachable(ROUTER_OUTSIDE, VIP, quoting(udp(VIP, 53, CLIENT, 4000)))))
    gateway.forwards(*inside(unreachable(VM2, CLIENT, quoting(udp(CLIENT, 4000, VM2, 5353)))))
    assert gateway.drops(*inside(unreachable(VM2, CLIENT, quoting(udp(CLIENT, 4001, VM2, 5353))))) == "no_route"
