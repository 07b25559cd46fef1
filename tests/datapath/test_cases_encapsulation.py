"""Into and out of tunnels, byte for byte: both encapsulations, both families, VLANs, marks, and IP rewrite."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from gateway.datapath.model.world import UnderlayHop
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.unit.model.support import (
    BLUE,
    CORPNET,
    GATEWAY,
    GATEWAY6,
    HOST,
    NEIGHBOUR,
    OWN_REWRITTEN,
    PROVIDER,
    RED,
    ROUTER,
    external,
    nvgre,
    tunnelled,
    underlay,
    vxlan,
)

pytestmark = needs_root
PEER = "02:00:00:00:0f:50"


def outer(provider_address: str, tos: int = 0, flow_label: int = 0) -> Packet:
    ethernet = Ether(dst=HOST, src=PROVIDER)
    if ":" in provider_address:
        return ethernet / IPv6(src=GATEWAY6, dst=provider_address, hlim=64, tc=tos, fl=flow_label)
    return ethernet / IP(src=GATEWAY, dst=provider_address, id=0, flags="DF", ttl=64, tos=tos)


def to_vm(vsid: int, mac: str, provider_address: str, encapsulation: str, inner: Packet, got: Packet) -> bytes:
    """The frame that must leave; its entropy, which is the gateway's to choose, is taken from the one that left."""
    label = got[IPv6].fl if ":" in provider_address else 0
    header = nvgre(vsid, got[GRE].key & 0xFF) if encapsulation == "nvgre" else vxlan(vsid, got[UDP].sport)
    return bytes(outer(provider_address, flow_label=label) / header / Ether(dst=mac, src=ROUTER) / inner)


@pytest.mark.parametrize(
    ("destination", "vsid", "mac", "provider_address", "encapsulation"),
    [
        ("10.1.1.11", 6001, "10:10:10:10:11:05", "192.168.1.10", "nvgre"),
        ("10.1.6.21", 6002, "10:10:10:10:16:21", "192.168.6.4", "vxlan"),
        ("10.1.6.22", 6002, "10:10:10:10:16:22", "fd00:99::10", "vxlan"),
        ("10.1.6.23", 6002, "10:10:10:10:16:23", "fd00:99::10", "nvgre"),
        ("fd00:1::11", 6001, "10:10:10:10:11:05", "192.168.1.10", "nvgre"),
        ("fd00:6::21", 6002, "10:10:10:10:16:21", "192.168.6.4", "vxlan"),
    ],
)
def test_corpnet_reaches_a_machine_in_the_encapsulation_of_its_record(
    gateway: Gateway, destination: str, vsid: int, mac: str, provider_address: str, encapsulation: str
) -> None:
    gateway.hold()

    def packet(ttl: int) -> Packet:
        header = (
            IPv6(src="fd00:157::9", dst=destination, hlim=ttl)
            if ":" in destination
            else IP(src="157.1.0.9", dst=destination, ttl=ttl)
        )
        return header / UDP(sport=4000, dport=53) / Raw(b"question")

    got = gateway.forwards("x0", external(packet(64)))
    assert bytes(got) == to_vm(vsid, mac, provider_address, encapsulation, packet(63), got)
    if encapsulation == "vxlan":
        assert got[UDP].sport >= 49152


@pytest.mark.parametrize("source", ["192.168.1.10", "fd00:99::10"], ids=["outer_ipv4", "outer_ipv6"])
@pytest.mark.parametrize("encapsulation", ["nvgre", "vxlan"])
@pytest.mark.parametrize("six", [False, True], ids=["inner_ipv4", "inner_ipv6"])
def test_a_machine_reaches_corpnet_out_of_either_encapsulation(
    gateway: Gateway, source: str, encapsulation: str, six: bool
) -> None:
    gateway.hold()

    def packet(ttl: int) -> Packet:
        header = (
            IPv6(src="fd00:1::11", dst="fd00:157::9", hlim=ttl)
            if six
            else IP(src="10.1.1.11", dst="157.1.0.9", ttl=ttl)
        )
        return header / TCP(sport=4000, dport=80) / Raw(b"hello")

    got = gateway.send("p0", tunnelled(packet(64), source=source, encapsulation=encapsulation))
    assert (got.action, got.interface, got.domain) == ("forwarded", "x0", BLUE)
    assert got.frame == bytes(Ether(dst=NEIGHBOUR, src=CORPNET) / packet(63))


