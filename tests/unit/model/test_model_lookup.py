"""Where packets go: exact records, longest prefixes, metrics, equal routes, wildcards."""

from collections import Counter

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from gateway.datapath.model import flow, ip
from gateway.datapath.model.flow import flow_hash
from gateway.policy.model import CustomerRoute, LookupRecord
from tests.unit.model.support import (
    BLUE,
    BLUE_DOMAIN,
    RECORDS,
    RED,
    changed,
    external,
    forwarded,
    make_world,
    tunnelled,
)


def udp_to(destination: str, port: int = 1000) -> bytes:
    return tunnelled(IP(src="10.1.1.11", dst=destination) / UDP(sport=port, dport=80))


def inner_destination(frame: Packet) -> tuple[str, int]:
    """The MAC and VSID that a packet leaves for."""
    if VXLAN in frame:
        return frame[VXLAN][Ether].dst, frame[VXLAN].vni
    return frame[GRE][Ether].dst, frame[GRE].key >> 8


def test_equal_addresses_lead_to_each_tenants_own_vm() -> None:
    world = make_world()
    blue = forwarded(world, "p0", tunnelled(IP(src="10.1.1.11", dst="10.1.1.12") / ICMP()))
    red_frame = tunnelled(IP(src="10.1.1.11", dst="10.1.1.12") / ICMP(), 5001, "192.168.3.30", mac="20:20:20:20:21:05")
    red = forwarded(world, "p0", red_frame)
    assert inner_destination(blue) == ("10:10:10:10:11:07", 6001)
    assert inner_destination(red) == ("20:20:20:20:21:07", 5001)


def test_equal_corpnet_prefixes_on_two_vlans_lead_to_each_tenants_own_vm() -> None:
    world, packet = make_world(), IP(src="157.1.0.9", dst="10.1.1.11") / ICMP()
    assert world.process("x0", external(packet)).domain == BLUE
    assert world.process("x0", external(packet, vlan=10)).domain == RED
    frame = tunnelled(IP(src="10.1.1.11", dst="157.1.0.9") / ICMP(), 5001, "192.168.3.30")
    assert forwarded(world, "p0", frame)[Dot1Q].vlan == 10


def test_red_has_no_way_to_addresses_that_only_blue_has() -> None:
    frame = tunnelled(IP(src="10.1.1.11", dst="10.1.6.21") / ICMP(), 5001, "192.168.3.30")
    assert make_world().process("p0", frame).reason == "no_route"


def test_a_customer_route_leads_to_its_next_hop() -> None:
    assert inner_destination(forwarded(make_world(), "p0", udp_to("172.16.9.9"))) == ("10:10:10:10:16:21", 6002)


def test_the_longest_prefix_and_then_the_lowest_metric_win() -> None:
    assert inner_destination(forwarded(make_world(), "p0", udp_to("172.17.9.9"))) == ("10:10:10:10:16:22", 6002)


def test_equal_routes_share_by_flow() -> None:
    world = make_world()
    chosen = Counter(
        inner_destination(forwarded(world, "p0", udp_to("172.18.0.1", port)))[0] for port in range(1000, 1300)
    )
    assert set(chosen) == {"10:10:10:10:16:21", "10:10:10:10:16:22", "10:10:10:10:16:23"}
    assert min(chosen.values()) > 60
    first = forwarded(world, "p0", udp_to("172.18.0.1", 1000))
    assert inner_destination(forwarded(world, "p0", udp_to("172.18.0.1", 1000))) == inner_destination(first)


def test_a_route_without_a_resolved_next_hop_does_not_count() -> None:
    routes = (*BLUE_DOMAIN.customer_routes, CustomerRoute("172.16.9.0/24", "10.1.6.250"))
    world = make_world(changed(customer_routes=routes))
    assert inner_destination(forwarded(world, "p0", udp_to("172.16.9.9"))) == ("10:10:10:10:16:21", 6002)


def test_an_on_link_customer_route_is_the_virtual_subnets_own() -> None:
    routes = (CustomerRoute("10.1.6.0/24", vsid=6002), CustomerRoute("10.1.6.0/24", "10.1.1.12"))
    world = make_world(changed(customer_routes=routes))
    verdicts = [world.process("p0", udp_to("10.1.6.201", port)) for port in range(200)]
    without_record = sum(verdict.reason == "no_record" for verdict in verdicts)
    assert 70 < without_record < 130


def test_a_more_specific_route_takes_an_address_out_of_its_subnet() -> None:
    verdict = make_world().process("p0", udp_to("10.1.1.77"))
    assert (verdict.action, verdict.interface) == ("forwarded", "x0")


def test_a_record_wins_over_a_route_to_its_address() -> None:
    record = LookupRecord(6001, "10.1.1.77", "10-10-10-10-11-77", "192.168.6.4")
    world = make_world(changed(lookup_records=(*RECORDS, record)))
    assert inner_destination(forwarded(world, "p0", udp_to("10.1.1.77"))) == ("10:10:10:10:11:77", 6001)


def test_a_record_that_names_the_gateway_leaves_the_way_to_the_routes() -> None:
    verdict = make_world().process("p0", udp_to("10.1.6.99"))
    assert (verdict.action, verdict.interface) == ("forwarded", "x0")


