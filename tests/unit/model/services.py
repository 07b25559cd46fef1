"""A tenant with public and internal addresses, its pools and its neighbours, for the model and the programs alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from gateway.compartments.specification import Compartment, CompartmentSpecification, Leg
from gateway.datapath.model.verdict import DropReason, Verdict
from gateway.datapath.model.world import World
from gateway.policy.model import (
    BackendPool,
    BalancingRule,
    ConnectionRoute,
    Frontend,
    InboundNatRule,
    LoadBalancer,
    LookupRecord,
    NetworkConnection,
    OutboundNat,
    Policy,
    PoolMember,
    PublicAddress,
    RoutingDomain,
    VirtualSubnet,
)
from tests.unit.model.support import (
    BLUE,
    INTERNET,
    INTERNET_PORT,
    PORTS,
    RED,
    external,
    make_world,
    sent,
    tunnelled,
)

OF_SERVICES = {
    DropReason.VIP_NOT_SERVED,
    DropReason.NO_MEMBER,
    DropReason.NAT_EXHAUSTED,
    DropReason.TRANSLATION_MISSING,
    DropReason.NOT_TRANSLATABLE,
}

CLIENT, CLIENT6 = "203.0.113.7", "2001:db8:7::7"
VIP, VIP6, OTHER_VIP = "198.51.100.80", "2001:db8:100::80", "198.51.100.81"
TIER, TIER6 = "10.1.6.100", "fd00:6::100"
OWN, OWNER = "198.51.100.90", "10.1.7.32"
VM1, VM2, VM3, VM6, FAR, FAR2 = "10.1.6.20", "10.1.6.21", "10.1.6.22", "fd00:6::21", "10.1.7.31", "10.1.7.32"
WEB = (VM1, VM2, VM3)

RECORDS = (
    LookupRecord(6002, VM1, "10-10-10-10-16-20", "192.168.1.10", "nvgre"),
    LookupRecord(6002, VM2, "10-10-10-10-16-21", "192.168.6.4", "nvgre"),
    LookupRecord(6002, VM3, "10-10-10-10-16-22", "192.168.2.20", "vxlan"),
    LookupRecord(6002, VM6, "10-10-10-10-16-21", "192.168.6.4", "nvgre"),
    LookupRecord(6002, "fd00:6::22", "10-10-10-10-16-22", "192.168.2.20", "vxlan"),
    LookupRecord(6003, FAR, "10-10-10-10-17-31", "192.168.6.4", "vxlan"),
    LookupRecord(6003, FAR2, "10-10-10-10-17-32", "192.168.1.10", "nvgre"),
)
RED_RECORDS = (LookupRecord(5001, VM1, "20-20-20-20-26-20", "192.168.3.30", "nvgre"),)

BALANCER = LoadBalancer(
    name="web",
    frontends=(
        Frontend("public", VIP, public=True),
        Frontend("public6", VIP6, public=True),
        Frontend("tier", TIER, vsid=6002),
        Frontend("tier6", TIER6, vsid=6002),
    ),
    backend_pools=(
        BackendPool("all", tuple(PoolMember(one) for one in WEB)),
        BackendPool("one", (PoolMember(VM2),)),
        BackendPool("six", (PoolMember(VM6),)),
        BackendPool("far", (PoolMember(FAR),)),
    ),
    rules=(
        BalancingRule("www", "public", "one", "tcp", 80),
        BalancingRule("farm", "public", "all", "tcp", 8000, backend_port=8080),
        BalancingRule("dns", "public", "one", "udp", 53, backend_port=5353),
        BalancingRule("www6", "public6", "six", "tcp", 80, backend_port=8080),
        BalancingRule("dns6", "public6", "six", "udp", 53, backend_port=5353),
        BalancingRule("tier", "tier", "all", "tcp", 8080, backend_port=80),
        BalancingRule("tier-udp", "tier", "one", "udp", 53, backend_port=5353),
        BalancingRule("tier-one", "tier", "one", "tcp", 81, backend_port=8081),
        BalancingRule("tier-far", "tier", "far", "tcp", 82, backend_port=8082),
        BalancingRule("tier6", "tier6", "six", "tcp", 8080, backend_port=80),
    ),
    inbound_nat_rules=(InboundNatRule("ssh", "public", "tcp", 2222, VM1, backend_port=22),),
    outbound_nat=(OutboundNat("public", 6003), OutboundNat("public6", 6002)),
)

BLUE_DOMAIN = RoutingDomain(
    id=BLUE,
    name="blue",
    virtual_subnets=(
        VirtualSubnet(6002, ("10.1.6.0/24", "fd00:6::/64")),
        VirtualSubnet(6003, ("10.1.7.0/24",)),
    ),
    lookup_records=RECORDS,
    network_connections=(
        NetworkConnection("corpnet", "corpnet", ("157.1.0.254/16",), routes=(ConnectionRoute("157.1.0.0/16"),)),
    ),
    load_balancers=(BALANCER,),
    public_addresses=(PublicAddress(OWN, OWNER),),
)

RED_BALANCER = LoadBalancer(
    name="web",
    frontends=(Frontend("public", OTHER_VIP, public=True), Frontend("tier", TIER, vsid=5001)),
    backend_pools=(BackendPool("one", (PoolMember(VM1),)),),
    rules=(
        BalancingRule("www", "public", "one", "tcp", 80),
        BalancingRule("tier", "tier", "one", "tcp", 81, backend_port=8081),
    ),
)

RED_DOMAIN = RoutingDomain(
    id=RED,
    name="red",
    virtual_subnets=(VirtualSubnet(5001, ("10.1.6.0/24",)),),
    lookup_records=RED_RECORDS,
    network_connections=(NetworkConnection("corpnet", "corpnet", ("157.1.0.254/16",), vlan=10),),
    load_balancers=(RED_BALANCER,),
)

FRAGMENTS_LEGS = {BLUE: Leg("gfb", 0, "inside", "02-00-00-00-F0-01"), RED: Leg("gfr", 0, "inside", "02-00-00-00-F1-01")}


def for_fragments(legs: Mapping[str, Leg]) -> dict[str, Compartment]:
    """Compartments that put fragments in order, by key; `legs` by RDID."""
    wanted = {rdid: CompartmentSpecification(rdid, (), mtu=9216, for_fragments=True) for rdid in legs}
    return {one.key: Compartment(one, "/run/netns/none", legs[rdid], None) for rdid, one in wanted.items()}


SERVICES = Policy(routing_domains=(BLUE_DOMAIN, RED_DOMAIN))
SERVICE_PORTS = (*PORTS, INTERNET_PORT)


def with_blue(**fields: Any) -> Policy:
    return replace(SERVICES, routing_domains=(replace(BLUE_DOMAIN, **fields), RED_DOMAIN))


def with_balancer(**fields: Any) -> Policy:
    """The policy with other fields in blue's load balancer."""
    return with_blue(load_balancers=(replace(BALANCER, **fields),))


