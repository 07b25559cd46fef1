"""ARP and neighbour discovery: for VMs from policy, for external networks as a router does."""

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, GRE, Dot1Q, Ether
from scapy.packet import Packet, Raw

from gateway.datapath.model.verdict import Verdict
from gateway.datapath.model.world import World
from gateway.policy.model import LookupRecord
from tests.unit.model.support import (
    CORPNET,
    GATEWAY,
    HOST,
    NEIGHBOUR,
    PROVIDER,
    RECORDS,
    ROUTER,
    changed,
    external,
    make_world,
    nvgre,
    sent,
    tunnelled,
)

VM, VM2 = "10:10:10:10:11:05", "10:10:10:10:11:07"
MOVED = "02:00:00:00:dd:99"
BROADCAST = "ff:ff:ff:ff:ff:ff"


def arp_from_vm(target: str, world: World | None = None, sender: str = "10.1.1.11", mac: str = VM) -> Verdict:
    request = ARP(hwsrc=mac, psrc=sender, pdst=target)
    return (world or make_world()).process("p0", tunnelled(request, router=BROADCAST, mac=mac))


def solicitation(target: str, source: str = "fd00:1::11", mac: str = VM) -> Packet:
    return IPv6(src=source, dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr=mac)


def nd_from_vm(target: str, source: str = "fd00:1::11", world: World | None = None) -> Verdict:
    frame = tunnelled(solicitation(target, source), router="33:33:ff:00:00:01")
    return (world or make_world()).process("p0", frame)


def answered_mac(verdict: Verdict) -> str | None:
    if verdict.action != "answered":
        return None
    frame = sent(verdict)
    mac: str = frame[ARP].hwsrc if ARP in frame else frame[ICMPv6NDOptDstLLAddr].lladdr
    return mac


def test_arp_for_the_router_is_answered_whole() -> None:
    verdict = arp_from_vm("10.1.1.1")
    reply = ARP(op="is-at", hwsrc=ROUTER, psrc="10.1.1.1", hwdst=VM, pdst="10.1.1.11")
    outer = Ether(dst=HOST, src=PROVIDER) / IP(src=GATEWAY, dst="192.168.1.10", flags="DF", id=0) / nvgre(6001)
    assert verdict.frame == bytes(outer / Ether(dst=VM, src=ROUTER) / reply)


def test_a_solicitation_for_the_router_is_answered_whole() -> None:
    verdict = nd_from_vm("fd00:1::1")
    answer = IPv6(src="fd00:1::1", dst="fd00:1::11", hlim=255) / ICMPv6ND_NA(tgt="fd00:1::1", R=1, S=1, O=1)
    answer /= ICMPv6NDOptDstLLAddr(lladdr=ROUTER)
    outer = Ether(dst=HOST, src=PROVIDER) / IP(src=GATEWAY, dst="192.168.1.10", flags="DF", id=0) / nvgre(6001)
    assert verdict.frame == bytes(outer / Ether(dst=VM, src=ROUTER) / answer)


@pytest.mark.parametrize(
    ("target", "mac"),
    [
        ("10.1.1.1", ROUTER),
        ("10.1.1.12", VM2),
        ("10.1.1.77", ROUTER),
        ("10.1.1.200", None),
        ("10.1.1.11", None),
        ("10.1.6.21", None),
        ("10.1.6.254", None),
        ("157.1.0.9", None),
    ],
)
def test_arp_is_answered_from_policy(target: str, mac: str | None) -> None:
    assert answered_mac(arp_from_vm(target)) == mac


@pytest.mark.parametrize(
    ("target", "mac"), [("fd00:1::1", ROUTER), ("fd00:1::77", ROUTER), ("fd00:1::99", None), ("fd00:1::11", None)]
)
def test_solicitations_are_answered_from_policy(target: str, mac: str | None) -> None:
    assert answered_mac(nd_from_vm(target)) == mac


def test_only_the_routers_own_addresses_are_advertised_as_a_router() -> None:
    record = LookupRecord(6001, "fd00:1::12", "10-10-10-10-11-07", "192.168.2.20")
    world = make_world(changed(lookup_records=(*RECORDS, record)))
    flags = {}
    for target in ("fd00:1::1", "fd00:1::12", "fd00:1::77"):
        answer = sent(nd_from_vm(target, world=world))[ICMPv6ND_NA]
        flags[target] = (answer.R, answer.S, answer.O)
    assert flags == {"fd00:1::1": (1, 1, 1), "fd00:1::12": (0, 1, 1), "fd00:1::77": (0, 1, 1)}