def test_a_router_address_wins_over_a_record_on_it() -> None:
    record = LookupRecord(6001, "10.1.1.1", "10-10-10-10-11-01", "192.168.6.4")
    world = make_world(changed(lookup_records=(*RECORDS, record)))
    frame = tunnelled(IP(src="10.1.1.11", dst="10.1.1.1") / ICMP())
    assert world.process("p0", frame).action == "answered"


def test_a_wildcard_takes_what_no_record_does() -> None:
    assert inner_destination(forwarded(make_world(), "p0", udp_to("10.1.7.200"))) == ("10:10:10:10:17:00", 6003)


def test_a_wildcard_is_of_one_family() -> None:
    subnets = (*BLUE_DOMAIN.virtual_subnets[:2], BLUE_DOMAIN.virtual_subnets[2].__class__(6003, ("fd00:7::/64",)))
    world = make_world(changed(virtual_subnets=subnets))
    frame = tunnelled(IPv6(src="fd00:1::11", dst="fd00:7::9") / UDP())
    assert world.process("p0", frame).reason == "no_record"


def test_a_packet_does_not_leave_where_it_came_from_outside() -> None:
    packet = IP(src="157.1.0.9", dst="157.1.0.1") / ICMP()
    assert make_world().process("x0", external(packet)).reason == "hairpin"


def test_two_vms_of_one_vsid_may_meet_at_the_gateway() -> None:
    assert make_world().process("p0", udp_to("10.1.1.12")).action == "forwarded"


def test_one_nic_serves_as_provider_and_external_port() -> None:
    connection = BLUE_DOMAIN.network_connections[0].__class__("single", "single", ("157.2.0.254/16",))
    world = make_world(changed(network_connections=(connection,)))
    world.neighbours["p0", 0, "157.2.0.9"] = "02-00-00-00-DD-01"
    out = world.process("p0", tunnelled(IP(src="10.1.1.11", dst="157.2.0.9") / ICMP()))
    assert (out.action, out.interface) == ("forwarded", "p0")
    back = external(IP(src="157.2.0.9", dst="10.1.1.11") / ICMP(), destination="02:00:00:00:0a:00")
    assert world.process("p0", back).action == "forwarded"


def test_all_addresses_of_a_host_and_those_that_vms_left_may_send() -> None:
    packet = IP(src="10.1.1.11", dst="157.1.0.9") / ICMP()
    world = make_world(also_admitted={BLUE: frozenset({"192.168.8.8"})})
    for source, action in (("192.168.1.110", "forwarded"), ("192.168.8.8", "forwarded"), ("192.168.8.9", "dropped")):
        assert world.process("p0", tunnelled(packet, source=source)).action == action
    world.change_policy(world.policy)
    assert world.process("p0", tunnelled(packet, source="192.168.8.8")).reason == "source_not_admitted"


def reference_hash(source: bytes, destination: bytes, protocol: int, source_port: int, destination_port: int) -> int:
    """The hash once more, in numpy's 32-bit arithmetic."""
    word = np.uint32
    with np.errstate(over="ignore"):
        h = word(0)
        for i, (one, other) in enumerate(
            zip(np.frombuffer(source, ">u4").astype(word), np.frombuffer(destination, ">u4").astype(word), strict=True)
        ):
            for value, by in ((one, 5 * i), (other, (16 + 5 * i) % 32)):
                rotated = word(value << word(by)) | (word(value >> word(32 - by)) if by else word(0))
                h ^= rotated
        h *= word(0x9E3779B1)
        h ^= word(source_port << 16 | destination_port) * word(0x85EBCA6B)
        h ^= word(protocol) * word(0xC2B2AE35)
        h ^= h >> word(15)
        h *= word(0x2C1B3C6D)
        h ^= h >> word(12)
        h *= word(0x297A2D39)
        return int(h ^ (h >> word(15)))


@pytest.mark.parametrize(
    "packet",
    [
        IP(src="10.1.1.11", dst="157.1.0.9") / UDP(sport=1234, dport=80),
        IP(src="200.255.3.4", dst="1.2.3.4") / ICMP(id=0xBEEF),
        IPv6(src="fd00:1::11", dst="2001:db8:1234:5678:9abc:def0:1111:ffff") / UDP(sport=65535, dport=1),
        IP(src="10.1.1.11", dst="157.1.0.9", proto=132) / Raw(bytes(8)),
    ],
)
def test_the_flow_hash_is_the_one_agreed_on(packet: Packet) -> None:
    parsed = ip.parse(0x86DD if IPv6 in packet else 0x0800, bytes(packet))
    ports = (packet.sport, packet.dport) if UDP in packet else (packet.id, packet.id)
    if ICMP in packet:
        ports = (packet[ICMP].id, packet[ICMP].id)
    elif UDP not in packet:
        ports = (0, 0)
    expected = reference_hash(parsed.source.packed, parsed.destination.packed, parsed.protocol, *ports)
    assert flow_hash(parsed) == expected
    assert flow.flow_hash(parsed) < 1 << 32


def test_all_fragments_of_a_packet_take_one_way() -> None:
    world = make_world()
    for number in range(40):
        first = IP(src="10.1.1.11", dst="172.18.0.1", flags="MF", id=number) / UDP(sport=number, dport=80)
        later = IP(src="10.1.1.11", dst="172.18.0.1", frag=1, id=number, proto=17) / Raw(bytes(16))
        ways = {inner_destination(forwarded(world, "p0", tunnelled(packet))) for packet in (first, later)}
        assert len(ways) == 1
