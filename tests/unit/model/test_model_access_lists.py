"""Access control lists: whom they apply to, what their rules match, and what they remember."""

from dataclasses import replace
from typing import Literal

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.packet import Packet, Raw

from gateway.datapath.model.world import World
from gateway.policy.model import AccessControlList, AccessRule, AppliesTo, Policy
from tests.unit.model.support import external, make_world, tunnelled, with_lists

Decision = Literal["allow", "deny"]

VM, OUTSIDE = "10.1.1.11", "157.1.0.9"
WEB_ONLY = (
    AccessRule(100, "inbound", "allow", "tcp", destination_ports="80,443,8080-8089"),
    AccessRule(200, "inbound", "deny"),
)


def on_subnet(
    *rules: AccessRule, vsid: int = 6001, inbound: Decision = "allow", outbound: Decision = "allow"
) -> Policy:
    access_list = AccessControlList("subnet", (AppliesTo(vsid=vsid),), inbound, outbound, rules)
    return with_lists(access_list)


def fate(world: World, packet: Packet, *, outside: bool = False) -> str:
    """The drop reason, or the action, of a packet from the VM or from outside."""
    verdict = world.process("x0", external(packet)) if outside else world.process("p0", tunnelled(packet))
    return str(verdict.reason or verdict.action)


def tcp_in(port: int, flags: str = "S") -> Packet:
    return IP(src=OUTSIDE, dst=VM) / TCP(sport=40000, dport=port, flags=flags)


def tcp_out(port: int, flags: str = "S") -> Packet:
    return IP(src=VM, dst=OUTSIDE) / TCP(sport=port, dport=40000, flags=flags)


def udp_in(port: int = 40000, source_port: int = 53) -> Packet:
    return IP(src=OUTSIDE, dst=VM) / UDP(sport=source_port, dport=port)


def udp_out(source_port: int = 40000, port: int = 53) -> Packet:
    return IP(src=VM, dst=OUTSIDE) / UDP(sport=source_port, dport=port)


@pytest.mark.parametrize(("port", "allowed"), [(80, True), (443, True), (8085, True), (8090, False), (22, False)])
def test_rules_are_asked_by_port(port: int, allowed: bool) -> None:
    expected = "forwarded" if allowed else "access_list_inbound"
    assert fate(make_world(on_subnet(*WEB_ONLY)), tcp_in(port), outside=True) == expected


def test_the_lowest_priority_number_wins_wherever_it_stands() -> None:
    rules = (AccessRule(200, "inbound", "deny"), AccessRule(100, "inbound", "allow", "udp"))
    assert fate(make_world(on_subnet(*rules)), udp_in(), outside=True) == "forwarded"


@pytest.mark.parametrize("default", ["allow", "deny"])
def test_the_default_decides_where_no_rule_matches(default: Decision) -> None:
    other = AccessRule(1, "inbound", "deny" if default == "allow" else "allow", "tcp")
    expected = "forwarded" if default == "allow" else "access_list_inbound"
    assert fate(make_world(on_subnet(other, inbound=default)), udp_in(), outside=True) == expected


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (AccessRule(1, "inbound", "deny"), True),
        (AccessRule(1, "outbound", "deny"), False),
        (AccessRule(1, "inbound", "deny", "udp"), True),
        (AccessRule(1, "inbound", "deny", 17), True),
        (AccessRule(1, "inbound", "deny", "tcp"), False),
        (AccessRule(1, "inbound", "deny", source_prefix="157.1.0.0/16"), True),
        (AccessRule(1, "inbound", "deny", source_prefix="157.2.0.0/16"), False),
        (AccessRule(1, "inbound", "deny", destination_prefix="10.1.1.11/32"), True),
        (AccessRule(1, "inbound", "deny", destination_prefix="::/0"), False),
        (AccessRule(1, "inbound", "deny", source_ports="53"), True),
        (AccessRule(1, "inbound", "deny", source_ports="54-60"), False),
        (AccessRule(1, "inbound", "deny", "udp", destination_ports="0-65535"), True),
    ],
)
def test_a_rule_matches_all_that_it_names(rule: AccessRule, matches: bool) -> None:
    expected = "access_list_inbound" if matches else "forwarded"
    assert fate(make_world(on_subnet(rule)), udp_in(), outside=True) == expected


def test_a_rule_with_ports_matches_no_ping() -> None:
    rule = AccessRule(1, "inbound", "deny", destination_ports="0-65535")
    assert fate(make_world(on_subnet(rule)), IP(src=OUTSIDE, dst=VM) / ICMP(id=80), outside=True) == "forwarded"


def test_lists_on_the_subnet_and_on_the_address_must_both_allow() -> None:
    subnet = AccessControlList(
        "subnet", (AppliesTo(vsid=6001),), "deny", rules=(AccessRule(1, "inbound", "allow", "udp"),)
    )
    address = AccessControlList(
        "vm", (AppliesTo(customer_address=VM),), rules=(AccessRule(1, "inbound", "deny", "udp", source_ports="53"),)
    )
    world = make_world(with_lists(subnet, address))
    assert fate(world, udp_in(source_port=53), outside=True) == "access_list_inbound"
    assert fate(world, udp_in(source_port=54), outside=True) == "forwarded"
    assert fate(world, tcp_in(80), outside=True) == "access_list_inbound"


