"""Source NAT where answers would bypass the gateway, outbound NAT, and public addresses of single machines."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import GRE
from scapy.packet import Raw

from gateway.datapath.model.rewriting import End
from gateway.datapath.model.translation import client_hash, ports_for
from gateway.policy.model import InboundNatRule, Policy, RoutingDomain
from tests.unit.model.services import (
    BALANCER,
    CLIENT,
    CLIENT6,
    FAR,
    OTHER_VIP,
    OWN,
    OWNER,
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
    with_balancer,
    with_blue,
)

TCP_NUMBER, UDP_NUMBER = 6, 17
PORTS_OF_CLIENT = 2 * 16 * 15  # near its two sets, in each block


def first_port(address: str, port: int, protocol: int) -> int:
    """The port that stands for a client's where nobody has it yet."""
    return next(ports_for(End(ip_address(address), port), protocol))


def routed(routing: str) -> Policy:
    return with_blue(routing=routing)


def test_a_port_that_stands_for_a_clients_comes_from_the_clients_hash() -> None:
    hashed = client_hash(End(ip_address("10.1.6.20"), 4001), TCP_NUMBER)
    ports = list(ports_for(End(ip_address("10.1.6.20"), 4001), TCP_NUMBER))
    assert len(set(ports)) == PORTS_OF_CLIENT
    assert {port & 0xFF0 for port in ports} == {hashed & 0xFF0, hashed >> 16 & 0xFF0}
    assert ports[0] & 0xFFF == hashed & 0xFFF
    assert min(ports) >= 4096


@pytest.mark.parametrize(
    ("client", "vip", "machine"), [(VM3, TIER, VM2), ("fd00:6::22", TIER6, VM6)], ids=["IPv4", "IPv6"]
)
def test_a_client_in_the_machines_subnet_is_translated_and_so_is_the_answer(
    gateway: Balancing, client: str, vip: str, machine: str
) -> None:
    gateway.hold()
    port, backend = (81, 8081) if ":" not in client else (8080, 80)
    nat_port = first_port(client, 4000, TCP_NUMBER)
    assert ends(gateway.forwards(*inside(tcp(client, 4000, vip, port)))) == (vip, nat_port, machine, backend)
    answer = gateway.forwards(*inside(tcp(machine, backend, vip, nat_port, "SA")))
    assert ends(answer) == (vip, port, client, 4000)


def test_a_machine_reaches_itself_by_the_frontend_that_it_serves(gateway: Balancing) -> None:
    gateway.hold()
    nat_port = first_port(VM2, 4000, TCP_NUMBER)
    question = gateway.forwards(*inside(tcp(VM2, 4000, TIER, 81)))
    assert ends(question) == (TIER, nat_port, VM2, 8081)
    assert question[GRE].key >> 8 == 6002
    assert ends(gateway.forwards(*inside(tcp(VM2, 8081, TIER, nat_port, "SA")))) == (TIER, 81, VM2, 4000)


def test_in_external_router_mode_a_client_of_another_subnet_keeps_its_address(gateway: Balancing) -> None:
    gateway.hold(routed("external_router"))
    assert ends(gateway.forwards(*inside(tcp(FAR, 4000, TIER, 81)))) == (FAR, 4000, VM2, 8081)
    assert ends(gateway.forwards(*inside(tcp(VM2, 8081, FAR, 4000, "SA")))) == (TIER, 81, FAR, 4000)


def test_in_distributed_mode_every_client_inside_is_translated(gateway: Balancing) -> None:
    gateway.hold(routed("distributed"))
    nat_port = first_port(FAR, 4000, TCP_NUMBER)
    assert ends(gateway.forwards(*inside(tcp(FAR, 4000, TIER, 81)))) == (TIER, nat_port, VM2, 8081)
    assert ends(gateway.forwards(*inside(tcp(VM2, 8081, TIER, nat_port, "SA")))) == (TIER, 81, FAR, 4000)


def test_a_client_outside_is_never_translated(gateway: Balancing) -> None:
    gateway.hold(routed("distributed"))
    assert ends(gateway.forwards(*outside(tcp(CLIENT, 4000, VIP, 80))))[:2] == (CLIENT, 4000)


def test_only_the_member_that_was_asked_may_answer_to_a_given_port(gateway: Balancing) -> None:
    gateway.hold()
    nat_port = first_port(VM3, 4000, TCP_NUMBER)
    gateway.forwards(*inside(tcp(VM3, 4000, TIER, 81)))
    assert gateway.drops(*inside(tcp(VM1, 8081, TIER, nat_port, "SA"))) == "vip_not_served"
    assert gateway.drops(*inside(tcp(VM2, 8082, TIER, nat_port, "SA"))) == "vip_not_served"
    assert gateway.drops(*inside(tcp(VM2, 8081, TIER, nat_port ^ 1, "SA"))) == "vip_not_served"


