"""Load balancers of one domain, all but the addresses of their frontends: pointers are relative to the domain."""

import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from gateway.policy.addresses import family
from gateway.policy.balancing import BackendPool, BalancingRule, Frontend, InboundNatRule, LoadBalancer, Probe
from gateway.policy.bounds import bound_faults
from gateway.policy.faults import Fault
from gateway.policy.frontend_checks import unrecorded
from gateway.policy.model import RoutingDomain
from gateway.policy.outbound_checks import outbound_nat_faults, unknown_name
from gateway.policy.route_checks import customer_addresses

MOST_MEMBERS = 4096
_REQUEST_PATH = re.compile(r"/[\x21-\x7e]*").fullmatch
_NAMED = ("frontends", "backend_pools", "probes", "rules", "inbound_nat_rules")
Taken: TypeAlias = dict[tuple[str, str, int], str]


def load_balancer_faults(domain: RoutingDomain) -> Iterator[Fault]:
    """Names that are given twice or to nothing, members that are no machines, ports that lead to two places."""
    if not domain.load_balancers:
        return
    known = customer_addresses(domain)
    yield from _repeated_names((one.name for one in domain.load_balancers), "/load_balancers")
    for index, balancer in enumerate(domain.load_balancers):
        at = f"/load_balancers/{index}"
        yield from bound_faults(balancer, at)
        for field in _NAMED:
            yield from _repeated_names((one.name for one in getattr(balancer, field)), f"{at}/{field}")
        for number, pool in enumerate(balancer.backend_pools):
            yield from _pool_faults(pool, f"{at}/backend_pools/{number}", known)
        for number, probe in enumerate(balancer.probes):
            yield from _probe_faults(probe, f"{at}/probes/{number}")
        yield from _port_faults(balancer, at)
        yield from _rule_faults(balancer, at)
        yield from _inbound_nat_faults(balancer, at, known)
    yield from outbound_nat_faults(domain)


def _repeated_names(names: Iterable[str], at: str) -> Iterator[Fault]:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            yield Fault(f"{at}/{number}/name", f"the name {name!r} is given twice in this list")
        seen.add(name)


def _pool_faults(pool: BackendPool, at: str, known: set[str]) -> Iterator[Fault]:
    count = len(pool.members)
    if not count:
        yield Fault(f"{at}/members", "a pool needs at least one member", absence=True)
    elif count < pool.minimum_healthy:
        detail = f"{pool.minimum_healthy} is more than the members, of which there are {count}"
        yield Fault(f"{at}/minimum_healthy", detail, absence=True)
    if count > MOST_MEMBERS:
        yield Fault(f"{at}/members", f"{count:,} members: a pool holds {MOST_MEMBERS:,} at most")
    seen: set[str] = set()
    for number, member in enumerate(pool.members):
        pointer, address = f"{at}/members/{number}/customer_address", member.customer_address
        if address not in known:
            yield unrecorded(address, pointer)
        if address in seen:
            yield Fault(pointer, f"{address} is a member twice: give it the sum of the weights")
        seen.add(address)


def _probe_faults(probe: Probe, at: str) -> Iterator[Fault]:
    if probe.timeout_s > probe.interval_s:
        detail = f"{probe.timeout_s} is longer than interval_s, {probe.interval_s}: a probe ends before the next begins"
        yield Fault(f"{at}/timeout_s", detail)
    if not _REQUEST_PATH(probe.path):
        yield Fault(f"{at}/path", 'is no path: it begins with "/", and has ASCII characters and no spaces; write %20')


def _port_faults(balancer: LoadBalancer, at: str) -> Iterator[Fault]:
    """Find ports of a frontend that lead to two places."""
    taken: Taken = {}
    places: tuple[tuple[str, tuple[BalancingRule | InboundNatRule, ...]], ...] = (
        ("rules", balancer.rules),
        ("inbound_nat_rules", balancer.inbound_nat_rules),
    )
    for field, rules in places:
        for number, rule in enumerate(rules):
            key = (rule.frontend, rule.protocol, rule.port)
            if key in taken:
                port = f"{rule.protocol} port {rule.port} of frontend {rule.frontend!r}"
                yield Fault(f"{at}/{field}/{number}/port", f"{port} belongs to {taken[key]} already")
            kind = "rule" if field == "rules" else "inbound NAT rule"
            taken.setdefault(key, f"{kind} {rule.name!r}")


def _rule_faults(balancer: LoadBalancer, at: str) -> Iterator[Fault]:
    of_frontend = {one.name: one for one in balancer.frontends}
    of_pool = {one.name: one for one in balancer.backend_pools}
    probes = {one.name for one in balancer.probes}
    for number, rule in enumerate(balancer.rules):
        pointer = f"{at}/rules/{number}"
        frontend, pool = of_frontend.get(rule.frontend), of_pool.get(rule.pool)
        if frontend is None:
            yield unknown_name("frontend", rule.frontend, of_frontend, pointer)
        if pool is None:
            yield unknown_name("pool", rule.pool, of_pool, pointer)
        if rule.probe is not None and rule.probe not in probes:
            yield unknown_name("probe", rule.probe, probes, pointer)
        if frontend and pool:
            yield from _family_faults(frontend, pool, pointer)
        if rule.floating_ip and rule.destination_port() != rule.port:
            detail = f"{rule.backend_port} is not port, {rule.port}: with floating_ip packets reach members unchanged"
            yield Fault(f"{pointer}/backend_port", detail)
        if rule.direct_return:
            detail = "direct_return: true is not supported yet: replies pass the gateway; write false"
            yield Fault(f"{pointer}/direct_return", detail)


def _family_faults(frontend: Frontend, pool: BackendPool, pointer: str) -> Iterator[Fault]:
    others = [one.customer_address for one in pool.members if family(one.customer_address) != family(frontend.address)]
    if others:
        detail = f"{others[0]} of pool {pool.name!r} and {frontend.address} of frontend {frontend.name!r}"
        yield Fault(f"{pointer}/pool", f"{detail} are of different IP families: make a pool for each family")


def _inbound_nat_faults(balancer: LoadBalancer, at: str, known: set[str]) -> Iterator[Fault]:
    of_frontend = {one.name: one for one in balancer.frontends}
    for number, rule in enumerate(balancer.inbound_nat_rules):
        pointer, address = f"{at}/inbound_nat_rules/{number}", rule.customer_address
        frontend = of_frontend.get(rule.frontend)
        if address not in known:
            yield unrecorded(address, f"{pointer}/customer_address")
        if frontend is None:
            yield unknown_name("frontend", rule.frontend, of_frontend, pointer)
        elif family(frontend.address) != family(address):
            detail = f"{address} and {frontend.address} of frontend {frontend.name!r} are of different IP families"
            yield Fault(f"{pointer}/customer_address", detail)
