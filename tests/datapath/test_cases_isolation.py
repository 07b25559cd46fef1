"""No packet of one tenant reaches another, whatever addresses both of them use."""

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import GRE, Dot1Q
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.unit.model.support import BLUE, CORPNET, FORGED, NEIGHBOUR, RED, corpnet_on, external, make_world, tunnelled

pytestmark = needs_root

EQUAL = """
routing_domains:
- id: 11111111-2222-3333-4444-000000000001
  name: blue
  virtual_subnets: [{vsid: 6001, prefixes: [10.1.1.0/24, "fd00:1::/64"]}]
  lookup_records:
  - {vsid: 6001, customer_address: 10.1.1.11, mac: 10-10-10-10-11-05,
     provider_address: 192.168.1.10, encapsulation: nvgre}
  - {vsid: 6001, customer_address: 10.1.1.12, mac: 10-10-10-10-11-07,
     provider_address: 192.168.2.20, encapsulation: vxlan}
  - {vsid: 6001, customer_address: "fd00:1::12", mac: 10-10-10-10-11-07,
     provider_address: 192.168.2.20, encapsulation: vxlan}
  network_connections:
  - {name: corpnet, type: l3, port: corpnet, local_addresses: [157.1.0.254/16]}
- id: 11111111-2222-3333-4444-000000000002
  name: red
  virtual_subnets: [{vsid: 5001, prefixes: [10.1.1.0/24, "fd00:1::/64"]}]
  lookup_records:
  - {vsid: 5001, customer_address: 10.1.1.11, mac: 20-20-20-20-21-05,
     provider_address: 192.168.3.30, encapsulation: nvgre}
  - {vsid: 5001, customer_address: 10.1.1.12, mac: 20-20-20-20-21-07,
     provider_address: 192.168.2.20, encapsulation: vxlan}
  - {vsid: 5001, customer_address: "fd00:1::12", mac: 20-20-20-20-21-07,
     provider_address: 192.168.2.20, encapsulation: vxlan}
  network_connections:
  - {name: corpnet, type: l3, port: corpnet, vlan: 10, local_addresses: [157.1.0.254/16]}
"""
BLUE_VM, RED_VM = "10:10:10:10:11:05", "20:20:20:20:21:05"


def from_vm(domain: str, packet: object, **fields: object) -> bytes:
    if domain == BLUE:
        return tunnelled(packet, 6001, **{"source": "192.168.1.10", "mac": BLUE_VM, **fields})
    return tunnelled(packet, 5001, **{"source": "192.168.3.30", "mac": RED_VM, **fields})


@pytest.mark.parametrize(
    ("domain", "vsid", "mac"), [(BLUE, 6001, "10:10:10:10:11:07"), (RED, 5001, "20:20:20:20:21:07")]
)
@pytest.mark.parametrize("six", [False, True], ids=["ipv4", "ipv6"])
def test_each_tenant_reaches_its_own_machine_of_two_with_equal_addresses(
    gateway: Gateway, domain: str, vsid: int, mac: str, six: bool
) -> None:
    gateway.hold(EQUAL, underlay=everywhere())
    packet = (
        IPv6(src="fd00:1::11", dst="fd00:1::12") / ICMPv6EchoRequest()
        if six
        else IP(src="10.1.1.11", dst="10.1.1.12") / ICMP()
    )
    frame = gateway.forwards("p0", from_vm(domain, packet))
    assert frame[VXLAN].vni == vsid
    assert frame[VXLAN].payload.dst == mac


def test_red_cannot_reach_blue_with_equal_addresses(gateway: Gateway) -> None:
    gateway.hold()
    to_what_only_blue_has = IP(src="10.1.1.11", dst="10.1.6.21") / ICMP()
    assert gateway.forwards("p0", from_vm(BLUE, to_what_only_blue_has))[VXLAN].vni == 6002
    reason, answer = gateway.objects("p0", from_vm(RED, to_what_only_blue_has))
    assert reason == "no_route"
    assert answer[GRE].key >> 8 == 5001


@pytest.mark.parametrize(("vsid", "host"), [(5001, "192.168.1.10"), (6001, "192.168.3.30")])
def test_a_host_of_one_tenant_cannot_send_as_another(gateway: Gateway, vsid: int, host: str) -> None:
    gateway.hold(EQUAL, underlay=everywhere())
    frame = tunnelled(IP(src="10.1.1.11", dst="10.1.1.12") / ICMP(), vsid, host)
    outcome = gateway.send("p0", frame)
    assert (outcome.reason, outcome.domain) == ("source_not_admitted", RED if vsid == 5001 else BLUE)
    assert outcome.frame is None


