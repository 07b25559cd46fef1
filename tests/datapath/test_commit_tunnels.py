"""What was to go by a tunnel goes by nothing else."""

from dataclasses import replace

import pytest
from scapy.layers.inet import IP, UDP

from gateway.policy.balancing import Frontend, LoadBalancer, OutboundNat, PublicAddress
from gateway.policy.connections import ConnectionRoute, IpsecConnection, PskAuthentication
from gateway.policy.model import Policy, RoutingDomain
from gateway.policy.secret import Secret
from tests.datapath.cases import Gateway
from tests.datapath.held import ALL_PORTS
from tests.datapath.loader_support import needs_root
from tests.unit.model.support import BLUE_DOMAIN, make_world, tunnelled

pytestmark = needs_root

NAT = LoadBalancer("nat", frontends=(Frontend("out", "198.51.100.80", True),), outbound_nat=(OutboundNat("out", 6001),))
SITE = IpsecConnection(
    "site", "203.0.113.20", PskAuthentication(Secret("not a good one")), routes=(ConnectionRoute("10.2.0.0/16"),)
)
TO_SITE = ("p0", tunnelled(IP(src="10.1.1.11", dst="10.2.0.1") / UDP(sport=7, dport=8)))
TO_OUTSIDE = ("p0", tunnelled(IP(src="10.1.1.11", dst="203.0.113.99") / UDP(sport=7, dport=8)))


@pytest.mark.parametrize("enabled", [True, False], ids=["no_compartment", "disabled"])
@pytest.mark.parametrize(
    "outside",
    [{"load_balancers": (NAT,)}, {"public_addresses": (PublicAddress("198.51.100.81", "10.1.1.11"),)}],
    ids=["outbound_nat", "public_address"],
)
def test_a_tunnel_that_cannot_be_used_closes_its_prefixes_and_no_others(
    gateway: Gateway, enabled: bool, outside: dict[str, object]
) -> None:
    connections = (*BLUE_DOMAIN.network_connections, replace(SITE, enabled=enabled))
    domain: RoutingDomain = replace(BLUE_DOMAIN, network_connections=connections, **outside)
    world = make_world(Policy(routing_domains=(domain,)))
    world.ports = ALL_PORTS
    world.neighbours.clear()
    assert gateway.programs.place(world) == {}
    to_site, to_outside = gateway.send(*TO_SITE), gateway.send(*TO_OUTSIDE)
    assert (to_site.action, to_site.interface) != ("forwarded", "x1")
    assert to_site.reason not in (None, "resolving")
    assert to_outside.reason == "resolving"  # that one is translated, and its neighbour is asked for
