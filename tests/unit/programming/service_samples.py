"""A routing domain with load balancers and public addresses, and its block."""

from collections.abc import Mapping
from typing import Any

from gateway.policy.balancing import (
    BackendPool,
    BalancingRule,
    Frontend,
    InboundNatRule,
    LoadBalancer,
    OutboundNat,
    PoolMember,
    PublicAddress,
)
from gateway.policy.connections import ConnectionRoute, IpsecConnection, PskAuthentication
from gateway.policy.model import LookupRecord, NetworkConnection, RoutingDomain, VirtualSubnet
from gateway.policy.secret import Secret
from gateway.programming.block import LINE_BYTES, Bytes
from gateway.programming.domain_block import Surroundings, compile_domain
from gateway.programming.encoding import mac_bytes
from gateway.programming.planned_services import NO_NUMBERS, Plan
from gateway.programming.routes import PortName
from gateway.programming.service_plan import plan_services
from tests.unit.programming.arena import layout

RDID = "11111111-2222-3333-4444-000000000001"
ROUTER_MAC = "00-1D-D8-B7-1C-00"
NUMBER = 7
WEB = ("10.1.1.11", "10.1.1.12", "10.1.1.13")
LINES = {"table": 0, "table_more": 1, "table_services": 2, "table_compartment": 3}

BALANCER = LoadBalancer(
    "web",
    frontends=(
        Frontend("public", "198.51.100.80", True),
        Frontend("public6", "2001:db8::80", True),
        Frontend("tier", "10.1.1.200", vsid=6001),
    ),
    backend_pools=(
        BackendPool("web", tuple(PoolMember(address) for address in WEB)),
        BackendPool("web6", (PoolMember("fd00:1::11"),)),
    ),
    rules=(
        BalancingRule("www", "public", "web", "tcp", 80, backend_port=8080, distribution="two_tuple"),
        BalancingRule("dns", "public", "web", "udp", 53, idle_timeout_s=4, floating_ip=True),
        BalancingRule("www6", "public6", "web6", "tcp", 80),
        BalancingRule("api", "tier", "web", "tcp", 8080),
    ),
    inbound_nat_rules=(InboundNatRule("ssh", "public", "tcp", 2222, WEB[0], 22),),
    outbound_nat=(OutboundNat("public", 6001), OutboundNat("public6", 6001)),
)

RECORDS = tuple(
    LookupRecord(6001, address, f"10-10-10-10-11-{number:02X}", "192.168.1.10")
    for number, address in enumerate((*WEB, "fd00:1::11", "10.1.1.99"), 1)
)

BLUE = RoutingDomain(
    id=RDID,
    name="blue",
    virtual_subnets=(VirtualSubnet(6001, ("10.1.1.0/24", "fd00:1::/64")), VirtualSubnet(6002, ("10.1.2.0/24",))),
    lookup_records=RECORDS,
    load_balancers=(BALANCER,),
    public_addresses=(PublicAddress("198.51.100.81", "10.1.1.99"),),
    network_connections=(NetworkConnection("corpnet", "corpnet", ("157.1.0.254/16",)),),
)


def tunnel(name: str, *prefixes: str, enabled: bool = True) -> IpsecConnection:
    routes = tuple(ConnectionRoute(prefix) for prefix in prefixes)
    return IpsecConnection(
        name, "203.0.113.20", PskAuthentication(Secret("not a good one")), enabled=enabled, routes=routes
    )


class Numbered:
    """Places that number what they are asked for."""

    def __init__(self) -> None:
        self.ports: dict[PortName, int] = {}

    def endpoint(self, provider_address: str, encapsulation: str, /) -> int:
        return 9

    def port(self, port: PortName, /) -> int:
        return self.ports.setdefault(port, 40 + len(self.ports))


def compiled(domain: RoutingDomain, plan: Plan | None = None, **around: Any) -> Bytes:
    """The block of a domain whose choices have the numbers 100, 101, ... in the order of the plan."""
    planned = plan_services(domain, NO_NUMBERS) if plan is None else plan
    around.setdefault("choices", {chooser: number for number, chooser in enumerate(planned.choices, 100)})
    around.setdefault("places", Numbered())
    return compile_domain(
        domain,
        Surroundings(
            layout=layout(),
            router_mac=mac_bytes(ROUTER_MAC),
            number=NUMBER,
            port_vlans={},
            lists={},
            generation=1,
            admitted=frozenset(),
            own_addresses=frozenset(),
            plan=planned,
            **around,
        ),
    )


def row(block: Bytes, line: int, name: str) -> Any:
    """A structure that fills a line."""
    return block[line * LINE_BYTES : (line + 1) * LINE_BYTES].view(layout().struct(name))[0]


def header(block: Bytes, name: str) -> Any:
    return row(block, LINES[name], name)


def enum(name: str) -> Mapping[str, int]:
    return layout().enum(name)
