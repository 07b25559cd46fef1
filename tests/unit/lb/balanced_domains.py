"""Routing domains with load balancers, in few words."""

from gateway.policy.balancing import BackendPool, BalancingRule, Frontend, LoadBalancer, PoolMember, Probe
from gateway.policy.model import RoutingDomain

RDID = "11111111-2222-3333-4444-000000000001"
TCP = Probe(name="tcp", protocol="tcp", port=80, interval_s=1, timeout_s=1, rise=1, fall=1)


def pool(name: str, *addresses: str, draining: tuple[str, ...] = (), minimum_healthy: int = 0) -> BackendPool:
    """Make a pool of members with weight 1."""
    members = tuple(
        PoolMember(customer_address=address, state="draining" if address in draining else "active")
        for address in addresses
    )
    return BackendPool(name=name, members=members, minimum_healthy=minimum_healthy)


def domain(
    *pools: BackendPool, probes: tuple[Probe, ...] = (TCP,), rules: str = "web/tcp", rdid: str = RDID
) -> RoutingDomain:
    """Make a domain with one load balancer; `rules` are pool/probe or just a pool, separated by spaces."""
    parts = [rule.partition("/") for rule in rules.split()]
    balancer = LoadBalancer(
        name="lb",
        frontends=(Frontend(name="f", address="198.51.100.80", public=True),),
        backend_pools=pools,
        probes=probes,
        rules=tuple(
            BalancingRule(
                name=f"r{number}", frontend="f", pool=of_pool, probe=probe or None, protocol="tcp", port=number
            )
            for number, (of_pool, _, probe) in enumerate(parts, 1)
        ),
    )
    return RoutingDomain(id=rdid, name=f"domain {rdid}", load_balancers=(balancer,))