def test_what_came_in_nvgre_leaves_in_vxlan_for_another_subnet(gateway: Gateway) -> None:
    gateway.hold()
    packet = IP(src="10.1.1.11", dst="10.1.6.21", ttl=7) / ICMP(id=5) / Raw(b"ping")
    got = gateway.forwards("p0", tunnelled(packet, encapsulation="nvgre"))
    packet[IP].ttl = 6
    assert bytes(got) == to_vm(6002, "10:10:10:10:16:21", "192.168.6.4", "vxlan", packet, got)


@pytest.mark.parametrize("flow_id", [0, 1, 0x5A, 0xFF])
def test_any_flow_id_is_accepted(gateway: Gateway, flow_id: int) -> None:
    gateway.hold()
    inner = Ether(dst=ROUTER, src="10:10:10:10:11:05") / IP(src="10.1.1.11", dst="157.1.0.9") / ICMP()
    frame = bytes(Ether(dst=PROVIDER, src=HOST) / IP(src="192.168.1.10", dst=GATEWAY) / nvgre(6001, flow_id) / inner)
    assert gateway.forwards("p0", frame)[IP].dst == "157.1.0.9"


def test_flows_differ_in_entropy_and_a_flow_keeps_its_own(gateway: Gateway) -> None:
    gateway.hold()
    ports: dict[int, set[int]] = {}
    keys: dict[int, set[int]] = {}
    for source_port in [*range(1000, 1200)] * 2:
        to_vxlan = IP(src="157.1.0.9", dst="10.1.6.21") / UDP(sport=source_port, dport=53)
        ports.setdefault(source_port, set()).add(gateway.forwards("x0", external(to_vxlan))[UDP].sport)
        to_nvgre = IP(src="157.1.0.9", dst="10.1.1.11") / UDP(sport=source_port, dport=53)
        keys.setdefault(source_port, set()).add(gateway.forwards("x0", external(to_nvgre))[GRE].key & 0xFF)
    assert all(len(each) == 1 for each in (*ports.values(), *keys.values()))
    assert len({each for found in ports.values() for each in found}) > 190
    assert len({each for found in keys.values() for each in found}) > 100


@pytest.mark.parametrize("check", [0, 1, 0xFFFF])
def test_the_outer_udp_checksum_is_not_looked_at(gateway: Gateway, check: int) -> None:
    gateway.hold()
    frame = bytearray(tunnelled(IP(src="10.1.1.11", dst="157.1.0.9") / ICMP(), encapsulation="vxlan"))
    frame[40:42] = check.to_bytes(2)
    assert gateway.send("p0", bytes(frame)).action == "forwarded"


def test_a_provider_vlan_is_taken_off_and_put_on(gateway: Gateway) -> None:
    hop = UnderlayHop("p1", 100, GATEWAY, HOST.replace(":", "-"), 1600)
    gateway.hold(underlay={**underlay(), "192.168.6.4": hop})
    untagged = tunnelled(IP(src="10.1.1.11", dst="10.1.6.21") / ICMP())
    tagged = untagged[:12] + bytes.fromhex("81000064") + untagged[12:]
    outcome = gateway.send("p1", tagged)
    assert (outcome.action, outcome.interface) == ("forwarded", "p1")
    assert outcome.frame is not None
    assert Ether(outcome.frame)[Dot1Q].vlan == 100
    assert Ether(outcome.frame).src == "02:00:00:00:0a:01"
    assert gateway.send("p1", untagged).action == "passed"


