"""Every verdict and every drop reason, each by one packet."""

from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from gateway.datapath.model.verdict import Action, DropReason
from gateway.datapath.model.world import World
from gateway.policy.model import AccessControlList, AppliesTo
from gateway.policy.validation import faults
from tests.unit.model.services import OF_SERVICES
from tests.unit.model.support import (
    BLUE,
    HOST,
    POLICY,
    PROVIDER,
    ROUTER,
    external,
    make_world,
    nvgre,
    outer_ip,
    tunnelled,
    vxlan,
    with_lists,
)

PING = IP(src="10.1.1.11", dst="157.1.0.9") / ICMP()


def ping(destination: str, **fields: Any) -> IP:
    return IP(src="10.1.1.11", dst=destination, **fields) / ICMP()


def used_up() -> World:
    world = make_world()
    for _ in range(1000):
        world.process("p0", tunnelled(ping("10.1.1.1")))
    return world


def with_list(**fields: Any) -> Callable[[], World]:
    access_list = AccessControlList("all", (AppliesTo(vsid=6001),), **fields)
    return lambda: make_world(with_lists(access_list))


Case = tuple[str, DropReason, Callable[[], World], str, bytes]

DROPS: tuple[Case, ...] = (
    ("a tunnel packet without an inner frame", DropReason.MALFORMED, make_world, "p0",
     bytes(Ether() / outer_ip("192.168.1.10") / nvgre(6001) / Raw(bytes(13)))),
    ("a fragment of a VXLAN packet", DropReason.OUTER_FRAGMENT, make_world, "p0",
     bytes(Ether() / outer_ip("192.168.1.10", flags="MF") / vxlan(6001))),
    ("an NVGRE packet with IP options", DropReason.OUTER_OPTIONS, make_world, "p0",
     bytes(Ether() / outer_ip("192.168.1.10", options=[IPOption_NOP()] * 4) / nvgre(6001))),
    ("a VSID that no domain has", DropReason.UNKNOWN_VSID, make_world, "p0", tunnelled(PING, 6999)),
    ("a host of red that sends in blue", DropReason.SOURCE_NOT_ADMITTED, make_world, "p0",
     tunnelled(PING, source="192.168.3.30")),
    ("an inner frame with a VLAN tag", DropReason.INNER_VLAN, make_world, "p0", tunnelled(Dot1Q(vlan=5) / PING)),
    ("an inner broadcast frame", DropReason.BROADCAST, make_world, "p0", tunnelled(PING, router="ff:ff:ff:ff:ff:ff")),
    ("an inner frame for another VM", DropReason.NOT_ROUTER_MAC, make_world, "p0",
     tunnelled(PING, router="10:10:10:10:11:07")),
    ("an inner frame with LLDP", DropReason.NOT_IP, make_world, "p0",
     bytes(Ether() / outer_ip("192.168.1.10") / nvgre(6001) / Ether(dst=ROUTER, type=0x88CC) / Raw(bytes(40)))),
    ("an inner packet with IP options", DropReason.IP_OPTIONS, make_world, "p0",
     tunnelled(ping("157.1.0.9", options=[IPOption_NOP()] * 4))),
    ("an inner packet with a hop-by-hop header", DropReason.EXTENSION_HEADERS, make_world, "p0",
     tunnelled(IPv6(src="fd00:1::11", dst="fd00:157::9") / IPv6ExtHdrHopByHop() / UDP())),
    ("an inner packet from 127.0.0.1", DropReason.MARTIAN_SOURCE, make_world, "p0",
     tunnelled(IP(src="127.0.0.1", dst="157.1.0.9") / ICMP())),
    ("an inner packet to 127.0.0.1", DropReason.MARTIAN_DESTINATION, make_world, "p0", tunnelled(ping("127.0.0.1"))),
    ("an inner packet from a link-local address", DropReason.LINK_LOCAL, make_world, "p0",
     tunnelled(IPv6(src="fe80::1", dst="fd00:157::9") / UDP())),
    ("congestion met by a packet that knows no ECN", DropReason.ECN_NOT_CAPABLE, make_world, "p0",
     tunnelled(PING, tos=3)),
    ("ARP for an address that nobody has", DropReason.NEIGHBOR_UNANSWERED, make_world, "p0",
     tunnelled(ARP(psrc="10.1.1.11", pdst="10.1.1.200"), router="ff:ff:ff:ff:ff:ff")),
    ("TCP to a router address", DropReason.LOCAL_NOT_SERVED, make_world, "p0",
     tunnelled(IP(src="10.1.1.11", dst="10.1.1.1") / TCP())),
    ("a destination in no prefix", DropReason.NO_ROUTE, make_world, "p0", tunnelled(ping("8.8.8.8"))),
    ("an address of a virtual subnet without a record", DropReason.NO_RECORD, make_world, "p0",
     tunnelled(ping("10.1.6.200"))),
    ("a TTL of one", DropReason.TTL_EXCEEDED, make_world, "p0", tunnelled(ping("157.1.0.9", ttl=1))),
    ("the next-hop VM's packet back to itself", DropReason.HAIRPIN, make_world, "p0",
     tunnelled(ping("172.16.0.1"), 6002, "192.168.6.4", "vxlan", mac="10:10:10:10:16:21")),
    ("an access list denies what its VSID sends", DropReason.ACCESS_LIST_OUTBOUND, with_list(default_outbound="deny"),
     "p0", tunnelled(PING)),
    ("an access list denies what its VSID receives", DropReason.ACCESS_LIST_INBOUND, with_list(default_inbound="deny"),
     "x0", external(IP(src="157.1.0.9", dst="10.1.1.11") / ICMP())),
    ("a later fragment whose first was not seen", DropReason.FRAGMENT_UNMATCHED, with_list(), "p0",
     tunnelled(ping("157.1.0.9", frag=5, id=9))),
    ("a packet that the outer MTU leaves no room for", DropReason.TOO_BIG, make_world, "x0",
     external(IP(src="157.1.0.9", dst="10.1.6.21") / UDP() / Raw(bytes(1523)))),
    ("a rewritten destination for a source that is not rewritten", DropReason.REWRITE_NO_SOURCE, make_world, "p0",
     tunnelled(ping("10.1.6.31"))),
    ("a host that the provider network has no way to", DropReason.UNDERLAY_UNRESOLVED, make_world, "p0",
     tunnelled(ping("10.1.6.24"))),
    ("a neighbour on CorpNet not heard of yet", DropReason.RESOLVING, make_world, "p0", tunnelled(ping("157.1.3.3"))),
    ("the thousand and first answer of a second", DropReason.ANSWER_LIMITED, used_up, "p0",
     tunnelled(ping("10.1.1.1"))),
)  # fmt: skip

