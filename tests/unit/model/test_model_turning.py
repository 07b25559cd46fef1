"""From inside to public addresses of the same gateway: out under a public name, and in as from the Internet."""

from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import GRE
from scapy.packet import Packet, Raw

from gateway.datapath.model.explain import Question, explain
from gateway.policy.model import (
    AccessControlList,
    AccessRule,
    AppliesTo,
    Frontend,
    LoadBalancer,
    OutboundNat,
    Policy,
    RoutingDomain,
)
from tests.unit.model.services import (
    BALANCER,
    BLUE_DOMAIN,
    CLIENT,
    FAR,
    FAR2,
    FRAGMENTS_LEGS,
    OTHER_VIP,
    OWN,
    OWNER,
    RED_BALANCER,
    RED_DOMAIN,
    TIER,
    VIP,
    VIP6,
    VM1,
    VM2,
    VM6,
    Balancing,
    ends,
    for_fragments,
    inner,
    inside,
    inside_red,
    ip,
    services_world,
    tcp,
    udp,
    with_balancer,
    with_blue,
)
from tests.unit.model.support import underlay
from tests.unit.model.test_model_balancing_errors import quoted, quoting, unreachable
from tests.unit.model.test_model_balancing_fragments import datagram, in_fragments, rejoined
from tests.unit.model.test_model_balancing_lending import BLUES, REDS, SHARED, shared
from tests.unit.model.test_model_ordering import assert_goes_there, returned

REDS_HOST = "192.168.3.30"


def with_red(**fields: object) -> Policy:
    return Policy(routing_domains=(BLUE_DOMAIN, replace(RED_DOMAIN, **fields)))  # type: ignore[arg-type]


def with_red_dns() -> Policy:
    rules = (*RED_BALANCER.rules, replace(RED_BALANCER.rules[0], name="dns", protocol="udp", port=53))
    return with_red(load_balancers=(replace(RED_BALANCER, rules=rules),))


def listed(domain: RoutingDomain, vsid: int, *rules: AccessRule, default: str = "allow") -> RoutingDomain:
    return replace(
        domain,
        access_control_lists=(AccessControlList("list", (AppliesTo(vsid),), default, default, rules),),  # type: ignore[arg-type]
    )


def vsid(frame: Packet) -> int:
    return int(frame[GRE].key >> 8)


def asked(gateway: Balancing, vip: str = OTHER_VIP) -> int:
    """A machine of blue's without an address of its own has begun; the port that stands for its own."""
    source, port = ends(gateway.forwards(*inside(tcp(FAR, 4000, vip, 80))))[:2]
    assert source == VIP
    return port


def test_another_tenants_public_address_sees_the_public_address_of_who_asks(gateway: Balancing) -> None:
    gateway.hold()
    question = gateway.forwards(*inside(tcp(FAR, 4000, OTHER_VIP, 80)))
    source, port, *member = ends(question)
    assert (source, member, vsid(question)) == (VIP, [VM1, 80], 5001)
    for flags in ("SA", "A", "FA"):
        answer = gateway.forwards(*inside_red(tcp(VM1, 80, VIP, port, flags)))
        assert ends(answer) == (OTHER_VIP, 80, FAR, 4000)
    assert ends(gateway.forwards(*inside(tcp(FAR, 4000, OTHER_VIP, 80, "A")))) == (VIP, port, VM1, 80)


def test_a_tenant_reaches_its_own_public_address_too(gateway: Balancing) -> None:
    gateway.hold()
    port = asked(gateway, VIP)
    assert ends(gateway.forwards(*inside(tcp(FAR, 4000, VIP, 80)))) == (VIP, port, VM2, 80)
    assert ends(gateway.forwards(*inside(tcp(VM2, 80, VIP, port, "SA")))) == (VIP, 80, FAR, 4000)


