"""The way out: limits, MSS, hairpins, rewrite, and a property that no packet may break."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from gateway.datapath.model.world import World
from tests.unit.model.support import (
    FORGED,
    HOST,
    NEIGHBOUR,
    OWN_REWRITTEN,
    PROVIDER,
    assert_checksums,
    corpnet_on,
    external,
    forwarded,
    make_world,
    sent,
    tunnelled,
)

PEER = "02:00:00:00:0f:50"


def syn_in(options: list[tuple[str, object]], flags: str = "S", destination: str = "10.1.1.11") -> Packet:
    return IP(src="157.1.0.9", dst=destination) / TCP(sport=9, dport=80, flags=flags, options=options)


def mss(frame: Packet) -> object:
    return dict(frame[TCP].options).get("MSS")


@pytest.mark.parametrize("before", [[], [("NOP", None)], [("NOP", None)] * 3, [("WScale", 7), ("NOP", None)]])
@pytest.mark.parametrize("flags", ["S", "SA"])
def test_a_syns_mss_is_lowered_to_what_both_sides_leave(before: list[tuple[str, object]], flags: str) -> None:
    packet = syn_in([*before, ("MSS", 8960)], flags, "10.1.6.21")
    assert mss(forwarded(make_world(external_mtu=9000), "x0", external(packet))) == 1600 - 50 - 40
    assert mss(forwarded(make_world(external_mtu=1500), "x0", external(packet))) == 1500 - 40


def test_an_ipv6_syns_mss_leaves_room_for_the_longer_header() -> None:
    packet = IPv6(src="fd00:157::9", dst="fd00:6::21") / TCP(flags="S", options=[("MSS", 8940)])
    assert mss(forwarded(make_world(external_mtu=9000), "x0", external(packet))) == 1600 - 50 - 60


def test_the_ingress_sides_tunnel_counts() -> None:
    packet = IP(src="10.1.1.11", dst="157.1.0.9") / TCP(flags="S", options=[("MSS", 8960)])
    world = make_world(external_mtu=9000)
    assert mss(forwarded(world, "p0", tunnelled(packet))) == 1600 - 42 - 40
    assert mss(forwarded(world, "p0", tunnelled(packet, encapsulation="vxlan"))) == 1600 - 50 - 40
    assert mss(forwarded(world, "p0", tunnelled(packet, source="fd00:99::10"))) == 1600 - 62 - 40


@pytest.mark.parametrize("value", [536, 1460])
def test_a_small_mss_is_left_alone(value: int) -> None:
    assert mss(forwarded(make_world(), "x0", external(syn_in([("MSS", value)])))) == value


def test_only_a_syn_is_changed() -> None:
    frame = forwarded(make_world(), "x0", external(syn_in([("MSS", 8960)], "A")))
    assert mss(frame) == 8960


@pytest.mark.parametrize(
    "options",
    [
        b"\1" * 10 + b"\2\4\x23\x00\0\0",
        b"\0\1\1\1\2\4\x23\x00",
        b"\3\1\2\4\x23\x00\0\0",
        b"\2\3\x23\2\4\0",
        b"\1\1\1\2",
    ],
    ids=["behind ten steps", "behind the end", "behind a length of one", "of another length", "cut off"],
)
def test_an_mss_option_that_cannot_be_reached_is_left_alone(options: bytes) -> None:
    options += bytes(-len(options) % 4)
    header = bytes(TCP(sport=9, dport=80, flags="S", dataofs=5 + len(options) // 4))
    packet = IP(src="157.1.0.9", dst="10.1.1.11", proto=6) / Raw(header + options)
    out = make_world().process("x0", external(packet)).frame
    assert out is not None
    assert out.endswith(header + options)


def test_a_tcp_header_that_claims_more_than_there_is_is_left_alone() -> None:
    header = bytes(TCP(sport=9, dport=80, flags="S", dataofs=15)) + b"\2\4\x23\x00"
    out = make_world().process("x0", external(IP(src="157.1.0.9", dst="10.1.1.11", proto=6) / Raw(header))).frame
    assert out is not None
    assert out.endswith(header)


def test_the_vm_behind_a_route_may_send_what_is_not_its_own() -> None:
    packet = IP(src="172.16.0.1", dst="10.1.1.11") / ICMP()
    frame = tunnelled(packet, 6002, "192.168.6.4", "vxlan", mac="10:10:10:10:16:21")
    assert make_world().process("p0", frame).action == "forwarded"


def rewritten(packet: Packet | bytes) -> bytes:
    return bytes(Ether(dst=PROVIDER, src=PEER) / packet)


@pytest.mark.parametrize(
    "above", [TCP(sport=5, dport=80), UDP(sport=5, dport=80) / Raw(b"abc"), UDP(chksum=0) / Raw(b"abc"), ICMP(id=4)]
)
def test_rewritten_packets_leave_with_customer_addresses(above: Packet) -> None:
    packet = IP(src="192.168.50.1", dst=OWN_REWRITTEN, id=5) / above
    frame = forwarded(make_world(), "p0", rewritten(packet))
    assert (frame[IP].src, frame[IP].dst, frame[IP].ttl, frame.dst) == ("10.1.6.31", "10.1.6.99", 63, NEIGHBOUR)
    if UDP in packet and above.chksum == 0:
        assert frame[UDP].chksum == 0


@pytest.mark.parametrize("above", [TCP(sport=5, dport=80), UDP(sport=5, dport=80) / Raw(b"abc"), ICMP(id=4)])
def test_packets_to_a_rewritten_address_leave_with_provider_addresses(above: Packet) -> None:
    packet = IP(src="10.1.6.99", dst="10.1.6.31", id=5, tos=2) / above
    frame = forwarded(make_world(), "x0", external(packet))
    assert bytes(frame)[:14] == bytes(Ether(dst=HOST, src=PROVIDER, type=0x0800))
    assert (frame[IP].src, frame[IP].dst, frame[IP].ttl, frame[IP].tos) == (OWN_REWRITTEN, "192.168.50.1", 63, 2)


def test_rewrite_and_encapsulation_meet_at_the_gateway() -> None:
    packet = IP(src="10.1.6.32", dst="10.1.6.31") / UDP(sport=1, dport=2)
    frame = tunnelled(packet, 6002, "192.168.6.4", "vxlan", mac="10:10:10:10:16:32")
    out = forwarded(make_world(), "p0", frame)
    assert (out[IP].src, out[IP].dst) == ("192.168.50.2", "192.168.50.1")


@pytest.mark.parametrize("source", ["192.168.50.77", "192.168.1.10", "8.8.8.8"])
def test_a_rewritten_packet_of_unknown_source_is_not_admitted(source: str) -> None:
    packet = IP(src=source, dst=OWN_REWRITTEN) / UDP()
    assert make_world().process("p0", rewritten(packet)).reason == "source_not_admitted"


def test_senders_of_rewritten_packets_are_not_told() -> None:
    verdict = make_world().process("p0", rewritten(IP(src="192.168.50.1", dst=OWN_REWRITTEN, ttl=1) / UDP()))
    assert (verdict.reason, verdict.frame) == ("ttl_exceeded", None)


def test_a_rewritten_mtu_is_the_provider_networks() -> None:
    world = make_world(external_mtu=3000)
    fits = IP(src="10.1.6.99", dst="10.1.6.31") / UDP() / Raw(bytes(1600 - 28))
    assert world.process("x0", external(fits)).action == "forwarded"
    longer = IP(src="10.1.6.99", dst="10.1.6.31") / UDP() / Raw(bytes(1600 - 27))
    assert sent(world.process("x0", external(longer)))[ICMP].nexthopmtu == 1600


def test_a_tunnel_to_a_rewritten_address_of_ours_is_still_a_tunnel() -> None:
    frame = bytearray(tunnelled(IP(src="10.1.1.11", dst="157.1.0.9") / ICMP()))
    frame[30:34] = bytes((192, 168, 6, 3))
    assert make_world().process("p0", bytes(frame)).action == "forwarded"


def test_a_broken_ip_checksum_is_not_mended() -> None:
    packet = bytearray(bytes(IP(src="10.1.1.11", dst="157.1.0.9", ttl=9) / UDP() / Raw(b"abc")))
    packet[11] ^= 1
    out = make_world().process("p0", tunnelled(IP(bytes(packet)))).frame
    assert out is not None
    with pytest.raises(AssertionError):
        assert_checksums(out)


def test_ipv6_keeps_its_flow_label_and_loses_one_hop() -> None:
    packet = IPv6(src="fd00:1::11", dst="fd00:157::9", tc=0xB8, fl=0xABCDE, hlim=2) / ICMPv6EchoRequest()
    out = forwarded(make_world(), "p0", tunnelled(packet))
    assert (out[IPv6].tc, out[IPv6].fl, out[IPv6].hlim) == (0xB8, 0xABCDE, 1)


def corpnet_world(port: str, vlan: int = 0) -> World:
    world = make_world(corpnet_on(port, vlan))
    world.assume_neighbours = True
    return world


@pytest.mark.parametrize("packet", FORGED.values(), ids=FORGED)
def test_no_tenant_speaks_to_hosts_as_a_host_where_corpnet_is_on_their_link(packet: Packet) -> None:
    verdict = corpnet_world("single").process("p0", tunnelled(packet))
    assert (verdict.action, verdict.reason, verdict.frame) == ("dropped", "martian_destination", None)


@pytest.mark.parametrize("packet", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize(("port", "vlan"), [("corpnet", 0), ("single", 20)])
def test_tunnels_of_a_tenants_own_leave_where_there_are_no_hosts(packet: Packet, port: str, vlan: int) -> None:
    assert corpnet_world(port, vlan).process("p0", tunnelled(packet)).action == "forwarded"


@pytest.mark.parametrize(
    "packet",
    [
        IP(src="10.1.1.11", dst="192.168.77.7") / UDP(sport=4789, dport=53),
        IP(src="10.1.1.11", dst="192.168.77.7") / TCP(dport=4789),
        IP(src="10.1.1.11", dst="192.168.77.7") / ICMP(id=4789),
        IPv6(src="fd00:1::11", dst="fd00:77::7") / ICMPv6EchoRequest(id=4789),
    ],
)
def test_all_else_leaves_where_corpnet_is_on_the_hosts_link(packet: Packet) -> None:
    assert corpnet_world("single").process("p0", tunnelled(packet)).action == "forwarded"
