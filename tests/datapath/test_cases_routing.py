"""Where a packet goes: records, wildcards, routes, equal paths, limits, and what is refused on the way."""

from collections import Counter

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import GRE, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from gateway.policy.model import ConnectionRoute, CustomerRoute, LookupRecord, NetworkConnection
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.unit.model.support import BLUE_DOMAIN, CORPNET, NEIGHBOUR, RECORDS, changed, external, tunnelled

pytestmark = needs_root
CONNECTION = BLUE_DOMAIN.network_connections[0]


def from_blue(destination: str, **fields: object) -> bytes:
    return tunnelled(IP(src="10.1.1.11", dst=destination, **fields) / UDP(sport=7, dport=8))


def test_a_wildcard_catches_what_no_record_does(gateway: Gateway) -> None:
    known = LookupRecord(6003, "10.1.7.5", "10-10-10-10-17-05", "192.168.1.10", "nvgre")
    gateway.hold(changed(lookup_records=(*RECORDS, known)))
    caught = gateway.forwards("p0", from_blue("10.1.7.77"))
    assert (caught[IP].dst, caught[VXLAN].vni, caught[VXLAN].payload.dst) == (
        "192.168.6.4",
        6003,
        "10:10:10:10:17:00",
    )
    assert gateway.forwards("p0", from_blue("10.1.7.5"))[IP].dst == "192.168.1.10"


def test_where_no_wildcard_is_an_address_without_a_record_is_unreachable(gateway: Gateway) -> None:
    gateway.hold()
    reason, answer = gateway.objects("p0", from_blue("10.1.6.200"))
    assert reason == "no_record"
    assert (answer[GRE][ICMP].type, answer[GRE][ICMP].code) == (3, 1)


def test_a_customer_routes_next_hop_machine_gets_what_the_route_covers(gateway: Gateway) -> None:
    gateway.hold()
    got = gateway.forwards("p0", from_blue("172.16.3.4"))
    assert (got[VXLAN].vni, got[VXLAN].payload.dst, got[VXLAN][IP].dst) == (6002, "10:10:10:10:16:21", "172.16.3.4")


def test_of_two_routes_the_lower_metric_is_used(gateway: Gateway) -> None:
    gateway.hold()
    assert gateway.forwards("p0", from_blue("172.17.3.4"))[VXLAN].payload.dst == "10:10:10:10:16:22"


def test_the_longest_prefix_decides_before_any_metric(gateway: Gateway) -> None:
    routes = (
        CustomerRoute("172.16.0.0/12", "10.1.6.21", 0),
        CustomerRoute("172.16.5.0/24", "10.1.6.22", 900),
        CustomerRoute("172.16.5.9/32", "10.1.1.12", 901),
    )
    gateway.hold(changed(customer_routes=routes))
    macs = [
        gateway.forwards("p0", from_blue(each))[VXLAN].payload.dst
        for each in ("172.16.4.9", "172.16.5.8", "172.16.5.9")
    ]
    assert macs == ["10:10:10:10:16:21", "10:10:10:10:16:22", "10:10:10:10:11:07"]


def test_a_record_goes_before_a_longer_route(gateway: Gateway) -> None:
    routes = (*CONNECTION.routes, ConnectionRoute("10.1.6.21/32", "157.1.0.1"))
    connection = NetworkConnection("corpnet", "corpnet", CONNECTION.local_addresses, routes=routes)
    gateway.hold(changed(network_connections=(connection,)))
    assert gateway.forwards("p0", from_blue("10.1.6.21"))[VXLAN].vni == 6002


def test_equal_paths_share_the_flows_and_each_flow_keeps_to_one(gateway: Gateway) -> None:
    gateway.hold()
    paths = Counter()
    for port in range(300):
        packet = IP(src="10.1.1.11", dst="172.18.3.4") / UDP(sport=1000 + port, dport=8)
        first, again = (gateway.forwards("p0", tunnelled(packet)) for _ in range(2))
        assert first == again
        paths[inner_ethernet(first).dst] += 1
    assert set(paths) == {"10:10:10:10:16:21", "10:10:10:10:16:22", "10:10:10:10:16:23"}
    assert all(65 <= count <= 135 for count in paths.values()), paths


def inner_ethernet(frame: Packet) -> Packet:
    return frame[VXLAN].payload if VXLAN in frame else frame[GRE].payload


def test_fragments_of_a_packet_take_one_path(gateway: Gateway) -> None:
    gateway.hold()
    for identification in range(30):
        whole = IP(src="10.1.1.11", dst="172.18.3.4", id=identification)
        first = whole.copy() / UDP(sport=1000 + identification, dport=8) / Raw(bytes(64))
        first[IP].flags = "MF"
        rest = whole.copy() / Raw(bytes(64))
        rest[IP].frag, rest[IP].proto = 9, 17
        one, other = (inner_ethernet(gateway.forwards("p0", tunnelled(each))).dst for each in (first, rest))
        assert one == other