def test_a_member_reaches_itself_by_its_public_address(gateway: Balancing) -> None:
    gateway.hold(with_balancer(outbound_nat=(OutboundNat("public", 6002),)))
    source, port, *member = ends(gateway.forwards(*inside(tcp(VM2, 4000, VIP, 80))))
    assert (source, member) == (VIP, [VM2, 80])
    assert ends(gateway.forwards(*inside(tcp(VM2, 80, VIP, port, "SA")))) == (VIP, 80, VM2, 4000)


def test_a_machine_with_a_public_address_of_its_own_comes_from_there(gateway: Balancing) -> None:
    gateway.hold()
    assert ends(gateway.forwards(*inside(tcp(OWNER, 4000, OTHER_VIP, 80)))) == (OWN, 4000, VM1, 80)
    assert ends(gateway.forwards(*inside_red(tcp(VM1, 80, OWN, 4000, "SA")))) == (OTHER_VIP, 80, OWNER, 4000)
    assert ends(gateway.forwards(*inside(tcp(OWNER, 4000, OWN, 22)))) == (OWN, 4000, OWNER, 22)


def test_all_protocols_of_a_public_address_of_one_machine_turn(gateway: Balancing) -> None:
    gateway.hold()
    port = ends(gateway.forwards(*inside(tcp(FAR, 4000, OWN, 22))))[1]
    assert ends(gateway.forwards(*inside(tcp(OWNER, 22, VIP, port, "SA")))) == (OWN, 22, FAR, 4000)
    other = IP(src=OWNER, dst=OWN, proto=132) / Raw(bytes(12))
    assert (inner(gateway.forwards(*inside(other))).src, inner(gateway.forwards(*inside(other))).dst) == (OWN, OWNER)


def test_an_inbound_nat_rule_holds_from_inside(gateway: Balancing) -> None:
    gateway.hold()
    assert ends(gateway.forwards(*inside(tcp(FAR, 4000, VIP, 2222))))[2:] == (VM1, 22)


def test_over_ipv6_it_is_the_same(gateway: Balancing) -> None:
    gateway.hold()
    source, port, *member = ends(gateway.forwards(*inside(tcp(VM6, 4000, VIP6, 80))))
    assert (source, member) == (VIP6, [VM6, 8080])
    assert ends(gateway.forwards(*inside(tcp(VM6, 8080, VIP6, port, "SA")))) == (VIP6, 80, VM6, 4000)
    reply = inner(gateway.answers(*inside(IPv6(src=VM6, dst=VIP6) / ICMPv6EchoRequest(id=7))))
    assert (reply.src, reply.dst, reply[ICMPv6EchoReply].id) == (VIP6, VM6, 7)


def test_who_has_no_public_address_does_not_get_there(gateway: Balancing) -> None:
    gateway.hold()
    for vip in (VIP, OTHER_VIP, OWN):
        assert gateway.objects(*inside(tcp(VM1, 4000, vip, 80)))[0] == "no_route"


def test_a_shared_public_address_stands_for_who_asks_and_leads_back(gateway: Balancing) -> None:
    gateway.hold(shared())
    source, port, *_ = ends(gateway.forwards(*inside(tcp(VM1, 4000, OTHER_VIP, 80))))
    assert source == SHARED
    answer = gateway.forwards(*inside_red(tcp(VM1, 80, SHARED, port, "SA")))
    assert ends(answer) == (OTHER_VIP, 80, VM1, 4000)
    assert vsid(answer) == 6002


def test_a_port_lent_to_another_is_as_closed_from_inside_as_from_the_internet(gateway: Balancing) -> None:
    gateway.hold(shared(BLUES, REDS))
    reds = ends(gateway.forwards(*inside_red(tcp(VM1, 4000, CLIENT, 443))))[1]
    assert gateway.drops(*inside(tcp(VM1, 4000, SHARED, reds))) == "vip_not_served"


def test_the_gateways_own_address_on_the_internet_does_not_serve_the_inside(gateway: Balancing) -> None:
    gateway.hold()
    assert gateway.drops(*inside(tcp(FAR, 4000, "198.51.100.1", 80))) == "vip_not_served"


