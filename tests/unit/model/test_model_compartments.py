"""What goes to compartments and comes from them: what is behind tunnels, IKE and ESP, probes."""

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from gateway.datapath.model.world import World
from gateway.policy.balancing import BackendPool, BalancingRule, Frontend, LoadBalancer, PoolMember
from gateway.policy.model import AccessControlList, AppliesTo, Policy
from tests.unit.model.services import VIP, Balancing, inner, outside, udp
from tests.unit.model.support import INTERNET, NEIGHBOUR, external, tunnelled
from tests.unit.model.tunnels import (
    BEHIND_BRANCH,
    BEHIND_BRANCH6,
    BEHIND_DISABLED,
    BEHIND_HEADQUARTERS,
    BRANCH,
    BRANCH6,
    COMPARTMENTS,
    HEADQUARTERS,
    IN_SUBNET,
    OF_RED,
    OWN,
    SERVICE,
    SHARED,
    SHARED6,
    STRANGER,
    TUNNELS,
    by_leg,
    error_about,
    esp,
    ike,
    with_blue,
)

BLUE_INSIDE, BLUE_OUTSIDE, RED_INSIDE, RED_OUTSIDE = "gib", "gob", "gid", "god"
INSIDE_MAC = {"gib": "02:00:00:00:01:0b", "gid": "02:00:00:00:01:0d"}
OUTSIDE_MAC = {"gob": "02:00:00:00:02:0b", "god": "02:00:00:00:02:0d"}


def hold(gateway: Balancing, policy: Policy = TUNNELS, **settings: Any) -> World:
    return gateway.hold(policy, compartments=COMPARTMENTS, **settings)


def out(gateway: Balancing, sent: tuple[str, bytes]) -> tuple[str | None, Packet]:
    """Where a packet leaves, and its frame."""
    verdict = gateway.send(*sent)
    assert verdict.action == "forwarded", verdict
    return verdict.interface, gateway.forwards(*sent)


def from_blue(destination: str) -> tuple[str, bytes]:
    source = "fd00:1::11" if ":" in destination else "10.1.1.11"
    return "p0", tunnelled(udp(source, 7, destination, 8))


@pytest.mark.parametrize("destination", [BEHIND_HEADQUARTERS, BEHIND_BRANCH, BEHIND_BRANCH6, IN_SUBNET])
def test_what_is_behind_a_tunnel_goes_to_the_compartment(gateway: Balancing, destination: str) -> None:
    hold(gateway)
    interface, frame = out(gateway, from_blue(destination))
    assert (interface, frame.dst) == (BLUE_INSIDE, INSIDE_MAC[BLUE_INSIDE])
    assert inner(frame).dst == destination
    assert (inner(frame).hlim if ":" in destination else inner(frame).ttl) == 63


def test_equal_prefixes_of_two_tenants_lead_to_their_own_compartments(gateway: Balancing) -> None:
    hold(gateway)
    packet = IP(src="10.1.1.11", dst=BEHIND_HEADQUARTERS) / UDP()
    assert out(gateway, ("p0", tunnelled(packet)))[0] == BLUE_INSIDE
    of_red = tunnelled(packet, 5001, "192.168.3.30", "nvgre", "20:20:20:20:21:05")
    assert out(gateway, ("p0", of_red))[0] == RED_INSIDE


def test_what_is_behind_a_disabled_tunnel_is_dropped_by_name_and_its_sender_told(gateway: Balancing) -> None:
    hold(gateway)
    reason, answer = gateway.objects(*from_blue(BEHIND_DISABLED))
    assert reason == "no_record"
    assert (inner(answer).src, inner(answer)[ICMP].type, inner(answer)[ICMP].code) == ("10.1.1.1", 3, 1)


def test_without_its_compartment_a_tunnel_is_closed(gateway: Balancing) -> None:
    gateway.hold(TUNNELS)
    assert gateway.objects(*from_blue(BEHIND_HEADQUARTERS))[0] == "no_record"


def test_what_comes_out_of_a_tunnel_goes_to_the_machine(gateway: Balancing) -> None:
    hold(gateway)
    packet = IP(src=BEHIND_HEADQUARTERS, dst="10.1.1.11") / UDP(sport=8, dport=7) / b"payload"
    interface, frame = out(gateway, by_leg(BLUE_INSIDE, packet))
    assert (interface, inner(frame).src) == ("p0", BEHIND_HEADQUARTERS)


def test_what_comes_out_of_a_tunnel_for_nobody_is_answered_by_the_router(gateway: Balancing) -> None:
    hold(gateway)
    packet = IP(src=BEHIND_HEADQUARTERS, dst="10.1.1.200") / UDP(sport=8, dport=7)
    reason, answer = gateway.objects(*by_leg(BLUE_INSIDE, packet))
    assert (reason, inner(answer).src, inner(answer).dst) == ("no_record", "10.1.1.1", BEHIND_HEADQUARTERS)


def test_what_comes_out_of_one_tunnel_does_not_go_into_another(gateway: Balancing) -> None:
    hold(gateway)
    packet = IP(src=BEHIND_HEADQUARTERS, dst=BEHIND_BRANCH) / UDP()
    assert gateway.drops(*by_leg(BLUE_INSIDE, packet)) == "hairpin"


def test_machines_are_told_the_routers_mac_for_what_moved_behind_a_tunnel(gateway: Balancing) -> None:
    hold(gateway)
    question = ARP(hwsrc="10:10:10:10:11:05", psrc="10.1.1.11", pdst=IN_SUBNET)
    frame = gateway.answers("p0", tunnelled(question, router="ff:ff:ff:ff:ff:ff"))
    assert frame[ARP].hwsrc == "00:1d:d8:b7:1c:00"