def test_a_default_route_leads_to_corpnets_router(gateway: Gateway) -> None:
    routes = (*CONNECTION.routes, ConnectionRoute("0.0.0.0/0", "157.1.0.1"), ConnectionRoute("::/0", "fd00:157::1"))
    connection = NetworkConnection("corpnet", "corpnet", CONNECTION.local_addresses, routes=routes)
    gateway.hold(changed(network_connections=(connection,)))
    got = gateway.forwards("p0", from_blue("8.8.8.8"))
    assert (got.src, got.dst, got[IP].dst) == (CORPNET, NEIGHBOUR, "8.8.8.8")
    six = tunnelled(IPv6(src="fd00:1::11", dst="2001:db8::1") / UDP())
    assert gateway.forwards("p0", six)[IPv6].dst == "2001:db8::1"


def test_a_packet_does_not_go_back_to_the_machine_it_came_from(gateway: Gateway) -> None:
    gateway.hold()
    own = tunnelled(IP(src="10.1.6.21", dst="172.16.3.4") / UDP(), 6002, "192.168.6.4", mac="10:10:10:10:16:21")
    assert gateway.drops("p0", own) == "hairpin"
    neighbours = tunnelled(IP(src="10.1.6.22", dst="172.16.3.4") / UDP(), 6002, "192.168.6.4", mac="10:10:10:10:16:22")
    assert gateway.send("p0", neighbours).action == "forwarded"


def test_a_packet_does_not_go_back_out_of_the_vlan_it_came_by(gateway: Gateway) -> None:
    gateway.hold()
    assert gateway.drops("x0", external(IP(src="157.1.0.9", dst="198.51.100.7") / UDP())) == "hairpin"


def test_one_connection_leads_to_another_of_the_same_domain(gateway: Gateway) -> None:
    world = gateway.hold()
    outcome = gateway.send("x0", external(IP(src="157.1.0.9", dst="10.50.0.7") / UDP()))
    assert (outcome.reason, outcome.interface) == ("resolving", "x1")
    assert world.neighbours.get(("x1", 30, "10.50.0.7")) is None


@pytest.mark.parametrize(
    ("destination", "encapsulation_overhead"),
    [("10.1.6.21", 50), ("10.1.1.11", 42), ("10.1.6.22", 70), ("10.1.6.23", 62)],
)
def test_what_no_longer_fits_into_a_tunnel_is_answered_with_the_size_that_does(
    gateway: Gateway, destination: str, encapsulation_overhead: int
) -> None:
    gateway.hold(mtu=1550, external_mtu=1600)
    fits = 1550 - encapsulation_overhead

    def of_size(size: int) -> bytes:
        return external(IP(src="157.1.0.9", dst=destination, flags="DF") / UDP() / Raw(bytes(size - 28)))

    assert gateway.send("x0", of_size(fits)).action == "forwarded"
    reason, answer = gateway.objects("x0", of_size(fits + 1))
    assert reason == "too_big"
    assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, fits)
    assert (answer[IP].src, answer[IP].dst) == ("157.1.0.254", "157.1.0.9")
    assert answer[IPerror].len == fits + 1


def test_an_ipv6_packet_that_does_not_fit_is_too_big(gateway: Gateway) -> None:
    gateway.hold(mtu=1550, external_mtu=1600)
    packet = IPv6(src="fd00:157::9", dst="fd00:6::21") / UDP() / Raw(bytes(1501 - 48))
    reason, answer = gateway.objects("x0", external(packet))
    assert (reason, answer[ICMPv6PacketTooBig].mtu) == ("too_big", 1500)


@pytest.mark.parametrize("size", [1600, 3000, 5000, 8950])
@pytest.mark.parametrize("destination", ["10.1.6.21", "10.1.1.11", "10.1.6.22", "fd00:6::21"])
def test_jumbo_frames_go_into_tunnels(gateway: Gateway, size: int, destination: str) -> None:
    gateway.hold(mtu=9100, external_mtu=9000)
    payload = bytes(n & 0xFF for n in range(size - (48 if ":" in destination else 28)))
    header = IPv6(src="fd00:157::9", dst=destination) if ":" in destination else IP(src="157.1.0.9", dst=destination)
    outcome = gateway.send("x0", external(header / UDP(sport=7, dport=8) / Raw(payload)))
    assert outcome.action == "forwarded"
    assert outcome.frame is not None
    assert outcome.frame.endswith(payload)


@pytest.mark.parametrize("size", [1600, 5000, 8950])
@pytest.mark.parametrize("encapsulation", ["nvgre", "vxlan"])
def test_jumbo_frames_come_out_of_tunnels(gateway: Gateway, size: int, encapsulation: str) -> None:
    gateway.hold(mtu=9100, external_mtu=9000)
    packet = (
        IP(src="10.1.1.11", dst="157.1.0.9") / UDP(sport=7, dport=8) / Raw(bytes(n % 251 for n in range(size - 28)))
    )
    got = gateway.send("p0", tunnelled(packet, encapsulation=encapsulation))
    packet[IP].ttl -= 1
    assert got.frame == bytes(Ether(dst=NEIGHBOUR, src=CORPNET) / packet)