def test_public_addresses_answer_the_ping_of_a_machine_inside(gateway: Balancing) -> None:
    gateway.hold()
    for machine, vip in ((FAR, VIP), (FAR, OTHER_VIP), (OWNER, VIP)):
        reply = inner(gateway.answers(*inside(IP(src=machine, dst=vip, ttl=9) / ICMP(id=7, seq=3) / b"ping")))
        assert (reply.src, reply.dst, reply.ttl) == (vip, machine, 64)
        assert (reply[ICMP].type, reply[ICMP].id, reply[ICMP].seq, bytes(reply[Raw])) == (0, 7, 3, b"ping")


def test_the_ping_of_a_machine_with_a_public_address_is_answered_by_itself(gateway: Balancing) -> None:
    gateway.hold()
    question = inner(gateway.forwards(*inside(IP(src=FAR, dst=OWN) / ICMP(id=7))))
    assert (question.src, question.dst, question[ICMP].type) == (VIP, OWNER, 8)
    reply = inner(gateway.forwards(*inside(IP(src=OWNER, dst=VIP) / ICMP(type=0, id=question[ICMP].id))))
    assert (reply.src, reply.dst, reply[ICMP].id) == (OWN, FAR, 7)


def test_where_nothing_is_served_the_sender_is_told_about_what_it_sent(gateway: Balancing) -> None:
    gateway.hold()
    assert gateway.drops(*inside(tcp(FAR, 4000, OTHER_VIP, 79))) == "vip_not_served"
    for machine in (FAR, OWNER):
        question = udp(machine, 4000, OTHER_VIP, 53)
        reason, error = gateway.objects(*inside(question))
        told = inner(error)
        assert (reason, told.src, told.dst) == ("vip_not_served", OTHER_VIP, machine)
        assert (told[ICMP].type, told[ICMP].code) == (3, 3)
        assert bytes(told[ICMP].payload) == bytes(question)[: len(bytes(question)) & ~3]


def test_it_is_one_hop_and_a_packet_at_its_end_is_answered_inside(gateway: Balancing) -> None:
    gateway.hold()
    assert inner(gateway.forwards(*inside(ip(FAR, OTHER_VIP, ttl=2) / TCP(sport=4000, dport=80)))).ttl == 1
    reason, error = gateway.objects(*inside(ip(FAR, OTHER_VIP, ttl=1) / TCP(sport=4000, dport=80)))
    assert (reason, inner(error).src, inner(error).dst) == ("ttl_exceeded", "10.1.7.1", FAR)


def test_who_sends_too_much_for_the_other_tenants_network_is_told_how_much_fits(gateway: Balancing) -> None:
    hops = underlay()
    hop = hops[REDS_HOST]
    assert hop is not None
    gateway.hold(underlay={**hops, REDS_HOST: replace(hop, mtu=1400)})
    port = asked(gateway)
    question = ip(FAR, OTHER_VIP) / TCP(sport=4000, dport=80, flags="A") / bytes(1400)
    reason, error = gateway.objects(*inside(question))
    told = inner(error)
    assert (reason, told.src, told.dst) == ("too_big", "10.1.7.1", FAR)
    assert (told[ICMP].code, told[ICMP].nexthopmtu) == (4, 1400 - 42)
    assert bytes(told[ICMP].payload) == bytes(question)[:128]
    answer = ip(VM1, VIP) / TCP(sport=80, dport=port, flags="SA", options=[("MSS", 1460)])
    assert dict(inner(gateway.forwards(*inside_red(answer)))[TCP].options)["MSS"] == 1460
    opening = ip(FAR, OTHER_VIP) / TCP(sport=4001, dport=80, options=[("MSS", 1460)])
    assert dict(inner(gateway.forwards(*inside(opening)))[TCP].options)["MSS"] == 1400 - 42 - 40


