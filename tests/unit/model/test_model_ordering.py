"""Fragments that overtake their first one: to the compartment that puts them in order, and back."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from gateway.policy.model import AccessControlList, AccessRule, AppliesTo
from tests.unit.model.services import (
    CLIENT,
    CLIENT6,
    FAR,
    FRAGMENTS_LEGS,
    OTHER_VIP,
    OWN,
    OWNER,
    TIER,
    VIP,
    VIP6,
    VM1,
    VM2,
    VM3,
    VM6,
    Balancing,
    for_fragments,
    inner,
    inside,
    inside_red,
    outside,
    with_blue,
)
from tests.unit.model.support import BLUE, NEIGHBOUR, RED, ROUTER, external
from tests.unit.model.test_model_balancing_fragments import datagram, in_fragments, rejoined

QUESTION = datagram(CLIENT, 4000, VIP, 53)


def hold(gateway: Balancing, **fields: object) -> None:
    gateway.hold(with_blue(**fields), compartments=for_fragments(FRAGMENTS_LEGS))


def returned(packet: Packet, rdid: str = BLUE) -> tuple[str, bytes]:
    """As Linux in the compartment gives a fragment back: a hop further."""
    leg, one = FRAGMENTS_LEGS[rdid], packet.copy()
    if isinstance(one, IP):
        one.ttl -= 1
        del one.chksum
    else:
        one.hlim -= 1
    return leg.interface, bytes(Ether(dst=ROUTER, src=leg.mac.replace("-", ":")) / one)


def fragments6(source: str, source_port: int, destination: str, port: int, number: int) -> tuple[Packet, Packet]:
    header = IPv6(src=source, dst=destination)
    whole = bytes(header / UDP(sport=source_port, dport=port) / bytes(48))[40:]
    first = header / IPv6ExtHdrFragment(m=1, id=number, nh=17) / Raw(whole[:32])
    return first, header / IPv6ExtHdrFragment(offset=4, id=number, nh=17) / Raw(whole[32:])


def assert_goes_there(gateway: Balancing, sent: tuple[str, bytes], packet: Packet, rdid: str = BLUE) -> None:
    interface, frame = gateway.orders(*sent)
    leg = FRAGMENTS_LEGS[rdid]
    assert interface == leg.interface
    assert (frame.dst, frame.src) == (leg.mac.replace("-", ":").lower(), ROUTER)
    assert bytes(frame.payload) == bytes(packet)


def test_a_question_in_reverse_order_reaches_its_machine_by_the_compartment(gateway: Balancing) -> None:
    hold(gateway)
    first, later = in_fragments(QUESTION, 7)
    assert_goes_there(gateway, outside(later), later)
    assert_goes_there(gateway, outside(first), first)
    came = [gateway.forwards(*returned(one)) for one in (first, later)]
    whole = rejoined(*came)
    assert bytes(whole.payload) == bytes(IP(bytes(datagram(CLIENT, 4000, VM2, 5353))).payload)
    assert {inner(one).ttl for one in came} == {63}
    answer = gateway.forwards(*inside(datagram(VM2, 5353, CLIENT, 4000)))
    assert (answer[IP].src, answer[UDP].sport) == (VIP, 53)


def test_over_ipv6_linux_gives_the_fragments_another_number(gateway: Balancing) -> None:
    hold(gateway)
    first, later = fragments6(CLIENT6, 4000, VIP6, 53, 70000)
    assert_goes_there(gateway, outside(later), later)
    assert_goes_there(gateway, outside(first), first)
    first, later = fragments6(CLIENT6, 4000, VIP6, 53, 990001)
    came = [gateway.forwards(*returned(one)) for one in (first, later)]
    assert [(inner(one).dst, inner(one).hlim) for one in came] == [(VM6, 63)] * 2


def test_an_answer_in_reverse_order_does_not_leave_untranslated(gateway: Balancing) -> None:
    hold(gateway)
    gateway.forwards(*outside(datagram(CLIENT, 4000, VIP, 53)))
    first, later = in_fragments(datagram(VM2, 5353, CLIENT, 4000), 9)
    assert_goes_there(gateway, inside(later), later)
    assert_goes_there(gateway, inside(first), first)
    whole = rejoined(gateway.forwards(*returned(first)), gateway.forwards(*returned(later)))
    assert bytes(whole.payload) == bytes(IP(bytes(datagram(VIP, 53, CLIENT, 4000))).payload)


def test_a_question_inside_and_its_answer_are_the_ones_of_their_virtual_subnet(gateway: Balancing) -> None:
    """Within one virtual subnet the client's port is exchanged, as for datagrams that arrive in order."""
    hold(gateway)
    first, later = in_fragments(datagram(VM3, 4000, TIER, 53), 7)
    assert_goes_there(gateway, inside(later), later)
    assert_goes_there(gateway, inside(first), first)
    came = gateway.forwards(*returned(first))
    assert (inner(came).src, inner(came).dst) == (TIER, VM2)
    given = inner(came)[UDP].sport
    assert inner(gateway.forwards(*returned(later))).src == TIER
    first, later = in_fragments(datagram(VM2, 5353, TIER, given), 8)
    assert_goes_there(gateway, inside(later), later)
    assert_goes_there(gateway, inside(first), first)
    whole = rejoined(gateway.forwards(*returned(first)), gateway.forwards(*returned(later)))
    assert bytes(whole.payload) == bytes(IP(bytes(datagram(TIER, 53, VM3, 4000))).payload)