def test_duplicate_address_detection_of_a_vm_is_left_alone() -> None:
    assert nd_from_vm("fd00:1::1", source="::").reason == "neighbor_unanswered"
    assert arp_from_vm("10.1.1.12", sender="10.1.1.12", mac=VM2).reason == "neighbor_unanswered"


def test_a_record_on_the_router_address_changes_the_mac_given_there() -> None:
    record = LookupRecord(6001, "10.1.1.1", "10-10-10-10-11-01", "192.168.6.4")
    world = make_world(changed(lookup_records=(*RECORDS, record)))
    assert answered_mac(arp_from_vm("10.1.1.1", world)) == "10:10:10:10:11:01"


def test_arp_answers_from_vms_are_dropped() -> None:
    answer = ARP(op="is-at", hwsrc=VM, psrc="10.1.1.11", pdst="10.1.1.1")
    assert make_world().process("p0", tunnelled(answer)).reason == "neighbor_unanswered"


def test_arp_for_anything_but_ipv4_is_dropped_inside_and_passed_outside() -> None:
    odd = ARP(hwtype=6, psrc="157.1.0.9", pdst="157.1.0.254")
    assert make_world().process("p0", tunnelled(odd)).reason == "neighbor_unanswered"
    assert make_world().process("x0", external(odd)).action == "passed"
    assert make_world().process("x0", external(bytes(ARP())[:20])).action == "passed"


def asking(target: str, sender: str = "157.1.0.7", mac: str = "02:00:00:00:dd:07") -> Packet:
    return ARP(hwsrc=mac, psrc=sender, pdst=target)


def known(world: World, address: str, vlan: int = 0) -> str | None:
    return world.neighbours.get(("x0", vlan, address))


def test_arp_from_corpnet_is_learned_from_and_answered() -> None:
    world = make_world()
    verdict = world.process("x0", external(asking("157.1.0.254"), destination=BROADCAST))
    reply = ARP(op="is-at", hwsrc=CORPNET, psrc="157.1.0.254", hwdst="02:00:00:00:dd:07", pdst="157.1.0.7")
    assert verdict.frame == bytes(Ether(dst=NEIGHBOUR, src=CORPNET) / reply)
    assert known(world, "157.1.0.7") == "02-00-00-00-DD-07"


def test_an_arp_answer_is_learned_in_its_vlan_only() -> None:
    world = make_world()
    answer = ARP(op="is-at", hwsrc="02:00:00:00:dd:07", psrc="157.1.0.7", pdst="157.1.0.254")
    assert world.process("x0", external(answer, vlan=10)).action == "consumed"
    assert known(world, "157.1.0.7", vlan=10) == "02-00-00-00-DD-07"
    assert known(world, "157.1.0.7") is None


def test_arp_of_others_is_linuxs_and_teaches_nothing() -> None:
    world = make_world()
    assert world.process("x0", external(asking("157.1.0.8"))).action == "passed"
    assert known(world, "157.1.0.7") is None


def test_gratuitous_arp_updates_what_is_known_and_nothing_else() -> None:
    world = make_world()
    assert world.process("x0", external(asking("157.1.0.7"))).action == "passed"
    assert world.process("x0", external(asking("157.1.0.9", "157.1.0.9"))).action == "passed"
    assert (known(world, "157.1.0.7"), known(world, "157.1.0.9")) == (None, "02-00-00-00-DD-07")


@pytest.mark.parametrize(
    ("address", "override", "learned"),
    [("fd00:157::9", 1, MOVED), ("fd00:157::9", 0, NEIGHBOUR), ("fd00:157::7", 1, None)],
)
def test_an_advertisement_to_all_moves_what_is_known_and_nothing_else(
    address: str, override: int, learned: str | None
) -> None:
    world = make_world()
    told = IPv6(src=address, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=address, S=0, O=override)
    verdict = world.process("x0", external(told / ICMPv6NDOptDstLLAddr(lladdr=MOVED), destination="33:33:00:00:00:01"))
    assert (verdict.action, known(world, address)) == ("passed", learned and learned.replace(":", "-").upper())


def test_an_arp_probe_is_answered_but_not_learned() -> None:
    world = make_world()
    assert world.process("x0", external(asking("157.1.0.254", "0.0.0.0"))).action == "answered"
    assert known(world, "0.0.0.0") is None