def with_rule(name: str, **fields: Any) -> Policy:
    rules = tuple(replace(one, **fields) if one.name == name else one for one in BALANCER.rules)
    return with_balancer(rules=rules)


def with_members(pool: str, *members: PoolMember) -> Policy:
    pools = tuple(replace(one, members=members) if one.name == pool else one for one in BALANCER.backend_pools)
    return with_balancer(backend_pools=pools)


def services_world(policy: Policy = SERVICES, **settings: Any) -> World:
    return make_world(policy, ports=SERVICE_PORTS, **settings)


def outside(packet: Packet) -> tuple[str, bytes]:
    """From the Internet."""
    return "i0", external(packet, destination=INTERNET)


def inside(packet: Packet, vm: str | None = None) -> tuple[str, bytes]:
    """From a machine of blue's: the one with the packet's source address, unless another is named."""
    return "p0", _tunnelled(packet, RECORDS, vm)


def inside_red(packet: Packet, vm: str | None = None) -> tuple[str, bytes]:
    return "p0", _tunnelled(packet, RED_RECORDS, vm)


def _tunnelled(packet: Packet, records: tuple[LookupRecord, ...], vm: str | None) -> bytes:
    record = next(one for one in records if one.customer_address == (vm or packet.src))
    mac = record.mac.replace("-", ":")
    return tunnelled(packet, record.vsid, record.provider_address, record.encapsulation, mac)