def test_equal_addresses_of_two_tenants_do_not_meet(gateway: Balancing) -> None:
    hold(gateway)
    _, later = in_fragments(datagram(VM1, 4000, TIER, 81), 7)
    assert_goes_there(gateway, inside_red(later), later, RED)
    assert_goes_there(gateway, inside(later), later, BLUE)
    _, later = in_fragments(datagram(CLIENT, 4000, OTHER_VIP, 80), 7)
    assert_goes_there(gateway, outside(later), later, RED)


def test_what_one_tenants_compartment_gives_back_reaches_no_other(gateway: Balancing) -> None:
    hold(gateway)
    first, later = in_fragments(QUESTION, 7)
    gateway.orders(*outside(later))
    assert gateway.drops(*returned(first, RED)) == "fragment_unmatched"
    first, later = in_fragments(datagram(VM3, 4000, TIER, 53), 7)
    gateway.orders(*inside(later))
    assert gateway.drops(*returned(first, RED)) == "fragment_unmatched"


def test_nothing_but_fragments_that_went_there_comes_back(gateway: Balancing) -> None:
    hold(gateway)
    first, later = in_fragments(QUESTION, 7)
    assert gateway.drops(*returned(first)) == "fragment_unmatched"
    gateway.orders(*outside(later))
    assert gateway.drops(*returned(QUESTION)) == "fragment_unmatched"
    arp = bytes(Ether(dst=ROUTER, src=NEIGHBOUR, type=0x806)) + bytes(28)
    assert gateway.drops(FRAGMENTS_LEGS[BLUE].interface, arp) == "fragment_unmatched"


def test_a_fragment_does_not_go_round(gateway: Balancing) -> None:
    hold(gateway)
    _, later = in_fragments(QUESTION, 7)
    gateway.orders(*outside(later))
    assert gateway.drops(*returned(later)) == "fragment_unmatched"


def test_fragments_that_came_in_order_do_not_go_there(gateway: Balancing) -> None:
    hold(gateway)
    for number in (7, 8):
        first, later = in_fragments(QUESTION, number)
        gateway.forwards(*outside(first))
        gateway.forwards(*outside(later))


