"""Load balancing: frontends, rules, who is chosen, and what packets look like on both sides."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, GRE, Ether
from scapy.packet import Raw

from gateway.policy.model import (
    AccessControlList,
    AccessRule,
    AppliesTo,
    PoolMember,
)
from gateway.policy.validation import faults
from tests.unit.model.services import (
    CLIENT,
    CLIENT6,
    FAR,
    OTHER_VIP,
    SERVICE_PORTS,
    SERVICES,
    TIER,
    TIER6,
    VIP,
    VIP6,
    VM1,
    VM2,
    VM3,
    VM6,
    Balancing,
    ends,
    inner,
    inside,
    inside_red,
    outside,
    tcp,
    udp,
    with_blue,
    with_members,
    with_rule,
)
from tests.unit.model.support import GATEWAY, HOST, INTERNET, NEIGHBOUR, PROVIDER, ROUTER


def test_the_policy_of_these_tests_is_valid() -> None:
    assert list(faults(SERVICES, {port.name: port for port in SERVICE_PORTS})) == []


def test_figure_4_a_client_reaches_blues_machine_by_the_public_address(gateway: Balancing) -> None:
    gateway.hold()
    question = (
        Ether(dst=INTERNET, src=NEIGHBOUR) / IP(src=CLIENT, dst=VIP, ttl=64) / TCP(sport=40000, dport=80) / b"GET"
    )
    frame = gateway.forwards("i0", bytes(question))
    flow_id = frame[GRE].key & 0xFF
    expected = (
        Ether(dst=HOST, src=PROVIDER)
        / IP(src="192.168.6.2", dst="192.168.6.4", id=0, flags="DF", ttl=64)
        / GRE(key_present=1, key=6002 << 8 | flow_id, proto=0x6558)
        / Ether(dst="10:10:10:10:16:21", src=ROUTER)
        / IP(src=CLIENT, dst="10.1.6.21", ttl=63)
        / TCP(sport=40000, dport=80)
        / b"GET"
    )
    assert bytes(frame) == bytes(expected)


def test_figure_4_the_answer_leaves_with_the_public_address_as_its_source(gateway: Balancing) -> None:
    gateway.hold()
    gateway.forwards(*outside(tcp(CLIENT, 40000, VIP, 80)))
    answer = (
        Ether(dst=PROVIDER, src=HOST)
        / IP(src="192.168.6.4", dst=GATEWAY)
        / GRE(key_present=1, key=6002 << 8 | 0x5A, proto=0x6558)
        / Ether(dst=ROUTER, src="10:10:10:10:16:21")
        / IP(src="10.1.6.21", dst=CLIENT, ttl=64)
        / TCP(sport=80, dport=40000, flags="SA")
        / b"200"
    )
    frame = gateway.forwards("p0", bytes(answer))
    expected = (
        Ether(dst=NEIGHBOUR, src=INTERNET)
        / IP(src=VIP, dst=CLIENT, ttl=63)
        / TCP(sport=80, dport=40000, flags="SA")
        / b"200"
    )
    assert bytes(frame) == bytes(expected)


@pytest.mark.parametrize(("client", "vip", "machine"), [(CLIENT, VIP, VM2), (CLIENT6, VIP6, VM6)], ids=["IPv4", "IPv6"])
def test_udp_is_balanced_to_another_port_and_answered_from_the_frontends(
    gateway: Balancing, client: str, vip: str, machine: str
) -> None:
    gateway.hold()
    there = gateway.forwards(*outside(udp(client, 4000, vip, 53)))
    assert ends(there) == (client, 4000, machine, 5353)
    back = gateway.forwards(*inside(udp(machine, 5353, client, 4000)))
    assert ends(back) == (vip, 53, client, 4000)


def test_a_zero_udp_checksum_stays_zero(gateway: Balancing) -> None:
    gateway.hold()
    there = gateway.forwards(*outside(udp(CLIENT, 4000, VIP, 53, chksum=0)))
    assert inner(there)[UDP].chksum == 0
    back = gateway.forwards(*inside(udp(VM2, 5353, CLIENT, 4000, chksum=0)))
    assert back[UDP].chksum == 0


def test_a_udp_checksum_that_comes_out_as_zero_is_sent_as_all_ones(gateway: Balancing) -> None:
    gateway.hold()
    wanted = IP(src=CLIENT, dst=VM2) / UDP(sport=4000, dport=5353) / b"\0\0"
    without = IP(bytes(wanted))[UDP].chksum
    payload = without.to_bytes(2)  # what brings the sum of all to ones
    assert IP(bytes(IP(src=CLIENT, dst=VM2) / UDP(sport=4000, dport=5353) / payload))[UDP].chksum == 0xFFFF
    frame = gateway.forwards(*outside(IP(src=CLIENT, dst=VIP) / UDP(sport=4000, dport=53) / payload))
    assert inner(frame)[UDP].chksum == 0xFFFF


def test_a_tcp_connection_over_ipv6_goes_both_ways(gateway: Balancing) -> None:
    gateway.hold()
    assert ends(gateway.forwards(*outside(tcp(CLIENT6, 4000, VIP6, 80)))) == (CLIENT6, 4000, VM6, 8080)
    assert ends(gateway.forwards(*inside(tcp(VM6, 8080, CLIENT6, 4000, "SA")))) == (VIP6, 80, CLIENT6, 4000)


def test_equal_internal_addresses_lead_each_tenant_to_its_own_machine(gateway: Balancing) -> None:
    gateway.hold()
    blue = gateway.forwards(*inside(tcp(VM3, 4000, TIER, 81)))
    red = gateway.forwards(*inside_red(tcp(VM1, 4000, TIER, 81)))
    assert (inner(blue).dst, inner(red).dst) == (VM2, VM1)
    assert blue[GRE].key >> 8 == 6002
    assert red[GRE].key >> 8 == 5001
    assert ends(gateway.forwards(*outside(tcp(CLIENT, 4000, OTHER_VIP, 80))))[2] == VM1


def test_an_internal_address_is_reached_from_other_subnets_and_from_the_connection(gateway: Balancing) -> None:
    gateway.hold()
    assert inner(gateway.forwards(*inside(tcp(FAR, 4000, TIER, 81)))).dst == VM2
    frame = Ether(dst="02:00:00:00:0e:00", src=NEIGHBOUR) / IP(src="157.1.0.9", dst=TIER) / TCP(sport=4000, dport=81)
    assert ends(gateway.forwards("x0", bytes(frame))) == ("157.1.0.9", 4000, VM2, 8081)
    assert ends(gateway.forwards(*inside(tcp(VM2, 8081, "157.1.0.9", 4000, "SA")))) == (TIER, 81, "157.1.0.9", 4000)


def test_the_gateway_answers_pings_to_frontends(gateway: Balancing) -> None:
    gateway.hold()
    for packet, send in ((IP(src=CLIENT, dst=VIP), outside), (IP(src=VM1, dst=TIER), inside)):
        reply = inner(gateway.answers(*send(packet / ICMP(id=7, seq=3) / b"abc")))
        assert (reply.src, reply.dst, reply[ICMP].type, reply[ICMP].id) == (packet.dst, packet.src, 0, 7)
    for source, vip, send in ((CLIENT6, VIP6, outside), (VM6, TIER6, inside)):
        reply = inner(gateway.answers(*send(IPv6(src=source, dst=vip) / ICMPv6EchoRequest(id=7))))
        assert (reply.src, reply.dst) == (vip, source)
        assert ICMPv6EchoReply in reply


def test_what_no_rule_serves_is_a_named_drop_and_udp_is_told(gateway: Balancing) -> None:
    gateway.hold()
    assert gateway.drops(*outside(tcp(CLIENT, 4000, VIP, 79))) == "vip_not_served"
    assert gateway.drops(*outside(IP(src=CLIENT, dst=VIP, proto=132) / Raw(bytes(12)))) == "vip_not_served"
    reason, told = gateway.objects(*outside(udp(CLIENT, 4000, VIP, 54)))
    assert (reason, told[IP].src, told[ICMP].type, told[ICMP].code) == ("vip_not_served", VIP, 3, 3)
    reason, told = gateway.objects(*inside(udp(VM1, 4000, TIER, 54)))
    assert (reason, inner(told).src) == ("vip_not_served", TIER)


def test_a_client_is_told_what_fits_on_the_way_to_the_machine(gateway: Balancing) -> None:
    gateway.hold(external_mtu=9000)
    long = IP(src=CLIENT, dst=VIP) / TCP(sport=4000, dport=80, flags="A") / bytes(1600)
    reason, told = gateway.objects(*outside(long))
    assert (reason, told[IP].src, told[IP].dst) == ("too_big", "198.51.100.1", CLIENT)
    assert (told[ICMP].type, told[ICMP].code, told[ICMP].nexthopmtu) == (3, 4, 1600 - 42)
    assert told["IP in ICMP"].dst == VIP


def test_time_is_up_for_a_packet_to_a_frontend_as_for_any_other(gateway: Balancing) -> None:
    gateway.hold()
    reason, told = gateway.objects(*outside(IP(src=CLIENT, dst=VIP, ttl=1) / TCP(sport=4000, dport=80)))
    assert (reason, told["IP in ICMP"].dst) == ("ttl_exceeded", VIP)


def test_the_answer_of_a_draining_member_is_translated(gateway: Balancing) -> None:
    gateway.hold()
    gateway.forwards(*outside(tcp(CLIENT, 40000, VIP, 80)))
    gateway.change(with_members("one", PoolMember(VM2, state="draining")))
    assert ends(gateway.forwards(*inside(tcp(VM2, 80, CLIENT, 40000, "A"))))[0] == VIP


def test_an_answer_whose_entry_is_lost_finds_back_by_the_only_rule(gateway: Balancing) -> None:
    gateway.hold()
    assert ends(gateway.forwards(*inside(tcp(VM2, 80, CLIENT, 40000, "A")))) == (VIP, 80, CLIENT, 40000)


def test_a_direct_connection_to_a_machine_is_left_alone(gateway: Balancing) -> None:
    gateway.hold()
    frame = gateway.forwards(*inside(tcp(VM2, 80, "157.1.0.9", 40000, "A")))
    assert ends(frame) == (VM2, 80, "157.1.0.9", 40000)


def test_an_inbound_nat_rule_leads_to_its_one_machine(gateway: Balancing) -> None:
    gateway.hold()
    assert ends(gateway.forwards(*outside(tcp(CLIENT, 4000, VIP, 2222)))) == (CLIENT, 4000, VM1, 22)
    assert ends(gateway.forwards(*inside(tcp(VM1, 22, CLIENT, 4000, "SA")))) == (VIP, 2222, CLIENT, 4000)


def test_floating_ip_leaves_the_frontends_address_in_the_packet(gateway: Balancing) -> None:
    gateway.hold(with_rule("www", floating_ip=True))
    frame = gateway.forwards(*outside(tcp(CLIENT, 4000, VIP, 80)))
    assert ends(frame) == (CLIENT, 4000, VIP, 80)
    assert (frame.getlayer(Ether, 2).dst, frame[GRE].key >> 8) == ("10:10:10:10:16:21", 6002)
    assert ends(gateway.forwards(*inside(tcp(VIP, 80, CLIENT, 4000, "SA"), vm=VM2))) == (VIP, 80, CLIENT, 4000)


def test_access_lists_see_the_machines_own_address_and_port(gateway: Balancing) -> None:
    web = AccessRule(10, "inbound", "allow", "tcp", destination_prefix=f"{VM1}/32", destination_ports="22")
    lists = AccessControlList("ssh", (AppliesTo(6002),), "deny", "deny", rules=(web,))
    gateway.hold(with_blue(access_control_lists=(lists,)))
    assert gateway.drops(*outside(tcp(CLIENT, 4000, VIP, 80))) == "access_list_inbound"
    gateway.forwards(*outside(tcp(CLIENT, 4000, VIP, 2222)))
    assert ends(gateway.forwards(*inside(tcp(VM1, 22, CLIENT, 4000, "SA"))))[0] == VIP
    assert gateway.drops(*inside(tcp(VM2, 80, CLIENT, 4000, "SA"))) == "access_list_outbound"


def test_arp_for_a_public_address_is_answered_on_the_internets_port_alone(gateway: Balancing) -> None:
    gateway.hold()
    request = ARP(hwsrc=NEIGHBOUR, psrc="198.51.100.254", pdst=VIP)
    answer = gateway.answers("i0", bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=NEIGHBOUR) / request))
    assert (answer[ARP].op, answer[ARP].psrc, answer[ARP].hwsrc) == (2, VIP, INTERNET)


def test_arp_for_an_internal_address_is_answered_in_its_subnet_alone(gateway: Balancing) -> None:
    gateway.hold()

    def asking(vm: str, mac: str) -> tuple[str, bytes]:
        request = ARP(hwsrc=mac, psrc=vm, pdst=TIER)
        header = Ether(dst="ff:ff:ff:ff:ff:ff", src=mac) / request
        return _arp(header, vm)

    answer = gateway.answers(*asking(VM1, "10:10:10:10:16:20"))
    assert (answer[ARP].op, answer[ARP].psrc, answer[ARP].hwsrc) == (2, TIER, ROUTER)
    assert gateway.drops(*asking(FAR, "10:10:10:10:17:31")) == "neighbor_unanswered"


def _arp(request: Ether, vm: str) -> tuple[str, bytes]:
    source, vsid = ("192.168.1.10", 6002) if vm == VM1 else ("192.168.6.4", 6003)
    outer = IP(src=source, dst=GATEWAY) / GRE(key_present=1, key=vsid << 8, proto=0x6558)
    return "p0", bytes(Ether(dst=PROVIDER, src=HOST) / outer / request)