def ip(source: str, destination: str, **fields: Any) -> Packet:
    return (IPv6 if ":" in source else IP)(src=source, dst=destination, **fields)


def tcp(source: str, source_port: int, destination: str, port: int, flags: str = "S") -> Packet:
    return ip(source, destination) / TCP(sport=source_port, dport=port, flags=flags)


def udp(source: str, source_port: int, destination: str, port: int, **fields: Any) -> Packet:
    return ip(source, destination) / UDP(sport=source_port, dport=port, **fields) / b"payload"


def inner(frame: Packet) -> Packet:
    """The packet in a tunnel, or that of an untagged frame."""
    found = frame.getlayer(Ether, 2)
    return (found if found is not None else frame).payload


def ends(packet: Packet) -> tuple[str, int, str, int]:
    """Addresses and ports of the (inner) TCP or UDP packet."""
    found = inner(packet)
    transport = found.payload
    return found.src, transport.sport, found.dst, transport.dport


class Balancing(Protocol):
    """What holds a policy and takes frames: the model, or the programs."""

    def hold(self, policy: Policy = ..., **settings: Any) -> World: ...
    def change(self, policy: Policy) -> None: ...
    def send(self, interface: str, frame: bytes) -> Any: ...
    def flood(self, interface: str, frame: bytes, times: int = ...) -> None: ...
    def forwards(self, interface: str, frame: bytes) -> Packet: ...
    def orders(self, interface: str, frame: bytes) -> tuple[str, Packet]: ...
    def answers(self, interface: str, frame: bytes) -> Packet: ...
    def drops(self, interface: str, frame: bytes) -> str: ...
    def objects(self, interface: str, frame: bytes) -> tuple[str | None, Packet]: ...


@dataclass
class ModelGateway:
    """The reference model under a policy, with the words of tests/datapath's cases."""

    world: World = field(default_factory=services_world)

    def hold(self, policy: Policy = SERVICES, **settings: Any) -> World:
        self.world = services_world(policy, **settings)
        return self.world

    def change(self, policy: Policy) -> None:
        """Another policy; connections stay."""
        self.world.change_policy(policy)

    def send(self, interface: str, frame: bytes) -> Verdict:
        return self.world.process(interface, frame)

    def flood(self, interface: str, frame: bytes, times: int = 100) -> None:
        for _ in range(times):
            self.send(interface, frame)

    def forwards(self, interface: str, frame: bytes) -> Packet:
        verdict = self.send(interface, frame)
        assert verdict.action == "forwarded", verdict
        return sent(verdict)

    def orders(self, interface: str, frame: bytes) -> tuple[str, Packet]:
        verdict = self.send(interface, frame)
        assert verdict.action == "ordered", verdict
        assert verdict.interface is not None
        return verdict.interface, sent(verdict)

    def answers(self, interface: str, frame: bytes) -> Packet:
        verdict = self.send(interface, frame)
        assert (verdict.action, verdict.interface) == ("answered", interface), verdict
        return sent(verdict)

    def drops(self, interface: str, frame: bytes) -> str:
        verdict = self.send(interface, frame)
        assert (verdict.action, verdict.frame) == ("dropped", None), verdict
        return str(verdict.reason)

    def objects(self, interface: str, frame: bytes) -> tuple[str | None, Packet]:
        verdict = self.send(interface, frame)
        assert (verdict.action, verdict.interface) == ("dropped", interface), verdict
        return str(verdict.reason), sent(verdict)
