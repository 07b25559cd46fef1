"""NVGRE and VXLAN over IPv4 and IPv6: what comes out of them, and what is put in."""

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from gateway.datapath.model.world import UnderlayHop
from tests.unit.model.support import (
    CORPNET,
    GATEWAY,
    GATEWAY6,
    HOST,
    NEIGHBOUR,
    PROVIDER,
    ROUTER,
    external,
    forwarded,
    make_world,
    nvgre,
    outer_ip,
    sent,
    tunnelled,
    underlay,
    vxlan,
)

PING = IP(src="10.1.1.11", dst="157.1.0.9", ttl=64, tos=0x28, id=7) / ICMP(id=5) / Raw(b"abcdefgh")
PING6 = IPv6(src="fd00:1::11", dst="fd00:157::9", hlim=64, tc=0x28, fl=99) / ICMPv6EchoRequest(id=5)


def aged(packet: Packet, **fields: int) -> Packet:
    """The packet one hop further, checksums made anew by scapy."""
    aged_packet = packet.copy()
    if IPv6 in packet:
        aged_packet.hlim -= 1
    else:
        aged_packet.ttl -= 1
        aged_packet.chksum = None
    for name, value in fields.items():
        setattr(aged_packet, name, value)
    return aged_packet


@pytest.mark.parametrize("encapsulation", ["nvgre", "vxlan"])
@pytest.mark.parametrize("source", ["192.168.1.10", "fd00:99::10"])
@pytest.mark.parametrize("inner", [PING, PING6], ids=["ipv4", "ipv6"])
def test_a_tunnel_packet_leaves_to_corpnet_bare(encapsulation: str, source: str, inner: Packet) -> None:
    frame = forwarded(make_world(), "p0", tunnelled(inner, source=source, encapsulation=encapsulation))
    assert bytes(frame) == bytes(Ether(dst=NEIGHBOUR, src=CORPNET) / aged(inner))


@pytest.mark.parametrize("destination", ["10.1.1.11", "10.1.1.12", "10.1.6.22", "10.1.6.23"])
def test_a_packet_from_corpnet_leaves_in_its_records_encapsulation(destination: str) -> None:
    packet = IP(src="157.1.0.9", dst=destination, tos=0x28, id=3) / UDP(sport=53, dport=5353) / Raw(b"x" * 30)
    frame = forwarded(make_world(), "x0", external(packet))
    expected = {
        "10.1.1.11": (IP(src=GATEWAY, dst="192.168.1.10"), GRE, 6001, "10:10:10:10:11:05"),
        "10.1.1.12": (IP(src=GATEWAY, dst="192.168.2.20"), UDP, 6001, "10:10:10:10:11:07"),
        "10.1.6.22": (IPv6(src=GATEWAY6, dst="fd00:99::10"), UDP, 6002, "10:10:10:10:16:22"),
        "10.1.6.23": (IPv6(src=GATEWAY6, dst="fd00:99::10"), GRE, 6002, "10:10:10:10:16:23"),
    }
    outer, tunnel, vsid, mac = expected[destination]
    if IP in outer:
        outer.id, outer.flags, outer.ttl, outer.tos = 0, "DF", 64, 0x28
    else:
        outer.hlim, outer.tc, outer.fl = 64, 0x28, frame[IPv6].fl
    if tunnel is GRE:
        header = nvgre(vsid, frame[GRE].key & 0xFF)
    else:
        header = vxlan(vsid, frame[UDP].sport)
        assert 49152 <= frame[UDP].sport <= 65535
    inner = Ether(dst=mac, src=ROUTER) / aged(packet)
    assert bytes(frame) == bytes(Ether(dst=HOST, src=PROVIDER) / outer / header / inner)


@pytest.mark.parametrize("flow_id", [0, 1, 0x80, 0xFF])
def test_any_flow_id_is_accepted(flow_id: int) -> None:
    inner = Ether(dst=ROUTER, src="10:10:10:10:11:05") / PING
    frame = bytes(Ether(dst=PROVIDER, src=HOST) / outer_ip("192.168.1.10") / nvgre(6001, flow_id) / inner)
    assert make_world().process("p0", frame).action == "forwarded"


def test_a_nonzero_outer_udp_checksum_is_accepted() -> None:
    header = UDP(sport=50000, dport=4789) / VXLAN(vni=6001, flags=8)
    inner = Ether(dst=ROUTER, src="10:10:10:10:11:05") / PING
    frame = bytes(Ether(dst=PROVIDER, src=HOST) / outer_ip("fd00:99::10") / header / inner)
    assert make_world().process("p0", frame).action == "forwarded"


def test_vsid_to_vsid_goes_in_as_nvgre_and_out_as_vxlan() -> None:
    inner = IP(src="10.1.1.11", dst="10.1.6.21") / TCP(sport=1, dport=2, flags="A")
    frame = forwarded(make_world(), "p0", tunnelled(inner))
    assert frame[VXLAN].vni == 6002
    assert (frame[Ether].payload.dst, frame[VXLAN][Ether].dst) == ("192.168.6.4", "10:10:10:10:16:21")
    assert bytes(frame[VXLAN][Ether].payload) == bytes(aged(inner))


def test_the_entropy_is_the_flows() -> None:
    def entropy(port: int, payload: bytes) -> int:
        packet = IP(src="157.1.0.9", dst="10.1.1.12") / UDP(sport=port, dport=80) / Raw(payload)
        source_port: int = forwarded(make_world(), "x0", external(packet))[UDP].sport
        return source_port

    assert entropy(1000, b"a") == entropy(1000, b"bcd")
    assert len({entropy(port, b"a") for port in range(1000, 1020)}) > 10


