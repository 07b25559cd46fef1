"""Translated packets that come in fragments: all of one go one way, or none."""

from dataclasses import replace
from typing import Any

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

from gateway.policy.model import AccessControlList, AccessRule, AppliesTo, Policy, PoolMember
from tests.unit.model.services import (
    BALANCER,
    CLIENT,
    CLIENT6,
    FAR,
    TIER,
    VIP,
    VIP6,
    VM1,
    VM2,
    VM3,
    VM6,
    Balancing,
    inner,
    inside,
    outside,
    udp,
    with_balancer,
    with_blue,
)


def in_fragments(packet: Packet, identification: int) -> tuple[Packet, Packet]:
    """The packet with 48 bytes behind its UDP header, in two fragments."""
    header, datagram = packet.copy(), bytes(packet.payload)
    header.remove_payload()
    first, later = header.copy(), header
    first.flags, first.id, first.proto = "MF", identification, 17
    later.frag, later.id, later.proto = 4, identification, 17
    return first / Raw(datagram[:32]), later / Raw(datagram[32:])


def datagram(source: str, source_port: int, destination: str, port: int) -> Packet:
    return IP(src=source, dst=destination) / UDP(sport=source_port, dport=port) / bytes(range(48))


def rejoined(first: Packet, later: Packet) -> Packet:
    one, other = inner(first), inner(later)
    whole = IP(src=one.src, dst=one.dst, proto=17) / Raw(bytes(one.payload) + bytes(other.payload))
    assert (one.src, one.dst, one.id) == (other.src, other.dst, other.id)
    return IP(bytes(whole))


def test_fragments_of_a_packet_go_to_one_machine_and_back(gateway: Balancing) -> None:
    gateway.hold()
    first, later = in_fragments(datagram(CLIENT, 4000, VIP, 53), 7)
    assert gateway.drops(*outside(later)) == "fragment_unmatched"
    whole = rejoined(gateway.forwards(*outside(first)), gateway.forwards(*outside(later)))
    assert bytes(whole.payload) == bytes(IP(bytes(datagram(CLIENT, 4000, VM2, 5353))).payload)
    assert gateway.drops(*outside(in_fragments(datagram(CLIENT, 4000, VIP, 53), 8)[1])) == "fragment_unmatched"
    first, later = in_fragments(datagram(VM2, 5353, CLIENT, 4000), 9)
    whole = rejoined(gateway.forwards(*inside(first)), gateway.forwards(*inside(later)))
    assert bytes(whole.payload) == bytes(IP(bytes(datagram(VIP, 53, CLIENT, 4000))).payload)


def test_fragments_that_leave_outbound_follow_their_first(gateway: Balancing) -> None:
    gateway.hold()
    first, later = in_fragments(datagram(FAR, 4000, CLIENT, 443), 7)
    assert gateway.drops(*inside(later)) == "fragment_unmatched"
    left = gateway.forwards(*inside(first))
    whole = rejoined(left, gateway.forwards(*inside(later)))
    assert (whole.src, whole.dst) == (VIP, CLIENT)
    nat_port = left[UDP].sport
    assert bytes(whole.payload) == bytes(IP(bytes(datagram(VIP, nat_port, CLIENT, 443))).payload)


def test_fragments_over_ipv6_follow_their_first(gateway: Balancing) -> None:
    gateway.hold()
    header = IPv6(src=CLIENT6, dst=VIP6)
    whole = bytes(header / UDP(sport=4000, dport=53) / bytes(48))[40:]
    first = header / IPv6ExtHdrFragment(m=1, id=70000, nh=17) / Raw(whole[:32])
    later = header / IPv6ExtHdrFragment(offset=4, id=70000, nh=17) / Raw(whole[32:])
    assert gateway.drops(*outside(later)) == "fragment_unmatched"
    gateway.forwards(*outside(first))
    assert inner(gateway.forwards(*outside(later))).dst == VM6


def test_fragments_pass_access_lists_with_their_first(gateway: Balancing) -> None:
    dns = AccessRule(10, "inbound", "allow", "udp", destination_prefix=f"{VM2}/32", destination_ports="5353")
    gateway.hold(with_blue(access_control_lists=(AccessControlList("dns", (AppliesTo(6002),), "deny", rules=(dns,)),)))
    first, later = in_fragments(datagram(CLIENT, 4000, VIP, 53), 7)
    gateway.forwards(*outside(first))
    gateway.forwards(*outside(later))


def without_vm2(**fields: Any) -> Policy:
    """VM2 is in no pool."""
    pools = {"all": (VM1, VM3), "one": (VM3,)}
    changed = tuple(
        replace(pool, members=tuple(map(PoolMember, pools[pool.name]))) if pool.name in pools else pool
        for pool in BALANCER.backend_pools
    )
    return with_balancer(backend_pools=changed, **fields)


def answer_begun(gateway: Balancing) -> Packet:
    """The first fragment of an answer has left as the frontend's; the other one."""
    gateway.forwards(*inside(udp(FAR, 4000, TIER, 53)))
    first, later = in_fragments(datagram(VM2, 5353, FAR, 4000), 7)
    assert inner(gateway.forwards(*inside(first))).src == TIER
    return later


def test_the_rest_of_an_answer_leaves_as_its_first_did_though_its_machine_is_in_no_pool_any_more(
    gateway: Balancing,
) -> None:
    gateway.hold()
    later = answer_begun(gateway)
    gateway.change(without_vm2())
    assert inner(gateway.forwards(*inside(later))).src == TIER


def test_the_rest_of_an_answer_does_not_leave_where_the_rule_is_gone(gateway: Balancing) -> None:
    gateway.hold()
    later = answer_begun(gateway)
    gateway.change(without_vm2(rules=tuple(rule for rule in BALANCER.rules if rule.name != "tier-udp")))
    assert gateway.drops(*inside(later)) == "fragment_unmatched"


def test_the_rest_of_a_question_does_not_reach_a_machine_that_left_the_pool(gateway: Balancing) -> None:
    gateway.hold()
    first, later = in_fragments(datagram(CLIENT, 4000, VIP, 53), 7)
    assert inner(gateway.forwards(*outside(first))).dst == VM2
    gateway.change(without_vm2())
    assert gateway.drops(*outside(later)) == "fragment_unmatched"


def test_the_rest_of_a_packet_does_not_leave_where_outbound_nat_is_gone(gateway: Balancing) -> None:
    gateway.hold()
    first, later = in_fragments(datagram(FAR, 4000, CLIENT, 443), 7)
    gateway.forwards(*inside(first))
    gateway.change(with_balancer(outbound_nat=()))
    assert gateway.drops(*inside(later)) == "fragment_unmatched"


def test_fragments_between_machines_are_routed_as_they_are(gateway: Balancing) -> None:
    gateway.hold()
    first, later = in_fragments(datagram(FAR, 4000, VM3, 53), 7)
    for one in (later, first, later):
        assert (inner(gateway.forwards(*inside(one))).src, inner(gateway.forwards(*inside(one))).dst) == (FAR, VM3)
