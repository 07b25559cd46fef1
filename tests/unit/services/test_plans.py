"""What a policy asks of compartments, probes and tunnels."""

from dataclasses import replace

import pytest

from gateway.compartments.specification import Compartment, CompartmentSpecification, Leg
from gateway.configuration import Port
from gateway.policy.balancing import BackendPool, BalancingRule, Frontend, LoadBalancer, PoolMember, Probe
from gateway.policy.connections import ConnectionRoute, IpsecConnection, NetworkConnection, PskAuthentication
from gateway.policy.model import CustomerRoute, Policy, RoutingDomain, VirtualSubnet
from gateway.policy.secret import Secret
from gateway.services import plans
from lb.pools import Choice
from lb.prober import Member

RDID = "11111111-2222-3333-4444-000000000001"
PORTS = {
    "provider": Port(name="provider", role="provider", interface="eth1", addresses=("192.168.6.2/24",)),
    "internet": Port(name="internet", role="external", interface="eth2", addresses=("203.0.113.1/24",)),
    "corpnet": Port(name="corpnet", role="external", interface="eth3"),
}
TUNNEL = IpsecConnection(
    "headquarters", "198.51.100.20", PskAuthentication(Secret("secret words")), routes=(ConnectionRoute("10.2.0.0/24"),)
)
CORPNET = NetworkConnection("corpnet", "corpnet", ("157.1.0.254/16",), routes=(ConnectionRoute("0.0.0.0/0"),))
DOMAIN = RoutingDomain(
    RDID,
    "blue",
    virtual_subnets=(VirtualSubnet(6001, ("10.1.1.0/24", "fd00:1::/64")),),
    customer_routes=(CustomerRoute("10.9.0.0/16", "10.1.1.11"),),
)


def balanced(probe: str | None) -> RoutingDomain:
    rule = BalancingRule("http", "www", "vms", "tcp", 80, probe)
    pool = BackendPool("vms", (PoolMember("10.1.1.11"),))
    web = LoadBalancer("web", (Frontend("www", "203.0.113.80", True),), (pool,), (Probe("tcp", "tcp", 80),), (rule,))
    return replace(DOMAIN, load_balancers=(web,))


def tunnelled(*connections: IpsecConnection | NetworkConnection) -> RoutingDomain:
    return replace(DOMAIN, network_connections=connections)


def standing(domain: RoutingDomain) -> dict[str, Compartment]:
    wanted = plans.compartments_for(Policy((), (domain,)), PORTS)[RDID]
    legs = [Leg(f"tg{leg[0]}-1", index, leg, "02-00-00-00-00-01") for index, leg in enumerate(("inside", "outside"), 7)]
    return {RDID: Compartment(wanted, "/run/netns/x", legs[0], legs[1] if wanted.outside_addresses else None)}


@pytest.mark.parametrize(
    "domain",
    [DOMAIN, balanced(None), tunnelled(CORPNET), tunnelled(replace(TUNNEL, enabled=False))],
    ids=["plain", "balanced without probes", "external", "a tunnel that is not enabled"],
)
def test_a_domain_that_nothing_lives_in_has_no_compartment(domain: RoutingDomain) -> None:
    assert RDID not in plans.compartments_for(Policy((), (domain,)), PORTS)


def test_a_domain_with_a_load_balancer_has_a_compartment_for_its_fragments() -> None:
    assert plans.compartments_for(Policy((), (tunnelled(CORPNET),)), PORTS) == {}
    (wanted,) = plans.compartments_for(Policy((), (balanced(None),)), PORTS).values()
    assert wanted == CompartmentSpecification(RDID, (), mtu=9216, for_fragments=True)


def test_a_probed_domain_has_its_service_addresses_inside_and_nothing_outside() -> None:
    policy = Policy((), (balanced("tcp"),))
    prefixes = ("10.1.1.0/24", "fd00:1::/64", "10.9.0.0/16")
    addresses = ("10.1.1.254", "fd00:1::ffff:ffff:ffff:ffff")
    wanted = CompartmentSpecification(RDID, addresses, (), prefixes)
    assert plans.compartments_for(policy, PORTS)[RDID] == wanted
    found = plans.probed_domains(policy, standing(policy.routing_domains[0]))
    assert (found[RDID].namespace, found[RDID].source_addresses) == ("/run/netns/x", addresses)
    assert plans.probed_domains(policy, {}) == {}


def test_tunnels_end_at_their_own_addresses_or_at_the_ports_and_all_else_goes_inside() -> None:
    second = replace(TUNNEL, name="branch", remote_address="198.51.100.21", local_address="203.0.113.9")
    unused = replace(TUNNEL, name="unused", local_address="203.0.113.10", enabled=False)
    domain = tunnelled(TUNNEL, second, replace(second, name="third"), unused, CORPNET)
    policy = Policy((), (domain,))
    wanted = plans.compartments_for(policy, PORTS)[RDID]
    assert wanted.outside_addresses == ("203.0.113.1", "203.0.113.9")
    assert wanted.inside_prefixes[-3:] == ("10.9.0.0/16", "157.1.0.0/16", "0.0.0.0/0")
    endpoint = plans.endpoints_for(policy, standing(domain), PORTS, {"eth2": 1400})[RDID]
    locals_ = [connection.local_address for connection in endpoint.connections]
    assert locals_ == ["203.0.113.1", "203.0.113.9", "203.0.113.9", "203.0.113.10"]
    assert endpoint.path_mtu == 1400


def test_the_path_is_taken_for_no_wider_than_the_internets() -> None:
    domain = tunnelled(TUNNEL)
    for mtus in ({"eth2": 9000}, {}):
        assert plans.endpoints_for(Policy((), (domain,)), standing(domain), PORTS, mtus)[RDID].path_mtu == 1500


def test_what_is_kept_has_no_outside_any_more_where_no_tunnel_is_left() -> None:
    before = standing(tunnelled(TUNNEL))
    probed = plans.compartments_for(Policy((), (balanced("tcp"),)), PORTS)
    assert plans.kept(before, probed)[RDID].outside is None
    assert plans.kept(before, plans.compartments_for(Policy((), (tunnelled(TUNNEL),)), PORTS)) == before
    assert plans.kept(before, {}) == {}


def test_what_stands_comes_first_and_the_rest_a_few_at_a_time() -> None:
    many = {f"{number}": CompartmentSpecification(f"{number}", ()) for number in range(40)}
    parts = list(plans.steps(many, {"38", "39", "gone"}))
    assert [len(part) for part in parts] == [18, 34, 40]
    assert all("38" in part and "39" in part for part in parts)
    assert parts[-1] == many
    assert list(plans.steps({}, {"gone"})) == [{}]
    assert list(plans.steps(many, many.keys())) == [many]


def test_only_members_that_are_probed_can_be_down_before() -> None:
    found = {RDID: {Choice("web", "vms", "tcp"): {"10.1.1.11"}, Choice("web", "vms", None): {"10.1.1.12"}}}
    assert plans.members(found) == {Member(RDID, "web", "tcp", "10.1.1.11")}