@pytest.mark.parametrize("flags", ["S", "SA"])
@pytest.mark.parametrize(
    ("destination", "external_mtu", "most"),
    [("10.1.6.21", 9000, 1600 - 50 - 40), ("10.1.1.11", 9000, 1600 - 42 - 40), ("10.1.6.21", 1500, 1460)],
)
def test_a_syns_segment_size_is_clamped_to_what_the_tunnel_leaves(
    gateway: Gateway, flags: str, destination: str, external_mtu: int, most: int
) -> None:
    gateway.hold(external_mtu=external_mtu)
    for before in ([], [("NOP", None)], [("WScale", 7), ("NOP", None), ("NOP", None), ("NOP", None)]):
        tcp = TCP(flags=flags, options=[*before, ("MSS", 8960)])
        got = gateway.forwards("x0", external(IP(src="157.1.0.9", dst=destination) / tcp))
        assert dict(inner_ethernet(got)[TCP].options)["MSS"] == most
    small = TCP(flags=flags, options=[("MSS", 536)])
    got = gateway.forwards("x0", external(IP(src="157.1.0.9", dst=destination) / small))
    assert dict(inner_ethernet(got)[TCP].options)["MSS"] == 536


@pytest.mark.parametrize("ttl", [0, 1])
def test_a_packet_at_the_end_of_its_life_is_answered_from_the_routers_address(gateway: Gateway, ttl: int) -> None:
    gateway.hold()
    reason, answer = gateway.objects("p0", from_blue("157.1.0.9", ttl=ttl))
    assert reason == "ttl_exceeded"
    inner = answer[GRE].payload
    assert (inner[IP].src, inner[IP].dst, inner[ICMP].type) == ("10.1.1.1", "10.1.1.11", 11)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (IP(src="127.0.0.1", dst="157.1.0.9") / UDP(), "martian_source"),
        (IP(src="0.0.0.0", dst="157.1.0.9") / UDP(), "martian_source"),
        (IP(src="224.0.0.1", dst="157.1.0.9") / UDP(), "martian_source"),
        (IP(src="255.255.255.255", dst="157.1.0.9") / UDP(), "martian_source"),
        (IP(src="10.1.1.11", dst="127.0.0.1") / UDP(), "martian_destination"),
        (IP(src="10.1.1.11", dst="0.0.0.0") / UDP(), "martian_destination"),
        (IP(src="10.1.1.11", dst="239.1.1.1") / UDP(), "broadcast"),
        (IP(src="10.1.1.11", dst="255.255.255.255") / UDP(), "broadcast"),
        (IP(src="10.1.1.11", dst="157.1.0.9", options=[b"\1\1\1\1"]) / UDP(), "ip_options"),
        (IPv6(src="::1", dst="fd00:157::9") / UDP(), "martian_source"),
        (IPv6(src="ff02::1", dst="fd00:157::9") / UDP(), "martian_source"),
        (IPv6(src="fd00:1::11", dst="::1") / UDP(), "martian_destination"),
        (IPv6(src="fd00:1::11", dst="ff02::1") / UDP(), "broadcast"),
        (IPv6(src="fe80::1", dst="fd00:157::9") / UDP(), "link_local"),
        (IPv6(src="fd00:1::11", dst="fe80::1") / UDP(), "link_local"),
        (IPv6(src="fd00:1::11", dst="fd00:157::9") / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest(), "extension_headers"),
    ],
)
def test_what_no_router_may_forward_is_dropped_without_an_answer(gateway: Gateway, packet: Packet, reason: str) -> None:
    gateway.hold()
    assert gateway.drops("p0", tunnelled(packet)) == reason


@pytest.mark.parametrize(
    ("router", "reason"),
    [("ff:ff:ff:ff:ff:ff", "broadcast"), ("01:00:5e:00:00:01", "broadcast"), ("02:00:00:00:00:99", "not_router_mac")],
)
def test_an_inner_frame_for_somebody_else_is_not_routed(gateway: Gateway, router: str, reason: str) -> None:
    gateway.hold()
    assert gateway.drops("p0", tunnelled(IP(src="10.1.1.11", dst="157.1.0.9") / UDP(), router=router)) == reason


def test_a_way_that_linux_does_not_know_is_a_named_drop(gateway: Gateway) -> None:
    gateway.hold()
    assert gateway.drops("p0", from_blue("10.1.6.24")) == "underlay_unresolved"


def test_what_is_not_for_us_stays_linuxs(gateway: Gateway) -> None:
    gateway.hold()
    frame = external(IP(src="157.1.0.9", dst="10.1.1.11") / UDP(), destination="02:00:00:00:0e:77")
    assert gateway.send("x0", frame).action == "passed"
    ssh = Ether(dst="02:00:00:00:0a:00") / IP(src="192.168.6.9", dst="192.168.6.2") / TCP(dport=22)
    assert gateway.send("p0", bytes(ssh)).action == "passed"
    transit = Ether(dst="02:00:00:00:0a:00") / IP(src="192.168.6.9", dst="192.168.200.1") / TCP(dport=22)
    assert gateway.send("p0", bytes(transit)).action == "passed"