def test_the_senders_list_is_asked_before_the_receivers() -> None:
    inside = IP(src=VM, dst="10.1.6.21") / UDP()
    sender = AccessControlList("a", (AppliesTo(vsid=6001),), default_outbound="deny")
    receiver = AccessControlList("b", (AppliesTo(vsid=6002),), default_inbound="deny")
    assert fate(make_world(with_lists(sender, receiver)), inside) == "access_list_outbound"
    assert fate(make_world(with_lists(receiver)), inside) == "access_list_inbound"


def test_lists_hold_inside_one_subnet_too() -> None:
    assert fate(make_world(on_subnet(inbound="deny")), IP(src=VM, dst="10.1.1.12") / UDP()) == "access_list_inbound"


def test_the_list_of_a_next_hop_vm_is_asked_for_what_goes_through_it() -> None:
    guard = AccessControlList("guard", (AppliesTo(customer_address="10.1.6.21"),), default_inbound="deny")
    assert fate(make_world(with_lists(guard)), IP(src=VM, dst="172.16.0.1") / UDP()) == "access_list_inbound"


def test_a_domain_without_lists_remembers_nothing() -> None:
    later = IP(src=VM, dst=OUTSIDE, frag=5, proto=17) / Raw(bytes(8))
    assert fate(make_world(), later) == "forwarded"


def test_replies_of_an_allowed_flow_pass_and_others_do_not() -> None:
    world = make_world(on_subnet(inbound="deny"))
    assert fate(world, udp_in(), outside=True) == "access_list_inbound"
    assert fate(world, udp_out()) == "forwarded"
    assert fate(world, udp_in(), outside=True) == "forwarded"
    assert fate(world, udp_in(port=40001), outside=True) == "access_list_inbound"


def test_an_echo_reply_belongs_to_its_request() -> None:
    world = make_world(on_subnet(inbound="deny"))
    request, reply = ICMP(id=5, seq=1), ICMP(type=0, id=5, seq=1)
    assert fate(world, IP(src=OUTSIDE, dst=VM) / reply, outside=True) == "access_list_inbound"
    assert fate(world, IP(src=VM, dst=OUTSIDE) / request) == "forwarded"
    assert fate(world, IP(src=OUTSIDE, dst=VM) / reply, outside=True) == "forwarded"
    assert fate(world, IP(src=OUTSIDE, dst=VM) / ICMP(type=0, id=6), outside=True) == "access_list_inbound"


def test_an_ipv6_echo_reply_belongs_to_its_request() -> None:
    world = make_world(on_subnet(inbound="deny"))
    reply = IPv6(src="fd00:157::9", dst="fd00:1::11") / ICMPv6EchoReply(id=5)
    assert fate(world, reply, outside=True) == "access_list_inbound"
    assert fate(world, IPv6(src="fd00:1::11", dst="fd00:157::9") / ICMPv6EchoRequest(id=5)) == "forwarded"
    assert fate(world, reply, outside=True) == "forwarded"


def test_icmp_errors_of_an_allowed_flow_pass() -> None:
    world = make_world(on_subnet(inbound="deny"))
    about = bytes(udp_out())[:28]
    error = IP(src="157.1.0.1", dst=VM) / ICMP(type=3, code=3) / Raw(about)
    assert fate(world, error, outside=True) == "access_list_inbound"
    assert fate(world, udp_out()) == "forwarded"
    assert fate(world, error, outside=True) == "forwarded"
    short = IP(src="157.1.0.1", dst=VM) / ICMP(type=3, code=3) / Raw(about[:27])
    assert fate(world, short, outside=True) == "access_list_inbound"


def test_icmpv6_errors_of_an_allowed_flow_pass() -> None:
    world = make_world(on_subnet(inbound="deny"))
    flow = IPv6(src="fd00:1::11", dst="fd00:157::9") / UDP(sport=40000, dport=53)
    error = IPv6(src="fd00:157::1", dst="fd00:1::11") / ICMPv6DestUnreach() / Raw(bytes(flow))
    assert fate(world, error, outside=True) == "access_list_inbound"
    assert fate(world, flow) == "forwarded"
    assert fate(world, error, outside=True) == "forwarded"


def test_an_allowed_icmp_error_opens_nothing() -> None:
    world = make_world(on_subnet(AccessRule(1, "outbound", "allow"), inbound="deny"))
    error = IP(src=VM, dst=OUTSIDE) / ICMP(type=3, code=3) / Raw(bytes(udp_in()))
    assert fate(world, error) == "forwarded"
    back = IP(src=OUTSIDE, dst=VM) / ICMP(type=3, code=3) / Raw(bytes(28))
    assert fate(world, back, outside=True) == "access_list_inbound"