def test_one_port_is_in_both_roles(gateway: Gateway) -> None:
    gateway.hold(both_roles(), neighbours_known=False)
    out = gateway.send("p0", tunnelled(IP(src="10.1.1.11", dst="192.168.6.50") / ICMP()))
    assert (out.action, out.reason, out.interface) == ("dropped", "resolving", "p0")
    reply = bytes(Ether(dst=PROVIDER, src=PEER) / IP(src="192.168.6.50", dst="10.1.1.11") / ICMP(type=0))
    assert gateway.forwards("p0", reply)[GRE].key >> 8 == 6001
    tunnel = gateway.send("p0", tunnelled(IP(src="10.1.1.11", dst="10.1.1.12") / ICMP()))
    assert (tunnel.action, tunnel.interface) == ("forwarded", "p0")
    to_linux = gateway.send("p0", bytes(Ether(dst=PROVIDER, src=PEER) / IP(src="192.168.6.50", dst=GATEWAY) / TCP()))
    assert to_linux.action == "passed"


def both_roles() -> str:
    return """
routing_domains:
- id: 11111111-2222-3333-4444-000000000001
  name: blue
  virtual_subnets: [{vsid: 6001, prefixes: [10.1.1.0/24]}]
  lookup_records:
  - {vsid: 6001, customer_address: 10.1.1.11, mac: 10-10-10-10-11-05,
     provider_address: 192.168.1.10, encapsulation: nvgre}
  - {vsid: 6001, customer_address: 10.1.1.12, mac: 10-10-10-10-11-07, provider_address: 192.168.2.20}
  network_connections:
  - {name: same, type: l3, port: single, local_addresses: [192.168.6.9/24]}
"""


@pytest.mark.parametrize("dscp", ["uniform", "pipe"])
def test_the_outer_dscp_is_the_inner_one_only_in_the_uniform_model(gateway: Gateway, dscp: str) -> None:
    gateway.hold(dscp=dscp)
    got = gateway.forwards("x0", external(IP(src="157.1.0.9", dst="10.1.6.21", tos=0xB8) / ICMP()))
    assert got[IP].tos == (0xB8 if dscp == "uniform" else 0)
    assert got[VXLAN][IP].tos == 0xB8


@pytest.mark.parametrize(
    ("inner", "outside", "combined"),  # RFC 6040, figure 4
    [(0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, None)]
    + [(2, 0, 2), (2, 1, 1), (2, 2, 2), (2, 3, 3)]
    + [(1, 0, 1), (1, 1, 1), (1, 2, 1), (1, 3, 3)]
    + [(3, 0, 3), (3, 1, 3), (3, 2, 3), (3, 3, 3)],
)
@pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])
def test_congestion_marks_are_combined_as_rfc_6040_says(
    gateway: Gateway, inner: int, outside: int, combined: int | None, six: bool
) -> None:
    gateway.hold()
    packet = (
        IPv6(src="fd00:1::11", dst="fd00:157::9", tc=0xB8 | inner) / UDP()
        if six
        else IP(src="10.1.1.11", dst="157.1.0.9", tos=0xB8 | inner) / UDP()
    )
    frame = tunnelled(packet, tos=outside)
    if combined is None:
        assert gateway.drops("p0", frame) == "ecn_not_capable"
    else:
        got = gateway.forwards("p0", frame)
        assert (got[IPv6].tc if six else got[IP].tos) == 0xB8 | combined


def test_the_mark_goes_on_in_the_next_tunnel(gateway: Gateway) -> None:
    gateway.hold()
    got = gateway.forwards("p0", tunnelled(IP(src="10.1.1.11", dst="10.1.6.21", tos=2) / UDP(), tos=3))
    assert (got[IP].tos & 3, got[VXLAN][IP].tos & 3) == (3, 3)