WAYS = {
    "to a member": (outside, QUESTION),
    "from a member": (inside, datagram(VM2, 5353, CLIENT, 4000)),
    "outbound": (inside, datagram(FAR, 4000, CLIENT, 443)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("arrival", ["in order", "in reverse order"])
def test_a_packet_with_the_number_of_an_earlier_one_meets_itself_in_the_compartment(
    gateway: Balancing, way: str, arrival: str
) -> None:
    """Else its later fragments would follow the earlier packet, and its first one wait for them in vain."""
    hold(gateway)
    gateway.forwards(*outside(QUESTION))
    sent, packet = WAYS[way]
    first, later = in_fragments(packet, 7)
    gateway.forwards(*sent(first))
    gateway.forwards(*sent(later))
    gateway.orders(*sent(in_fragments(packet, 8)[1]))
    for one in (first, later) if arrival == "in order" else (later, first):
        gateway.orders(*sent(one))


def test_what_is_left_of_a_refused_packet_does_not_follow_an_earlier_one_with_its_number(gateway: Balancing) -> None:
    hold(gateway)
    for one in in_fragments(QUESTION, 7):
        gateway.forwards(*outside(one))
    gateway.orders(*outside(in_fragments(QUESTION, 8)[1]))
    first, later = in_fragments(datagram(CLIENT, 4000, VIP, 54), 7)
    gateway.orders(*outside(first))
    gateway.orders(*outside(later))
    assert gateway.drops(*returned(first)) == "vip_not_served"
    assert gateway.drops(*returned(later)) == "fragment_unmatched"


def test_what_a_member_sends_for_itself_goes_its_ordinary_way(gateway: Balancing) -> None:
    hold(gateway)
    first, later = in_fragments(datagram(VM2, 900, "157.1.0.9", 2049), 7)
    assert gateway.forwards(*inside(first))[IP].src == VM2
    assert gateway.forwards(*inside(later))[IP].src == VM2
    first, later = in_fragments(datagram(VM2, 900, "157.1.0.9", 2049), 8)
    assert_goes_there(gateway, inside(later), later)
    assert_goes_there(gateway, inside(first), first)
    whole = rejoined(gateway.forwards(*returned(first)), gateway.forwards(*returned(later)))
    assert whole.src == VM2


def test_other_machines_and_public_addresses_of_their_own_need_no_order(gateway: Balancing) -> None:
    hold(gateway)
    assert inner(gateway.forwards(*outside(IP(src=CLIENT, dst=OWN, frag=4, proto=17) / bytes(16)))).dst == OWNER
    assert gateway.forwards(*inside(IP(src=OWNER, dst=CLIENT, frag=4, proto=17) / bytes(16)))[IP].src == OWN
    gateway.forwards(*inside(IP(src=FAR, dst="157.1.0.9", frag=4, proto=1) / bytes(16)))


@pytest.mark.parametrize("protocol", ["udp", "icmp"])
def test_outbound_fragments_are_put_in_order_too(gateway: Balancing, protocol: str) -> None:
    hold(gateway)
    packet = datagram(FAR, 4000, CLIENT, 443)
    if protocol == "icmp":
        packet = IP(src=FAR, dst=CLIENT) / ICMP(type=8, id=4000, seq=1) / bytes(range(48))
    first, later = in_fragments(packet, 7)
    for one in (first, later):
        one.proto = packet.proto
    assert_goes_there(gateway, inside(later), later)
    assert_goes_there(gateway, inside(first), first)
    left, rest = (gateway.forwards(*returned(one)) for one in (first, later))
    whole = IP(
        bytes(IP(src=VIP, dst=CLIENT, proto=packet.proto) / Raw(bytes(left[IP].payload) + bytes(rest[IP].payload)))
    )
    assert (left[IP].src, rest[IP].src) == (VIP, VIP)
    wanted = whole.copy()
    del wanted.payload.chksum
    assert bytes(wanted) == bytes(whole)


def test_a_large_echo_comes_back_to_who_asked(gateway: Balancing) -> None:
    hold(gateway)
    asked = IP(src=FAR, dst=CLIENT) / ICMP(type=8, id=4000, seq=1) / bytes(range(48))
    first, later = in_fragments(asked, 7)
    first.proto = later.proto = 1
    left = gateway.forwards(*inside(first))
    gateway.forwards(*inside(later))
    given = int.from_bytes(bytes(left[IP].payload)[4:6])
    answer = IP(src=CLIENT, dst=VIP) / ICMP(type=0, id=given, seq=1) / bytes(range(48))
    first, later = in_fragments(answer, 9)
    first.proto = later.proto = 1
    assert_goes_there(gateway, outside(later), later)
    assert_goes_there(gateway, outside(first), first)
    came, rest = (inner(gateway.forwards(*returned(one))) for one in (first, later))
    wanted = IP(bytes(IP(src=CLIENT, dst=FAR) / ICMP(type=0, id=4000, seq=1) / bytes(range(48))))
    assert bytes(came.payload) + bytes(rest.payload) == bytes(wanted.payload)
    assert (came.dst, rest.dst) == (FAR, FAR)


def test_the_congestion_mark_of_the_tunnel_is_kept(gateway: Balancing) -> None:
    hold(gateway)
    _, later = in_fragments(datagram(VM3, 4000, TIER, 53), 7)
    later.tos = 2
    interface, frame = inside(later)
    marked = bytearray(frame)
    outer = IP(bytes(marked[14:34]))
    outer.tos, outer.chksum = 3, None
    marked[14:34] = bytes(outer)[:20]
    _, gone = gateway.orders(interface, bytes(marked))
    assert gone[IP].tos == 3


def test_the_last_hop_is_not_lengthened(gateway: Balancing) -> None:
    hold(gateway)
    _, later = in_fragments(QUESTION, 7)
    later.ttl = 1
    assert gateway.drops(*outside(later)) == "ttl_exceeded"
    first, later = in_fragments(QUESTION, 7)
    first.ttl = later.ttl = 2
    gateway.orders(*outside(later))
    assert inner(gateway.forwards(*returned(first))).ttl == 1


def test_nobody_is_told_of_a_drop_by_way_of_the_compartment(gateway: Balancing) -> None:
    hold(gateway)
    first, later = in_fragments(datagram(CLIENT, 4000, VIP, 54), 7)
    gateway.orders(*outside(later))
    gateway.orders(*outside(first))
    assert gateway.drops(*returned(first)) == "vip_not_served"


def test_access_lists_see_the_first_fragment_first(gateway: Balancing) -> None:
    dns = AccessRule(10, "inbound", "allow", "udp", destination_prefix=f"{VM2}/32", destination_ports="5353")
    hold(gateway, access_control_lists=(AccessControlList("dns", (AppliesTo(6002),), "deny", rules=(dns,)),))
    first, later = in_fragments(QUESTION, 7)
    gateway.orders(*outside(later))
    gateway.orders(*outside(first))
    gateway.forwards(*returned(first))
    gateway.forwards(*returned(later))


def test_a_tcp_segment_in_fragments_is_put_in_order(gateway: Balancing) -> None:
    hold(gateway)
    segment = IP(src=CLIENT, dst=VIP) / TCP(sport=4000, dport=80, flags="S") / bytes(60)
    first, later = in_fragments(segment, 7)
    first.proto = later.proto = 6
    gateway.orders(*outside(later))
    gateway.orders(*outside(first))
    assert inner(gateway.forwards(*returned(first))).dst == VM2
    assert inner(gateway.forwards(*returned(later))).dst == VM2


def test_a_domain_without_the_compartment_drops_them_by_name(gateway: Balancing) -> None:
    gateway.hold(compartments=for_fragments({RED: FRAGMENTS_LEGS[RED]}))
    assert gateway.drops(*outside(in_fragments(QUESTION, 7)[1])) == "fragment_unmatched"


def test_corpnet_reaches_internal_addresses_by_the_compartment(gateway: Balancing) -> None:
    hold(gateway)
    first, later = in_fragments(datagram("157.1.0.9", 4000, TIER, 53), 7)
    assert_goes_there(gateway, ("x0", external(later)), later)
    assert_goes_there(gateway, ("x0", external(first)), first)
    assert inner(gateway.forwards(*returned(first))).src == "157.1.0.9"
    assert inner(gateway.forwards(*returned(later))).src == "157.1.0.9"


def test_what_does_not_fit_a_second_is_dropped_and_hurts_nobody_else(gateway: Balancing) -> None:
    hold(gateway)
    first, later = in_fragments(QUESTION, 7)
    for _ in range(1000):
        gateway.orders(*outside(later))
    while (outcome := gateway.send(*outside(later))).action == "ordered":  # the programs' clock does not stand still
        gateway.flood(*outside(later))
    assert outcome.reason == "fragment_unmatched"
    _, reds = in_fragments(datagram(VM1, 4000, TIER, 81), 7)
    gateway.orders(*inside_red(reds))