def test_a_solicitation_from_corpnet_is_learned_from_and_answered() -> None:
    world = make_world()
    question = solicitation("fd00:157::fe", "fd00:157::7", "02:00:00:00:dd:07")
    verdict = world.process("x0", external(question, destination="33:33:ff:00:00:fe"))
    answer = IPv6(src="fd00:157::fe", dst="fd00:157::7", hlim=255) / ICMPv6ND_NA(tgt="fd00:157::fe", R=1, S=1, O=1)
    answer /= ICMPv6NDOptDstLLAddr(lladdr=CORPNET)
    assert verdict.frame == bytes(Ether(dst=NEIGHBOUR, src=CORPNET) / answer)
    assert known(world, "fd00:157::7") == "02-00-00-00-DD-07"


def test_duplicate_address_detection_on_corpnet_is_told_to_all_nodes() -> None:
    question = IPv6(src="::", dst="ff02::1:ff00:fe", hlim=255) / ICMPv6ND_NS(tgt="fd00:157::fe")
    world = make_world()
    answer = sent(world.process("x0", external(question)))
    assert (answer[IPv6].dst, answer[ICMPv6ND_NA].S, answer[ICMPv6ND_NA].tgt) == ("ff02::1", 0, "fd00:157::fe")
    assert known(world, "::") is None


def test_an_advertisement_for_the_gateway_is_learned_and_consumed() -> None:
    world = make_world()
    answer = IPv6(src="fd00:157::7", dst="fd00:157::fe", hlim=255) / ICMPv6ND_NA(tgt="fd00:157::7")
    verdict = world.process("x0", external(answer / ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:dd:07")))
    assert verdict.action == "consumed"
    assert known(world, "fd00:157::7") == "02-00-00-00-DD-07"


def test_discovery_from_beyond_a_router_teaches_nothing() -> None:
    world = make_world()
    answer = IPv6(src="fd00:157::7", dst="fd00:157::fe", hlim=254) / ICMPv6ND_NA(tgt="fd00:157::7")
    verdict = world.process("x0", external(answer / ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:dd:07")))
    assert (verdict.reason, known(world, "fd00:157::7")) == ("local_not_served", None)


def test_discovery_of_others_is_linuxs() -> None:
    question = solicitation("fd00:157::55", "fd00:157::7")
    answer = IPv6(src="fd00:157::7", dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt="fd00:157::7")
    for packet in (question, answer):
        assert make_world().process("x0", external(packet)).action == "passed"


def test_a_packet_to_an_unknown_neighbour_becomes_the_arp_request_for_it() -> None:
    frame = tunnelled(IP(src="10.1.1.11", dst="157.1.7.7") / ICMP() / Raw(bytes(300)), 5001, "192.168.3.30")
    verdict = make_world().process("p0", frame)
    request = ARP(hwsrc=CORPNET, psrc="157.1.0.254", hwdst="00:00:00:00:00:00", pdst="157.1.7.7")
    expected = Ether(dst=BROADCAST, src=CORPNET) / Dot1Q(vlan=10, prio=0) / request
    assert (verdict.reason, verdict.interface, verdict.frame) == ("resolving", "x0", bytes(expected))


def test_a_packet_to_an_unknown_ipv6_neighbour_becomes_the_solicitation() -> None:
    packet = IPv6(src="fd00:1::11", dst="fd00:157::7:1234", nh=59)
    verdict = make_world().process("p0", tunnelled(packet))
    question = IPv6(src="fd00:157::fe", dst="ff02::1:ff07:1234", hlim=255) / ICMPv6ND_NS(tgt="fd00:157::7:1234")
    question /= ICMPv6NDOptSrcLLAddr(lladdr=CORPNET)
    assert verdict.frame == bytes(Ether(dst="33:33:ff:07:12:34", src=CORPNET) / question)


def test_the_answer_lets_the_next_packet_leave() -> None:
    world = make_world()
    frame = tunnelled(IP(src="10.1.1.11", dst="157.1.7.7") / ICMP())
    assert world.process("p0", frame).reason == "resolving"
    world.process("x0", external(ARP(op="is-at", hwsrc="02:00:00:00:dd:07", psrc="157.1.7.7", pdst="157.1.0.254")))
    assert sent(world.process("p0", frame)).dst == "02:00:00:00:dd:07"


def test_requests_are_limited_like_answers() -> None:
    world = make_world()
    frames = [world.process("p0", tunnelled(IP(src="10.1.1.11", dst="157.1.7.7") / ICMP())).frame for _ in range(1001)]
    assert frames[999] is not None
    assert frames[1000] is None


def test_an_nvgre_answer_keeps_the_flow_id() -> None:
    frame = sent(arp_from_vm("10.1.1.1"))
    assert frame[GRE].key & 0xFF == 0x5A