def test_provider_vlans_are_read_and_written() -> None:
    hop = UnderlayHop("p1", 100, GATEWAY, "02-00-00-00-0F-01", 1600)
    world = make_world(underlay={**underlay(), "192.168.6.4": hop})
    inner = Ether(dst=ROUTER, src="10:10:10:10:11:05") / IP(src="10.1.1.11", dst="10.1.6.21") / ICMP()
    frame = bytes(Ether(dst=PROVIDER) / Dot1Q(vlan=100) / outer_ip("192.168.1.10") / nvgre(6001) / inner)
    verdict = world.process("p1", frame)
    assert verdict.interface == "p1"
    out = sent(verdict)
    assert (out.dst, out.src, out[Dot1Q].vlan, out[Dot1Q].prio) == ("02:00:00:00:0f:01", "02:00:00:00:0a:01", 100, 0)


def test_a_vlan_that_no_port_has_is_linuxs() -> None:
    inner = Ether(dst=ROUTER, src="10:10:10:10:11:05") / PING
    frame = bytes(Ether(dst=PROVIDER) / Dot1Q(vlan=101) / outer_ip("192.168.1.10") / nvgre(6001) / inner)
    assert make_world().process("p1", frame).action == "passed"


def test_padding_inside_the_tunnel_is_kept_and_behind_it_cut_off() -> None:
    inner = Ether(dst=ROUTER, src="10:10:10:10:11:05", type=0x0800) / Raw(bytes(PING) + b"pad")
    frame = bytes(Ether(dst=PROVIDER, src=HOST) / outer_ip("192.168.1.10") / nvgre(6001) / inner)
    out = make_world().process("p0", frame + b"trailer").frame
    assert out is not None
    assert out[14:] == bytes(aged(PING)) + b"pad"


def test_padding_from_corpnet_is_carried_into_the_tunnel() -> None:
    packet = IP(src="157.1.0.9", dst="10.1.1.11") / UDP(sport=1, dport=2)
    out = make_world().process("x0", external(packet) + b"padding-of-18-byte").frame
    assert out is not None
    assert out.endswith(b"padding-of-18-byte")
    assert Ether(out)[IP].len == len(out) - 14


@pytest.mark.parametrize(
    ("dscp", "inner", "outer"), [("uniform", 0xB8, 0xB8), ("pipe", 0xB8, 0), ("uniform", 0xBA, 0xBA), ("pipe", 0xBA, 2)]
)
def test_the_outer_dscp_is_a_setting_and_ecn_is_copied(dscp: str, inner: int, outer: int) -> None:
    packet = IP(src="157.1.0.9", dst="10.1.1.11", tos=inner) / ICMP()
    frame = forwarded(make_world(dscp=dscp), "x0", external(packet))
    assert frame[IP].tos == outer
    assert frame[GRE][IP].tos == inner
    packet6 = IPv6(src="fd00:157::9", dst="fd00:6::21", tc=inner) / ICMPv6EchoRequest()
    assert forwarded(make_world(dscp=dscp), "x0", external(packet6))[IP].tos == outer


# RFC 6040, figure 4: rows are the inner mark, columns the outer one; None is the drop.
NOT_ECT, ECT_1, ECT_0, CE = 0, 1, 2, 3
COMBINED: dict[int, dict[int, int | None]] = {
    NOT_ECT: {NOT_ECT: NOT_ECT, ECT_0: NOT_ECT, ECT_1: NOT_ECT, CE: None},
    ECT_0: {NOT_ECT: ECT_0, ECT_0: ECT_0, ECT_1: ECT_1, CE: CE},
    ECT_1: {NOT_ECT: ECT_1, ECT_0: ECT_1, ECT_1: ECT_1, CE: CE},
    CE: {NOT_ECT: CE, ECT_0: CE, ECT_1: CE, CE: CE},
}


@pytest.mark.parametrize("outer", range(4))
@pytest.mark.parametrize("inner", range(4))
@pytest.mark.parametrize("source", ["192.168.1.10", "fd00:99::10"])
def test_congestion_marks_are_combined_as_rfc_6040_says(inner: int, outer: int, source: str) -> None:
    expected = COMBINED[inner][outer]
    field: dict[str, Any] = {"tc": outer} if ":" in source else {"tos": outer}
    for packet in (aged(PING, tos=0x28 | inner), aged(PING6, tc=0x28 | inner)):
        verdict = make_world().process("p0", tunnelled(packet, source=source, **field))
        if expected is None:
            assert verdict.reason == "ecn_not_capable"
        else:
            out = sent(verdict)
            assert (out[IPv6].tc if IPv6 in out else out[IP].tos) == 0x28 | expected


@pytest.mark.parametrize("flags", [0x0000, 0xA000, 0x3000, 0x2001])
def test_other_gre_is_linuxs(flags: int) -> None:
    frame = bytearray(tunnelled(PING))
    frame[34:36] = flags.to_bytes(2)
    assert make_world().process("p0", bytes(frame)).action == "passed"


def test_a_vxlan_header_without_a_vni_is_malformed() -> None:
    frame = bytearray(tunnelled(PING, encapsulation="vxlan"))
    frame[42] = 0
    assert make_world().process("p0", bytes(frame)).reason == "malformed"


@pytest.mark.parametrize("encapsulation", ["nvgre", "vxlan"])
@pytest.mark.parametrize("source", ["192.168.1.10", "fd00:99::10"])
def test_a_tunnel_packet_cut_off_anywhere_does_not_leave(encapsulation: str, source: str) -> None:
    world, frame = make_world(), tunnelled(PING, source=source, encapsulation=encapsulation)
    for length in range(14, len(frame)):
        assert world.process("p0", frame[:length]).action in ("passed", "dropped"), length
        assert world.process("p0", frame[:length]).frame is None, length