@pytest.mark.parametrize(
    ("peer", "own", "leg"),
    [
        (HEADQUARTERS, OWN, BLUE_OUTSIDE),
        (BRANCH, SHARED, BLUE_OUTSIDE),
        (OF_RED, SHARED, RED_OUTSIDE),
        (BRANCH6, SHARED6, BLUE_OUTSIDE),
    ],
)
def test_ike_and_esp_and_errors_about_them_go_to_the_compartment_of_the_peer(
    gateway: Balancing, peer: str, own: str, leg: str
) -> None:
    hold(gateway)
    router = "2001:db8:100::fe" if ":" in peer else "198.51.100.254"
    arriving = [ike(peer, own), ike(peer, own, 4500), esp(peer, own)]
    arriving += [error_about(sent, router) for sent in (ike(own, peer), ike(own, peer, 4500), esp(own, peer))]
    arriving += [error_about(esp(own, peer), peer)]
    for packet in arriving:
        interface, frame = out(gateway, outside(packet))
        assert (interface, frame.dst) == (leg, OUTSIDE_MAC[leg]), packet.summary()
        assert (inner(frame).src, inner(frame).dst) == (packet.src, own)


def test_later_fragments_of_ike_follow_the_peer_too(gateway: Balancing) -> None:
    hold(gateway)
    packet = IP(src=BRANCH, dst=SHARED, frag=100, proto=17) / Raw(bytes(40))
    assert out(gateway, outside(packet))[0] == BLUE_OUTSIDE


def test_ike_and_esp_of_strangers_are_for_nobody(gateway: Balancing) -> None:
    hold(gateway)
    reason, answer = gateway.objects(*outside(ike(STRANGER, SHARED)))
    assert (reason, inner(answer).src) == ("vip_not_served", SHARED)
    assert gateway.drops(*outside(esp(STRANGER, SHARED))) == "vip_not_served"
    assert gateway.drops(*outside(esp(HEADQUARTERS, SHARED))) == "vip_not_served"


@pytest.mark.parametrize(
    "about",
    [
        ike(SHARED, STRANGER),
        ike(OWN, BRANCH),
        IP(src=SHARED, dst=BRANCH) / UDP(sport=501, dport=500) / Raw(bytes(28)),
        IP(src=SHARED, dst=BRANCH) / TCP(),
    ],
    ids=["a stranger", "another end", "another port", "TCP"],
)
def test_errors_about_anything_else_are_for_nobody(gateway: Balancing, about: Packet) -> None:
    hold(gateway)
    error = error_about(about, "198.51.100.254")
    error.dst = SHARED
    assert gateway.drops(*outside(error)) == "vip_not_served"


def test_the_ports_own_address_still_answers_pings_and_serves_nothing_else(gateway: Balancing) -> None:
    hold(gateway)
    ping = IP(src=HEADQUARTERS, dst=OWN) / ICMP()
    assert inner(gateway.answers(*outside(ping))).src == OWN
    assert gateway.objects(*outside(ike(STRANGER, OWN)))[0] == "local_not_served"
    assert gateway.drops(*outside(esp(STRANGER, OWN))) == "local_not_served"


def test_the_end_of_a_tunnel_is_found_by_arp(gateway: Balancing) -> None:
    hold(gateway)
    question = ARP(hwsrc=NEIGHBOUR, psrc="198.51.100.254", pdst=SHARED)
    assert gateway.answers("i0", external(question, destination="ff:ff:ff:ff:ff:ff"))[ARP].hwsrc == INTERNET


def test_ike_and_esp_leave_to_the_internet(gateway: Balancing) -> None:
    hold(gateway)
    for packet in (ike(SHARED, BRANCH), esp(SHARED, BRANCH)):
        interface, frame = out(gateway, by_leg(BLUE_OUTSIDE, packet))
        assert (interface, frame[Ether].dst, inner(frame).dst) == ("i0", NEIGHBOUR, BRANCH)


def test_probes_are_asked_about_by_no_list_in_either_direction(gateway: Balancing) -> None:
    closed = AccessControlList("closed", (AppliesTo(vsid=6001),), default_inbound="deny", default_outbound="deny")
    hold(gateway, with_blue(access_control_lists=(closed,)))
    there = IP(src=SERVICE, dst="10.1.1.11") / TCP(sport=40000, dport=80)
    back = IP(src="10.1.1.11", dst=SERVICE) / TCP(sport=80, dport=40000, flags="SA")
    assert out(gateway, by_leg(BLUE_INSIDE, there))[0] == "p0"
    assert out(gateway, ("p0", tunnelled(back)))[0] == BLUE_INSIDE
    site = IP(src=BEHIND_HEADQUARTERS, dst="10.1.1.11") / TCP(sport=40000, dport=80)
    assert gateway.drops(*by_leg(BLUE_INSIDE, site)) == "access_list_inbound"


def test_members_of_a_pool_are_probed_through_lists_too(gateway: Balancing) -> None:
    closed = AccessControlList("closed", (AppliesTo(vsid=6001),), default_inbound="deny", default_outbound="deny")
    pool = BackendPool("one", (PoolMember("10.1.1.11"),))
    rule = BalancingRule("www", "public", "one", "tcp", 80)
    balancer = LoadBalancer(
        "web", frontends=(Frontend("public", VIP, public=True),), backend_pools=(pool,), rules=(rule,)
    )
    hold(gateway, with_blue(access_control_lists=(closed,), load_balancers=(balancer,)))
    back = IP(src="10.1.1.11", dst=SERVICE) / TCP(sport=80, dport=40000, flags="SA")
    assert out(gateway, ("p0", tunnelled(back)))[0] == BLUE_INSIDE
