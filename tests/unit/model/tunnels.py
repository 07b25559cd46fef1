"""Two tenants with tunnels: equal addresses inside, a common one outside; for the model and the programs alike."""

from dataclasses import replace

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.packet import Packet, Raw

from gateway.compartments.specification import Compartment, CompartmentSpecification, Leg
from gateway.policy.connections import ConnectionRoute, IpsecConnection, PskAuthentication, TrafficSelectors
from gateway.policy.model import Policy
from gateway.policy.secret import Secret
from tests.unit.model import support
from tests.unit.model.support import BLUE, POLICY, RED, ROUTER, external

OWN, SHARED, SHARED6 = "198.51.100.1", "198.51.100.10", "2001:db8:100::10"
HEADQUARTERS, BRANCH, BRANCH6, OF_RED = "203.0.113.20", "203.0.113.36", "2001:db8:9::36", "203.0.113.52"
BEHIND_HEADQUARTERS, BEHIND_BRANCH, BEHIND_BRANCH6 = "10.2.0.10", "10.3.0.10", "fd00:3::10"
IN_SUBNET = "10.1.1.53"  # stayed on premises in what is a virtual subnet
BEHIND_DISABLED = "10.4.0.10"
SERVICE, SERVICE6 = "10.1.1.254", "fd00:1::fffe"
STRANGER = "203.0.113.99"
_PSK = PskAuthentication(Secret("not a good one"))


def tunnel(
    name: str, peer: str, own: str | None, *prefixes: str, enabled: bool = True, metric: int = 0
) -> IpsecConnection:
    routes = tuple(ConnectionRoute(prefix, metric=metric) for prefix in prefixes)
    return IpsecConnection(name, peer, _PSK, local_address=own, routes=routes, enabled=enabled)


BLUE_TUNNELS = (
    tunnel("headquarters", HEADQUARTERS, None, "10.2.0.0/16", f"{IN_SUBNET}/32"),
    tunnel("branch", BRANCH, SHARED, "10.3.0.0/16", metric=5),
    replace(
        tunnel("branch6", BRANCH6, SHARED6),
        traffic_selectors=TrafficSelectors(("fd00:1::/64",), ("fd00:3::/64",)),
    ),
    tunnel("disabled", "203.0.113.40", SHARED, "10.4.0.0/16", "10.3.0.0/16", enabled=False),  # branch stands in
)
RED_TUNNEL = tunnel("headquarters", OF_RED, SHARED, "10.2.0.0/16")
BLUE_DOMAIN = replace(
    support.BLUE_DOMAIN, network_connections=(*support.BLUE_DOMAIN.network_connections, *BLUE_TUNNELS)
)
RED_DOMAIN = replace(support.RED_DOMAIN, network_connections=(*support.RED_DOMAIN.network_connections, RED_TUNNEL))
TUNNELS = replace(POLICY, routing_domains=(BLUE_DOMAIN, RED_DOMAIN))


def _compartment(rdid: str, letter: str, inside: tuple[str, ...], outside: tuple[str, ...]) -> Compartment:
    legs = [Leg(f"g{way}{letter}", 0, way, f"02-00-00-00-0{number}-0{letter}") for number, way in enumerate("io", 1)]
    return Compartment(CompartmentSpecification(rdid, inside, outside), "/run/netns/none", *legs)


COMPARTMENTS = {
    BLUE: _compartment(BLUE, "b", (SERVICE, SERVICE6), (OWN, SHARED, SHARED6)),
    RED: _compartment(RED, "d", (SERVICE,), (SHARED,)),
}


def with_blue(**fields: object) -> Policy:
    return replace(TUNNELS, routing_domains=(replace(BLUE_DOMAIN, **fields), RED_DOMAIN))  # type: ignore[arg-type]


def by_leg(leg: str, packet: Packet) -> tuple[str, bytes]:
    """From a compartment."""
    return leg, external(packet, destination=ROUTER)


def ike(source: str, destination: str, port: int = 500) -> Packet:
    return (IPv6 if ":" in source else IP)(src=source, dst=destination) / UDP(sport=port, dport=port) / Raw(bytes(28))


def esp(source: str, destination: str) -> Packet:
    if ":" in source:
        return IPv6(src=source, dst=destination, nh=50) / Raw(bytes(40))
    return IP(src=source, dst=destination, proto=50) / Raw(bytes(40))


def error_about(packet: Packet, reporter: str) -> Packet:
    """What a router on the way says of a packet."""
    quote = Raw(bytes(packet)[:68])
    if ":" in reporter:
        return IPv6(src=reporter, dst=packet.src) / ICMPv6DestUnreach(code=3) / quote
    return IP(src=reporter, dst=packet.src) / ICMP(type=3, code=1) / quote