def test_segments_fit_the_network_that_they_come_from(gateway: Balancing) -> None:
    gateway.hold(mtu=1500)
    opening = ip(FAR, OTHER_VIP) / TCP(sport=4000, dport=80, options=[("MSS", 1460)])
    assert dict(inner(gateway.forwards(*inside(opening)))[TCP].options)["MSS"] == 1500 - 50 - 40


def test_icmp_errors_find_back_through_both_translations(gateway: Balancing) -> None:
    gateway.hold()
    port = asked(gateway)
    about_question = unreachable(VM1, VIP, quoting(tcp(VIP, port, VM1, 80)), code=3)
    error = gateway.forwards(*inside_red(about_question))
    assert (inner(error).src, inner(error).dst) == (OTHER_VIP, FAR)
    assert quoted(error) == (FAR, 4000, OTHER_VIP, 80)
    about_answer = unreachable(FAR, OTHER_VIP, quoting(tcp(OTHER_VIP, 80, FAR, 4000)))
    error = gateway.forwards(*inside(about_answer))
    assert (inner(error).src, inner(error).dst) == (VIP, VM1)
    assert quoted(error) == (VM1, 80, VIP, port)


def test_fragments_follow_their_first_through_both_translations(gateway: Balancing) -> None:
    gateway.hold(with_red_dns())
    first, later = in_fragments(datagram(FAR, 4000, OTHER_VIP, 53), 7)
    assert gateway.drops(*inside(later)) == "fragment_unmatched"
    whole = rejoined(gateway.forwards(*inside(first)), gateway.forwards(*inside(later)))
    assert (whole.src, whole.dst, whole.dport) == (VIP, VM1, 53)
    first, later = in_fragments(datagram(VM1, 53, VIP, whole.sport), 8)
    whole = rejoined(gateway.forwards(*inside_red(first)), gateway.forwards(*inside_red(later)))
    assert bytes(whole.payload) == bytes(IP(bytes(datagram(OTHER_VIP, 53, FAR, 4000))).payload)


def test_fragments_in_reverse_order_are_put_in_order_where_they_are_translated_first(gateway: Balancing) -> None:
    gateway.hold(with_red_dns(), compartments=for_fragments(FRAGMENTS_LEGS))
    first, later = in_fragments(datagram(FAR, 4000, OTHER_VIP, 53), 7)
    assert_goes_there(gateway, inside(later), later)
    assert_goes_there(gateway, inside(first), first)
    whole = rejoined(gateway.forwards(*returned(first)), gateway.forwards(*returned(later)))
    assert (whole.src, whole.dst, whole.dport) == (VIP, VM1, 53)


@pytest.mark.parametrize("vip", [VIP, OTHER_VIP])
def test_what_keeps_its_ports_outside_is_put_in_order_where_it_comes_in(gateway: Balancing, vip: str) -> None:
    gateway.hold(with_red_dns(), compartments=for_fragments(FRAGMENTS_LEGS))
    owner = BLUE_DOMAIN if vip == VIP else RED_DOMAIN
    member, port = (VM2, 5353) if vip == VIP else (VM1, 53)
    sent = in_fragments(datagram(OWNER, 4000, vip, 53), 7)
    outside_form = in_fragments(datagram(OWN, 4000, vip, 53), 7)
    for one, seen in reversed(list(zip(sent, outside_form, strict=True))):
        _, frame = gateway.orders(*inside(one))
        assert (frame[IP].src, frame[IP].dst) == (seen.src, seen.dst)
    ordered = (IP(bytes(one)) for one in outside_form)
    came = [gateway.forwards(*returned(one, owner.id)) for one in ordered]
    whole = IP(src=OWN, dst=member, proto=17) / Raw(b"".join(bytes(inner(one).payload) for one in came))
    assert bytes(whole.payload)[2:4] == port.to_bytes(2)
    assert {(inner(one).src, inner(one).dst) for one in came} == {(OWN, member)}