def test_a_direct_connection_beside_a_translated_one_is_left_alone(gateway: Balancing) -> None:
    gateway.hold(routed("distributed"))
    gateway.forwards(*inside(tcp(FAR, 4000, TIER, 81)))
    assert ends(gateway.forwards(*inside(tcp(VM2, 8081, FAR, 4000, "SA")))) == (VM2, 8081, FAR, 4000)


def without_ports(client: str, port: int, protocol: str, left: int = 0) -> Policy:
    """All ports but so many that may stand for the client's are those of rules."""
    number = TCP_NUMBER if protocol == "tcp" else UDP_NUMBER
    taken = list(ports_for(End(ip_address(client), port), number))[: PORTS_OF_CLIENT - left]
    frontend = "tier" if protocol == "tcp" else "public"
    rules = tuple(InboundNatRule(f"taken{one}", frontend, protocol, one, VM1) for one in taken)  # type: ignore[arg-type]
    return with_balancer(inbound_nat_rules=rules)


def test_ports_of_rules_stand_for_no_clients(gateway: Balancing) -> None:
    gateway.hold(without_ports(VM3, 4000, "tcp", left=1))
    last = list(ports_for(End(ip_address(VM3), 4000), TCP_NUMBER))[-1]
    assert ends(gateway.forwards(*inside(tcp(VM3, 4000, TIER, 81))))[1] == last


def test_two_connections_of_a_client_have_ports_of_their_own(gateway: Balancing) -> None:
    gateway.hold()
    first = ends(gateway.forwards(*inside(tcp(VM3, 4000, TIER, 81))))[1]
    second = ends(gateway.forwards(*inside(tcp(VM3, 4000, TIER, 8080))))[1]
    assert [first, second] == list(ports_for(End(ip_address(VM3), 4000), TCP_NUMBER))[:2]
    assert ends(gateway.forwards(*inside(tcp(VM3, 4000, TIER, 81, "A"))))[1] == first


def test_where_no_port_is_left_nothing_leaves_untranslated(gateway: Balancing) -> None:
    gateway.hold(without_ports(VM3, 4000, "tcp"))
    assert gateway.drops(*inside(tcp(VM3, 4000, TIER, 81))) == "nat_exhausted"
    gateway.hold(without_ports(FAR, 4000, "udp"))
    assert gateway.drops(*inside(udp(FAR, 4000, CLIENT, 53))) == "nat_exhausted"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_machines_reach_the_internet_as_their_frontend(gateway: Balancing, transport: str) -> None:
    gateway.hold()
    made, number = (tcp, TCP_NUMBER) if transport == "tcp" else (udp, UDP_NUMBER)
    nat_port = first_port(FAR, 4000, number)
    left = gateway.forwards(*inside(made(FAR, 4000, CLIENT, 443)))
    assert ends(left) == (VIP, nat_port, CLIENT, 443)
    answer = gateway.forwards(*outside(made(CLIENT, 443, VIP, nat_port)))
    assert ends(answer) == (CLIENT, 443, FAR, 4000)


def test_a_ping_leaves_with_another_identifier_and_its_answer_finds_back(gateway: Balancing) -> None:
    gateway.hold()
    left = gateway.forwards(*inside(IP(src=FAR, dst=CLIENT) / ICMP(id=7, seq=3) / b"abc"))
    identifier = left[ICMP].id
    assert (left[IP].src, identifier) == (VIP, first_port(FAR, 7, 1))
    answer = gateway.forwards(*outside(IP(src=CLIENT, dst=VIP) / ICMP(type=0, id=identifier, seq=3) / b"abc"))
    assert (inner(answer).dst, inner(answer)[ICMP].id) == (FAR, 7)


def test_outbound_ipv6_has_a_frontend_of_its_own(gateway: Balancing) -> None:
    gateway.hold()
    left = gateway.forwards(*inside(udp(VM6, 4000, CLIENT6, 443)))
    assert ends(left) == (VIP6, first_port(VM6, 4000, UDP_NUMBER), CLIENT6, 443)
    left = gateway.forwards(*inside(IPv6(src=VM6, dst=CLIENT6) / ICMPv6EchoRequest(id=7) / b"abc"))
    identifier = left[ICMPv6EchoRequest].id
    answer = gateway.forwards(*outside(IPv6(src=CLIENT6, dst=VIP6) / ICMPv6EchoReply(id=identifier) / b"abc"))
    assert (inner(answer).dst, inner(answer)[ICMPv6EchoReply].id) == (VM6, 7)


def test_nobody_but_the_one_that_was_asked_answers_to_an_outbound_port(gateway: Balancing) -> None:
    gateway.hold()
    nat_port = ends(gateway.forwards(*inside(tcp(FAR, 4000, CLIENT, 443))))[1]
    assert gateway.drops(*outside(tcp("203.0.113.8", 443, VIP, nat_port, "SA"))) == "vip_not_served"
    assert gateway.drops(*outside(tcp(CLIENT, 444, VIP, nat_port, "SA"))) == "vip_not_served"
    assert gateway.drops(*outside(tcp(CLIENT, 443, OTHER_VIP, nat_port, "SA"))) == "vip_not_served"