@pytest.mark.parametrize(
    "payload", [TCP(sport=7, dport=8) / Raw(b"abc"), UDP(sport=7, dport=8) / Raw(b"abc"), ICMP() / Raw(b"abc")]
)
def test_rewrite_exchanges_addresses_and_checksums_follow(gateway: Gateway, payload: Packet) -> None:
    gateway.hold()
    incoming = Ether(dst=PROVIDER, src=PEER) / IP(src="192.168.50.1", dst=OWN_REWRITTEN, ttl=9) / payload
    outcome = gateway.send("p0", bytes(incoming))
    assert (outcome.action, outcome.interface, outcome.domain) == ("forwarded", "x0", BLUE)
    expected = Ether(dst=NEIGHBOUR, src=CORPNET) / IP(src="10.1.6.31", dst="10.1.6.99", ttl=8) / payload
    assert outcome.frame == bytes(expected)


def test_a_packet_leaves_rewritten_without_an_encapsulation(gateway: Gateway) -> None:
    gateway.hold()
    sender = {"vsid": 6002, "source": "192.168.6.4", "mac": "10:10:10:10:16:31"}
    packet = IP(src="10.1.6.31", dst="10.1.6.32", ttl=9) / UDP(sport=7, dport=8) / Raw(b"abc")
    got = gateway.send("p0", tunnelled(packet, **sender))
    expected = IP(src="192.168.50.1", dst="192.168.50.2", ttl=8) / UDP(sport=7, dport=8) / Raw(b"abc")
    assert got.frame == bytes(Ether(dst=HOST, src=PROVIDER) / expected)


def test_a_udp_checksum_that_was_left_out_stays_out(gateway: Gateway) -> None:
    gateway.hold()
    packet = IP(src="192.168.50.1", dst=OWN_REWRITTEN) / UDP(sport=7, dport=8, chksum=0) / Raw(b"abc")
    assert gateway.forwards("p0", bytes(Ether(dst=PROVIDER, src=PEER) / packet))[UDP].chksum == 0


def test_a_sender_without_a_rewrite_record_has_no_address_to_be_rewritten_to(gateway: Gateway) -> None:
    gateway.hold()
    frame = tunnelled(IP(src="10.1.1.11", dst="10.1.6.31") / ICMP())
    assert gateway.drops("p0", frame) == "rewrite_no_source"


def test_a_provider_address_that_stands_for_nobody_does_not_send_to_a_tenant(gateway: Gateway) -> None:
    gateway.hold()
    packet = IP(src="192.168.50.77", dst=OWN_REWRITTEN) / ICMP()
    assert gateway.drops("p0", bytes(Ether(dst=PROVIDER, src=PEER) / packet)) == "source_not_admitted"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda ip: setattr(ip, "options", [b"\1\1\1\1"]), "outer_options"),
        (lambda ip: setattr(ip, "frag", 1), "outer_fragment"),
        (lambda ip: setattr(ip, "flags", "MF"), "outer_fragment"),
        (lambda ip: setattr(ip, "len", 40), "malformed"),
        (lambda ip: setattr(ip, "len", 2000), "malformed"),
    ],
)
def test_an_outer_header_that_nobody_sends_is_refused(gateway: Gateway, spoil: object, reason: str) -> None:
    gateway.hold()
    frame = Ether(tunnelled(IP(src="10.1.1.11", dst="157.1.0.9") / ICMP()))
    del frame[IP].chksum, frame[IP].ihl, frame[IP].len
    spoil(frame[IP])
    assert gateway.drops("p0", bytes(frame)) == reason


def test_what_lies_behind_the_tunnels_end_does_not_go_on(gateway: Gateway) -> None:
    gateway.hold()
    frame = tunnelled(IP(src="10.1.1.11", dst="157.1.0.9") / ICMP())
    assert gateway.send("p0", frame + b"trailer").frame == gateway.send("p0", frame).frame


def test_red_in_ipv6_outside_is_still_reds(gateway: Gateway) -> None:
    gateway.hold()
    frame = tunnelled(IP(src="10.1.1.11", dst="10.1.1.12") / ICMP(), 5001, "fd00:99::10")
    outcome = gateway.send("p0", frame)
    assert (outcome.reason, outcome.domain) == ("source_not_admitted", RED)