@pytest.mark.parametrize("vsid", [0, 1, 4095, 5000, 5002, 6000, 1 << 23, (1 << 24) - 1])
@pytest.mark.parametrize("encapsulation", ["nvgre", "vxlan"])
def test_a_vsid_of_nobody_belongs_to_nobody(gateway: Gateway, vsid: int, encapsulation: str) -> None:
    gateway.hold(EQUAL, underlay=everywhere())
    frame = tunnelled(IP(src="10.1.1.11", dst="10.1.1.12") / ICMP(), vsid, encapsulation=encapsulation)
    outcome = gateway.send("p0", frame)
    assert (outcome.reason, outcome.domain, outcome.frame) == ("unknown_vsid", None, None)


@pytest.mark.parametrize(("vlan", "domain", "vsid"), [(0, BLUE, 6001), (10, RED, 5001)])
def test_the_vlan_of_an_external_port_decides_whose_packet_it_is(
    gateway: Gateway, vlan: int, domain: str, vsid: int
) -> None:
    gateway.hold(EQUAL, underlay=everywhere())
    outcome = gateway.send("x0", external(IP(src="157.1.0.9", dst="10.1.1.11") / ICMP(), vlan))
    assert (outcome.action, outcome.domain) == ("forwarded", domain)
    frame = gateway.forwards("x0", external(IP(src="157.1.0.9", dst="10.1.1.11") / ICMP(), vlan))
    assert frame[GRE].key >> 8 == vsid


@pytest.mark.parametrize(("domain", "vlan"), [(BLUE, 0), (RED, 10)])
def test_each_tenant_leaves_by_its_own_vlan(gateway: Gateway, domain: str, vlan: int) -> None:
    gateway.hold(EQUAL, underlay=everywhere())
    frame = gateway.forwards("p0", from_vm(domain, IP(src="10.1.1.11", dst="157.1.0.9") / ICMP()))
    assert (frame[Dot1Q].vlan if Dot1Q in frame else 0) == vlan
    assert frame.src == CORPNET


@pytest.mark.parametrize("vlan", [20, 4094])
def test_a_vlan_of_nobody_is_linuxs(gateway: Gateway, vlan: int) -> None:
    gateway.hold(EQUAL, underlay=everywhere())
    outcome = gateway.send("x0", external(IP(src="157.1.0.9", dst="10.1.1.11") / ICMP(), vlan))
    assert (outcome.action, outcome.domain) == ("passed", None)


def test_a_tunnel_is_not_opened_on_an_external_port(gateway: Gateway) -> None:
    gateway.hold(EQUAL, underlay=everywhere())
    frame = from_vm(RED, IP(src="10.1.1.11", dst="10.1.1.12") / ICMP())
    from_outside = bytes.fromhex(CORPNET.replace(":", "")) + frame[6:]
    outcome = gateway.send("x0", from_outside)
    assert (outcome.action, outcome.domain) == ("dropped", BLUE)
    assert outcome.reason == "no_route"


def test_no_tunnel_in_a_tunnel_leads_to_another_tenant(gateway: Gateway) -> None:
    gateway.hold(EQUAL, underlay=everywhere())
    reds = tunnelled(IP(src="10.1.1.11", dst="10.1.1.12") / ICMP(), 5001, "192.168.3.30", mac=RED_VM)
    outcome = gateway.send("p0", from_vm(BLUE, IP(reds[14:])))
    assert (outcome.reason, outcome.domain) == ("no_route", BLUE)


@pytest.mark.parametrize("packet", FORGED.values(), ids=FORGED)
def test_no_tenant_speaks_to_hosts_as_a_host_where_corpnet_is_on_their_link(gateway: Gateway, packet: Packet) -> None:
    gateway.hold(corpnet_on("single"), neighbours_known=False)
    assert gateway.drops("p0", tunnelled(packet)) == "martian_destination"
    gateway.hold(corpnet_on("corpnet"))
    assert gateway.forwards("p0", tunnelled(packet)).dst == NEIGHBOUR


def everywhere() -> dict[str, object]:
    """A way to every host of the document above."""
    known = make_world().underlay
    return {address: known[address] for address in ("192.168.1.10", "192.168.2.20", "192.168.3.30")}