def test_the_senders_access_lists_are_asked_about_the_public_address(gateway: Balancing) -> None:
    no_web = AccessRule(10, "outbound", "deny", "tcp", destination_prefix=f"{OTHER_VIP}/32")
    blue = listed(BLUE_DOMAIN, 6003, no_web)
    gateway.hold(Policy(routing_domains=(blue, RED_DOMAIN)))
    assert gateway.drops(*inside(tcp(FAR, 4000, OTHER_VIP, 80))) == "access_list_outbound"
    port = asked(gateway, VIP)
    assert ends(gateway.forwards(*inside(tcp(VM2, 80, VIP, port, "SA")))) == (VIP, 80, FAR, 4000)


def test_the_receivers_access_lists_see_a_client_of_the_internet(gateway: Balancing) -> None:
    def holding(prefix: str) -> Policy:
        known = AccessRule(10, "inbound", "allow", "tcp", source_prefix=prefix)
        return Policy(routing_domains=(BLUE_DOMAIN, listed(RED_DOMAIN, 5001, known, default="deny")))

    gateway.hold(holding(f"{FAR}/32"))
    assert gateway.drops(*inside(tcp(FAR, 4000, OTHER_VIP, 80))) == "access_list_inbound"
    gateway.hold(holding(f"{VIP}/32"))
    port = asked(gateway)
    assert ends(gateway.forwards(*inside_red(tcp(VM1, 80, VIP, port, "SA")))) == (OTHER_VIP, 80, FAR, 4000)


def test_lists_of_one_tenant_are_asked_twice_about_what_it_sends_itself(gateway: Balancing) -> None:
    rules = (AccessRule(10, "inbound", "allow", "tcp", source_prefix=f"{VIP}/32"),)
    list_ = AccessControlList("list", (AppliesTo(6002), AppliesTo(6003)), "deny", "allow", rules)
    gateway.hold(with_blue(access_control_lists=(list_,)))
    port = asked(gateway, VIP)
    assert ends(gateway.forwards(*inside(tcp(VM2, 80, VIP, port, "SA")))) == (VIP, 80, FAR, 4000)
    assert gateway.drops(*inside(tcp(FAR, 4000, VM2, 80))) == "access_list_inbound"


def test_internal_addresses_stay_where_they_are(gateway: Balancing) -> None:
    """Both tenants have the second tier's address: what is for it never goes by a public one."""
    gateway.hold()
    assert ends(gateway.forwards(*inside(tcp(FAR, 4000, TIER, 81))))[2:] == (VM2, 8081)


def test_nothing_turns_twice(gateway: Balancing) -> None:
    """The machine of a public address is balanced to nobody, whatever its own packets say."""
    lent = LoadBalancer("out", frontends=(Frontend("out", SHARED, public=True),))
    blue = replace(BLUE_DOMAIN, load_balancers=(BALANCER, lent))
    gateway.hold(Policy(routing_domains=(blue, RED_DOMAIN)))
    assert gateway.drops(*inside(tcp(OWNER, 4000, SHARED, 80))) == "vip_not_served"
    assert ends(gateway.forwards(*inside(tcp(OWNER, 4000, OWN, 80)))) == (OWN, 4000, FAR2, 80)


def test_explain_tells_both_ways() -> None:
    question = Question(source=FAR, destination=OTHER_VIP, vsid=6003, protocol="tcp", port=80)
    verdict = explain(services_world(), question)
    assert verdict.action == "forwarded"
    layers = [step.layer for step in verdict.steps]
    assert layers.count("route") == 3
    assert layers[layers.index("admit", 3) :] == [
        "admit",
        "frontend",
        "balance",
        "balance",
        "route",
        "translate",
        "encapsulate",
        "leave",
        "verdict",
    ]
    words = " ".join(step.words for step in verdict.steps)
    assert f"{OTHER_VIP} is a public address of this gateway's" in words
    assert f"It comes in as a packet of {VIP} from the Internet." in words