OTHERS = {
    Action.FORWARDED: tunnelled(PING),
    Action.ANSWERED: tunnelled(ping("10.1.1.1")),
    Action.PASSED: bytes(Ether(dst=PROVIDER, src=HOST) / outer_ip("192.168.1.10") / TCP(dport=22)),
}


@pytest.mark.parametrize(
    ("reason", "world", "interface", "frame"), [case[1:] for case in DROPS], ids=[case[0] for case in DROPS]
)
def test_is_dropped_by_name(reason: DropReason, world: Callable[[], World], interface: str, frame: bytes) -> None:
    verdict = world().process(interface, frame)
    assert (verdict.action, verdict.reason) == (Action.DROPPED, reason)
    assert verdict.steps


def test_every_drop_reason_has_a_case() -> None:
    assert {case[1] for case in DROPS} == set(DropReason) - OF_SERVICES


@pytest.mark.parametrize("action", OTHERS)
def test_is_not_dropped(action: Action) -> None:
    verdict = make_world().process("p0", OTHERS[action])
    assert (verdict.action, verdict.reason) == (action, None)
    assert verdict.domain == (None if action == Action.PASSED else BLUE)


def test_an_arp_answer_for_the_gateway_is_consumed() -> None:
    answer = ARP(op="is-at", hwsrc="02:00:00:00:dd:07", psrc="157.1.0.7", pdst="157.1.0.254")
    assert make_world().process("x0", external(answer)).action == Action.CONSUMED


def test_drops_before_admission_belong_to_no_domain() -> None:
    without = {DropReason.OUTER_FRAGMENT, DropReason.OUTER_OPTIONS, DropReason.UNKNOWN_VSID, DropReason.MALFORMED}
    for _, reason, world, interface, frame in DROPS:
        assert world().process(interface, frame).domain == (None if reason in without else BLUE), reason


def test_the_policy_of_these_tests_is_valid() -> None:
    ports = {port.name: port for port in make_world().ports}
    assert list(faults(POLICY, ports)) == []