def test_connections_from_one_port_to_two_ends_have_two_ports(gateway: Balancing) -> None:
    gateway.hold()
    first = ends(gateway.forwards(*inside(udp(FAR, 4000, CLIENT, 53))))[1]
    second = ends(gateway.forwards(*inside(udp(FAR, 4000, "203.0.113.8", 53))))[1]
    assert first != second
    assert ends(gateway.forwards(*outside(udp("203.0.113.8", 53, VIP, second))))[2:] == (FAR, 4000)


def test_what_has_no_ports_cannot_share_an_address(gateway: Balancing) -> None:
    gateway.hold()
    assert gateway.drops(*inside(IP(src=FAR, dst=CLIENT, proto=132) / Raw(bytes(12)))) == "not_translatable"
    assert gateway.drops(*inside(IP(src=FAR, dst=CLIENT, proto=17, frag=4) / Raw(bytes(16)))) == "fragment_unmatched"


def test_a_route_of_the_tenants_own_comes_before_outbound_nat(gateway: Balancing) -> None:
    gateway.hold()
    assert ends(gateway.forwards(*inside(udp(FAR, 4000, "157.1.0.9", 53))))[:2] == (FAR, 4000)


def test_without_outbound_nat_there_is_no_way_to_the_internet(gateway: Balancing) -> None:
    gateway.hold()
    reason, told = gateway.objects(*inside(udp(VM1, 4000, CLIENT, 443)))
    assert (reason, inner(told).src, inner(told)[ICMP].code) == ("no_route", "10.1.6.1", 0)


@pytest.mark.parametrize("payload", [TCP(sport=4000, dport=22, flags="S"), UDP(sport=4000, dport=53), ICMP(id=7)])
def test_a_public_address_of_ones_own_lets_everything_in_and_out(gateway: Balancing, payload: Raw) -> None:
    gateway.hold()
    there = inner(gateway.forwards(*outside(IP(src=CLIENT, dst=OWN) / payload / b"abc")))
    assert (there.src, there.dst) == (CLIENT, OWNER)
    assert bytes(there.payload)[:2] == bytes(IP() / payload)[20:22]
    back = gateway.forwards(*inside(IP(src=OWNER, dst=CLIENT) / payload / b"abc"))
    assert (back[IP].src, back[IP].dst) == (OWN, CLIENT)


def test_a_public_address_of_ones_own_takes_every_protocol_and_fragment(gateway: Balancing) -> None:
    gateway.hold()
    for packet in (
        IP(src=CLIENT, dst=OWN, proto=132) / Raw(bytes(12)),
        IP(src=CLIENT, dst=OWN, proto=17, frag=4, id=9) / Raw(bytes(16)),
    ):
        assert inner(gateway.forwards(*outside(packet))).dst == OWNER
    for packet in (
        IP(src=OWNER, dst=CLIENT, proto=132) / Raw(bytes(12)),
        IP(src=OWNER, dst=CLIENT, proto=17, frag=4, id=9) / Raw(bytes(16)),
    ):
        assert gateway.forwards(*inside(packet))[IP].src == OWN


def test_the_gateways_own_addresses_on_the_internet_answer_to_ping_only(gateway: Balancing) -> None:
    gateway.hold()
    reply = gateway.answers(*outside(IP(src=CLIENT, dst="198.51.100.1") / ICMP(id=7)))
    assert (reply[IP].src, reply[ICMP].type) == ("198.51.100.1", 0)
    assert gateway.drops(*outside(tcp(CLIENT, 4000, "198.51.100.1", 22))) == "local_not_served"


def test_nothing_passes_from_the_internet_to_an_address_inside(gateway: Balancing) -> None:
    gateway.hold()
    assert gateway.drops(*outside(tcp(CLIENT, 4000, VM1, 22))) == "hairpin"
    assert gateway.drops(*outside(tcp(CLIENT, 4000, TIER, 81))) == "hairpin"


def test_two_tenants_have_the_same_ports_to_give(gateway: Balancing) -> None:
    red: RoutingDomain = SERVICES.routing_domains[1]
    balancer = replace(red.load_balancers[0], outbound_nat=(replace(BALANCER.outbound_nat[0], vsid=5001),))
    gateway.hold(
        replace(SERVICES, routing_domains=(SERVICES.routing_domains[0], replace(red, load_balancers=(balancer,))))
    )
    left = gateway.forwards(*inside_red(udp(VM1, 4000, CLIENT, 53)))
    assert ends(left) == (OTHER_VIP, first_port(VM1, 4000, UDP_NUMBER), CLIENT, 53)
