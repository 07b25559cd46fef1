"""A gateway with two tenants that use the same addresses, and packets for it made by scapy."""

from dataclasses import replace
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, _ICMPv6
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from gateway.configuration import Port
from gateway.datapath.model.verdict import Verdict
from gateway.datapath.model.world import Interface, UnderlayHop, World
from gateway.policy.model import (
    AccessControlList,
    ConnectionRoute,
    CustomerRoute,
    Host,
    LookupRecord,
    NetworkConnection,
    Policy,
    ProviderAddress,
    RoutingDomain,
    VirtualSubnet,
)

ROUTER = "00:1d:d8:b7:1c:00"
PROVIDER, CORPNET = "02:00:00:00:0a:00", "02:00:00:00:0e:00"
INTERNET = "02:00:00:00:01:01"
HOST, NEIGHBOUR = "02:00:00:00:0f:0f", "02:00:00:00:dd:01"
BLUE, RED = "11111111-2222-3333-4444-000000000001", "11111111-2222-3333-4444-000000000002"
GATEWAY, GATEWAY6 = "192.168.6.2", "fd00:99::2"
OWN_REWRITTEN = "192.168.6.3"

PORTS = (
    Port(
        name="provider",
        role="provider",
        interface="p0",
        addresses=("192.168.6.2/24", "192.168.6.3/24", "fd00:99::2/64"),
    ),
    Port(name="tagged", role="provider", interface="p1", vlan=100),
    Port(name="corpnet", role="external", interface="x0"),
    Port(name="single", role="external", interface="p0"),
    Port(name="vlan", role="external", interface="x1", vlan=30),
)
INTERNET_PORT = Port(
    name="internet",
    role="external",
    interface="i0",
    addresses=("198.51.100.1/24", "2001:db8:100::1/64"),
    gateways=("198.51.100.254", "2001:db8:100::fe"),
)

RECORDS = (
    LookupRecord(6001, "10.1.1.11", "10-10-10-10-11-05", "192.168.1.10", "nvgre"),
    LookupRecord(6001, "10.1.1.12", "10-10-10-10-11-07", "192.168.2.20", "vxlan"),
    LookupRecord(6001, "fd00:1::11", "10-10-10-10-11-05", "192.168.1.10", "nvgre"),
    LookupRecord(6002, "10.1.6.21", "10-10-10-10-16-21", "192.168.6.4", "vxlan"),
    LookupRecord(6002, "fd00:6::21", "10-10-10-10-16-21", "192.168.6.4", "vxlan"),
    LookupRecord(6002, "10.1.6.22", "10-10-10-10-16-22", "fd00:99::10", "vxlan"),
    LookupRecord(6002, "10.1.6.23", "10-10-10-10-16-23", "fd00:99::10", "nvgre"),
    LookupRecord(6002, "10.1.6.24", "10-10-10-10-16-24", "192.168.9.9", "vxlan"),
    LookupRecord(6002, "10.1.6.31", "10-10-10-10-16-31", "192.168.50.1", "rewrite"),
    LookupRecord(6002, "10.1.6.32", "10-10-10-10-16-32", "192.168.50.2", "rewrite"),
    LookupRecord(6002, "10.1.6.99", "10-10-10-10-16-99", OWN_REWRITTEN, "rewrite"),
    LookupRecord(6003, "0.0.0.0", "10-10-10-10-17-00", "192.168.6.4", "vxlan", "gateway_wildcard"),
)

BLUE_DOMAIN = RoutingDomain(
    id=BLUE,
    name="blue",
    virtual_subnets=(
        VirtualSubnet(6001, ("10.1.1.0/24", "fd00:1::/64")),
        VirtualSubnet(6002, ("10.1.6.0/24", "fd00:6::/64"), ("10.1.6.254",)),
        VirtualSubnet(6003, ("10.1.7.0/24",)),
    ),
    lookup_records=RECORDS,
    customer_routes=(
        CustomerRoute("172.16.0.0/12", "10.1.6.21"),
        CustomerRoute("172.17.0.0/16", "10.1.6.21", 10),
        CustomerRoute("172.17.0.0/16", "10.1.6.22", 5),
        CustomerRoute("172.18.0.0/16", "10.1.6.21"),
        CustomerRoute("172.18.0.0/16", "10.1.6.22"),
        CustomerRoute("172.18.0.0/16", "10.1.6.23"),
    ),
    network_connections=(
        NetworkConnection(
            "corpnet",
            "corpnet",
            ("157.1.0.254/16", "fd00:157::fe/64"),
            routes=(
                ConnectionRoute("157.1.0.0/16"),
                ConnectionRoute("198.51.100.0/24", "157.1.0.1"),
                ConnectionRoute("10.1.1.77/32", "157.1.0.1"),
                ConnectionRoute("fd00:1::77/128", "fd00:157::1"),
                ConnectionRoute("10.1.6.99/32", "157.1.0.1"),
            ),
        ),
        NetworkConnection("branch", "vlan", ("10.50.0.1/24",)),
    ),
)