@pytest.mark.parametrize(
    ("packets", "seconds"),
    [
        ("udp", 180),
        ("other", 60),
        ("half open", 60),
        ("established", 7200),
        ("reset", 60),
    ],
)
def test_connections_are_forgotten_after_their_idle_time(packets: str, seconds: int) -> None:
    world = make_world(on_subnet(inbound="deny"))
    first: Packet = tcp_out(1234)
    reply: Packet = tcp_in(1234, "A")
    if packets == "udp":
        first, reply = udp_out(), udp_in()
    elif packets == "other":
        first, reply = (IP(src=a, dst=b, proto=132) / Raw(bytes(8)) for a, b in ((VM, OUTSIDE), (OUTSIDE, VM)))
    fate(world, first)
    if packets in ("established", "reset"):
        fate(world, tcp_in(1234, "SA"), outside=True)
    if packets == "reset":
        fate(world, tcp_out(1234, "R"))
    later = world.copy()
    world.clock = lambda: 1000.0 + seconds
    later.clock = lambda: 1000.5 + seconds
    assert fate(world, reply, outside=True) == "forwarded"
    assert fate(later, reply, outside=True) == "access_list_inbound"


def test_a_new_list_is_asked_about_old_connections_in_their_first_direction() -> None:
    world = make_world(on_subnet(inbound="deny"))
    fate(world, udp_out())
    no_dns = AccessRule(1, "outbound", "deny", "udp", destination_ports="53")
    world.change_policy(on_subnet(no_dns, inbound="allow"))
    assert fate(world, udp_in(), outside=True) == "access_list_outbound"
    assert fate(world, udp_in(), outside=True) == "forwarded", "forgotten, it is a flow of its own"


def test_an_old_connection_that_the_new_list_allows_goes_on() -> None:
    world = make_world(on_subnet(inbound="deny"))
    fate(world, udp_out())
    world.change_policy(on_subnet(AccessRule(1, "outbound", "allow", "udp"), inbound="deny", outbound="deny"))
    assert fate(world, udp_in(), outside=True) == "forwarded"
    assert fate(world, IP(src=VM, dst=OUTSIDE) / UDP(sport=1, dport=53)) == "forwarded"


def test_a_change_of_anything_but_lists_and_subnets_asks_nothing_anew() -> None:
    policy = on_subnet(inbound="deny")
    world = make_world(policy)
    fate(world, udp_out())
    blue = policy.routing_domains[0]
    routes = replace(policy, routing_domains=(replace(blue, customer_routes=()), *policy.routing_domains[1:]))
    world.change_policy(routes)
    assert world._state.connections.generation(blue.id) == 0
    renamed = replace(
        blue, virtual_subnets=blue.virtual_subnets[:2], customer_routes=(), lookup_records=blue.lookup_records[:-1]
    )
    world.change_policy(replace(policy, routing_domains=(renamed, *policy.routing_domains[1:])))
    assert world._state.connections.generation(blue.id) == 1


def fragments(number: int, port: int = 53) -> tuple[Packet, Packet]:
    first = IP(src=VM, dst=OUTSIDE, flags="MF", id=number) / UDP(sport=9, dport=port) / Raw(bytes(16))
    return first, IP(src=VM, dst=OUTSIDE, frag=3, id=number, proto=17) / Raw(bytes(8))


def test_later_fragments_pass_with_their_first_for_thirty_seconds() -> None:
    world = make_world(on_subnet())
    first, later = fragments(7)
    assert fate(world, later) == "fragment_unmatched"
    assert fate(world, first) == "forwarded"
    assert fate(world, later) == "forwarded"
    assert fate(world, fragments(8)[1]) == "fragment_unmatched"
    world.clock = lambda: 1031.0
    assert fate(world, later) == "fragment_unmatched"


def test_a_first_fragment_is_asked_with_its_ports() -> None:
    world = make_world(on_subnet(AccessRule(1, "outbound", "deny", "udp", destination_ports="53")))
    first, later = fragments(7)
    assert (fate(world, first), fate(world, later)) == ("access_list_outbound", "fragment_unmatched")
    assert fate(world, fragments(8, port=54)[0]) == "forwarded"


def test_ipv6_fragments_pass_with_their_first() -> None:
    world = make_world(on_subnet())
    header = IPv6(src="fd00:1::11", dst="fd00:157::9")
    later = header / IPv6ExtHdrFragment(offset=3, id=70000, nh=17) / Raw(bytes(8))
    assert fate(world, later) == "fragment_unmatched"
    assert fate(world, header / IPv6ExtHdrFragment(m=1, id=70000) / UDP() / Raw(bytes(16))) == "forwarded"
    assert fate(world, later) == "forwarded"


def test_connections_of_one_tenant_mean_nothing_to_another() -> None:
    policy = on_subnet(inbound="deny")
    red = replace(
        policy.routing_domains[1],
        access_control_lists=(AccessControlList("red", (AppliesTo(vsid=5001),), default_inbound="deny"),),
    )
    world = make_world(replace(policy, routing_domains=(policy.routing_domains[0], red)))
    assert fate(world, udp_out()) == "forwarded"
    assert world.process("x0", external(udp_in(), vlan=10)).reason == "access_list_inbound"