RED_DOMAIN = RoutingDomain(
    id=RED,
    name="red",
    virtual_subnets=(VirtualSubnet(5001, ("10.1.1.0/24",)),),
    lookup_records=(
        LookupRecord(5001, "10.1.1.11", "20-20-20-20-21-05", "192.168.3.30", "nvgre"),
        LookupRecord(5001, "10.1.1.12", "20-20-20-20-21-07", "192.168.2.20", "nvgre"),
    ),
    network_connections=(NetworkConnection("corpnet", "corpnet", ("157.1.0.254/16",), vlan=10),),
)

POLICY = Policy(
    hosts=(Host("host1", (ProviderAddress("192.168.1.10", 24), ProviderAddress("192.168.1.110", 24))),),
    routing_domains=(BLUE_DOMAIN, RED_DOMAIN),
)

UNRESOLVED = "192.168.9.9"


def underlay(mtu: int = 1600) -> dict[str, UnderlayHop | None]:
    addresses = {record.provider_address for record in (*RECORDS, *RED_DOMAIN.lookup_records)}
    found: dict[str, UnderlayHop | None] = {UNRESOLVED: None}
    for address in addresses - {UNRESOLVED, OWN_REWRITTEN}:
        source = GATEWAY6 if ":" in address else GATEWAY
        found[address] = UnderlayHop("p0", 0, source, HOST.replace(":", "-"), mtu)
    return found


def make_world(
    policy: Policy = POLICY,
    *,
    mtu: int = 1600,
    external_mtu: int = 1500,
    ports: tuple[Port, ...] = PORTS,
    **settings: Any,
) -> World:
    """The gateway with its neighbours 157.1.0.1, 157.1.0.9 and fd00:157::1 known, at second 1,000."""
    settings.setdefault("underlay", underlay(mtu))
    interfaces = {
        "p0": Interface("p0", PROVIDER.replace(":", "-"), mtu),
        "p1": Interface("p1", "02-00-00-00-0A-01", mtu),
        "x0": Interface("x0", CORPNET.replace(":", "-"), external_mtu),
        "x1": Interface("x1", "02-00-00-00-0E-01", external_mtu),
        "i0": Interface("i0", INTERNET.replace(":", "-"), external_mtu),
    }
    world = World(policy, ports, ROUTER.replace(":", "-"), interfaces, **settings)
    world.clock = lambda: 1000.0
    for vlan in (0, 10):
        for address in ("157.1.0.1", "157.1.0.9", "fd00:157::1", "fd00:157::9"):
            world.neighbours["x0", vlan, address] = NEIGHBOUR.replace(":", "-").upper()
    for address in INTERNET_PORT.gateways if INTERNET_PORT in ports else ():
        world.neighbours["i0", 0, address] = NEIGHBOUR.replace(":", "-").upper()
    return world


def changed(domain: RoutingDomain = BLUE_DOMAIN, **fields: Any) -> Policy:
    """The policy with other fields in one of its domains."""
    others = tuple(one for one in POLICY.routing_domains if one.id != domain.id)
    return replace(POLICY, routing_domains=(replace(domain, **fields), *others))


def with_lists(*lists: AccessControlList) -> Policy:
    return changed(access_control_lists=lists)


def outer_ip(source: str, **fields: Any) -> Packet:
    if ":" in source:
        return IPv6(src=source, dst=GATEWAY6, **fields)
    return IP(src=source, dst=GATEWAY, **fields)


def nvgre(vsid: int, flow_id: int = 0x5A) -> Packet:
    return GRE(key_present=1, key=vsid << 8 | flow_id, proto=0x6558)


def vxlan(vsid: int, source_port: int = 50000) -> Packet:
    return UDP(sport=source_port, dport=4789, chksum=0) / VXLAN(vni=vsid, flags=0x08)


def tunnelled(
    inner: Packet | bytes,
    vsid: int = 6001,
    source: str = "192.168.1.10",
    encapsulation: str = "nvgre",
    mac: str = "10:10:10:10:11:05",
    router: str = ROUTER,
    **outer: Any,
) -> bytes:
    """A frame from a host: an inner IP packet (or anything else of scapy's) from the VM with `mac`."""
    header = nvgre(vsid) if encapsulation == "nvgre" else vxlan(vsid)
    return bytes(
        Ether(dst=PROVIDER, src=HOST) / outer_ip(source, **outer) / header / Ether(dst=router, src=mac) / inner
    )


def external(packet: Packet | bytes, vlan: int = 0, destination: str = CORPNET) -> bytes:
    """A frame from a neighbour on CorpNet."""
    tag = Dot1Q(vlan=vlan) if vlan else None
    header = Ether(dst=destination, src=NEIGHBOUR)
    return bytes(header / tag / packet if tag else header / packet)


def forwarded(world: World, interface: str, frame: bytes) -> Packet:
    """The frame that leaves, read by scapy; fails unless one is forwarded."""
    verdict = world.process(interface, frame)
    assert verdict.action == "forwarded", verdict
    return sent(verdict)


def sent(verdict: Verdict) -> Packet:
    assert verdict.frame is not None, verdict
    assert_checksums(verdict.frame)
    return Ether(verdict.frame)


def assert_checksums(frame: bytes) -> None:
    """Every checksum in the frame is what scapy makes of it; a UDP checksum of zero is left out (RFC 768)."""
    packet = Ether(frame)
    layer: Packet = packet
    while layer:
        if isinstance(layer, UDP) and layer.chksum == 0:
            layer = layer.payload
            continue
        if isinstance(layer, IP | TCP | UDP | ICMP):
            layer.chksum = None
        elif isinstance(layer, _ICMPv6):
            layer.cksum = None
        if (isinstance(layer, ICMP) and layer.type not in (0, 8)) or (isinstance(layer, _ICMPv6) and layer.type < 128):
            break  # what an error quotes is somebody else's, and cut off
        if isinstance(layer, IPv6ExtHdrFragment) or (isinstance(layer, IP) and layer.flags.MF):
            break  # what follows is covered together with other fragments
        layer = layer.payload
    assert bytes(packet) == frame


def corpnet_on(port: str, vlan: int = 0) -> Policy:
    """The policy with a single CorpNet for blue, on this port, and a way to everywhere there."""
    ways = tuple(ConnectionRoute(prefix, hop) for prefix, hop in (("0.0.0.0/0", "157.1.0.1"), ("::/0", "fd00:157::1")))
    local = ("157.1.0.254/16", "fd00:157::fe/64")
    return changed(network_connections=(NetworkConnection("corpnet", port, local, vlan=vlan, routes=ways),))


# What a tenant's machine may send for hosts to take it for another tenant's.
FORGED = {
    "nvgre": IP(src="192.168.3.30", dst="192.168.77.7") / GRE(key_present=1, key=5001 << 8, proto=0x6558) / Ether(),
    "vxlan": IP(src="192.168.3.30", dst="192.168.77.7") / UDP(dport=4789, chksum=0) / VXLAN(vni=5001) / Ether(),
    "vxlan in a first fragment": IP(src="192.168.3.30", dst="192.168.77.7", flags="MF") / UDP(dport=4789) / bytes(16),
    "nvgre in a later fragment": IP(src="192.168.3.30", dst="192.168.77.7", frag=3, proto=47) / bytes(16),
    "nvgre over IPv6": IPv6(src="fd00:1::11", dst="fd00:77::7", nh=47) / bytes(40),
    "vxlan over IPv6": IPv6(src="fd00:1::11", dst="fd00:77::7") / UDP(dport=4789) / VXLAN(vni=5001) / Ether(),
    "to a host that may send": IP(src="192.168.50.2", dst="192.168.1.110") / UDP(dport=53) / b"plain",
    "to another tenant's host": IP(src="192.168.50.2", dst="192.168.3.30") / UDP(dport=53) / b"plain",
    "to a rewritten address": IP(src="192.168.50.2", dst="192.168.50.1") / UDP(dport=53) / b"plain",
    "to the gateway itself": IP(src="192.168.1.10", dst="192.168.6.3") / UDP(dport=53) / b"plain",
    "to a host over IPv6": IPv6(src="fd00:1::11", dst="fd00:99::10") / UDP(dport=53) / b"plain",
}
