"""What must agree between the parts of a policy. Every fault is found in one go; pointers are JSON pointers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from gateway.configuration import Port
from gateway.policy.access_checks import access_list_faults
from gateway.policy.addresses import family, why_not_routable
from gateway.policy.balancing_checks import load_balancer_faults
from gateway.policy.claims import Claims
from gateway.policy.faults import Fault
from gateway.policy.frontend_checks import (
    frontend_faults,
    outside_faults,
    public_address_target_faults,
    service_address_faults,
)
from gateway.policy.ipsec_checks import ipsec_faults, local_end_faults, remote_end_faults
from gateway.policy.model import Host, Policy, RoutingDomain
from gateway.policy.route_checks import connection_faults, customer_route_faults, equal_route_faults, route_faults
from gateway.policy.subnet_checks import record_faults, subnet_faults


def faults(
    policy: Policy,
    ports: Mapping[str, Port],
    beside: Claims | None = None,
    held: Mapping[str, RoutingDomain] = MappingProxyType({}),
) -> list[Fault]:
    """Find the faults of a policy on a gateway with these ports, beside domains that hold claims already and stay.

    `held`: the domains as they are, by id.
    """
    claims = beside.without(()) if beside else Claims(ports)
    claims.add_hosts(policy.hosts)
    found = list(_host_faults(policy.hosts))
    ids: set[str] = set()
    for index, domain in enumerate(policy.routing_domains):
        at = f"/routing_domains/{index}"
        if domain.id in ids:
            found.append(Fault(f"{at}/id", f"the id {domain.id} is given to two routing domains"))
        ids.add(domain.id)
        of_domain = domain_faults(domain, ports, claims, held.get(domain.id))
        found += [replace(fault, pointer=at + fault.pointer) for fault in of_domain]
        claims.put(domain)
    return found


def domain_faults(
    domain: RoutingDomain, ports: Mapping[str, Port], claims: Claims, held: RoutingDomain | None = None
) -> list[Fault]:
    """Find the faults of one domain beside all those that hold `claims`; its own former claims do not count.

    `held` is the domain as it is: credentials that it has already are not looked at again.
    Pointers are relative to the domain. The caller keeps `claims` and puts the domain into it once it is accepted.
    """
    return [
        *subnet_faults(domain),
        *record_faults(domain),
        *customer_route_faults(domain),
        *port_faults(domain, ports),
        *remote_end_faults(domain, claims),
        *ipsec_faults(domain, held),
        *load_balancer_faults(domain),
        *frontend_faults(domain, ports),
        *public_address_target_faults(domain),
        *service_address_faults(domain, ports),
        *equal_route_faults(domain),
        *access_list_faults(domain),
        *claims.faults(domain),
    ]


def port_faults(domain: RoutingDomain, ports: Mapping[str, Port]) -> Iterator[Fault]:
    """Find what these ports cannot carry of a domain: connections, public addresses, and ends of tunnels."""
    yield from connection_faults(domain, ports)
    yield from outside_faults(domain, ports)
    yield from local_end_faults(domain, ports)


def _host_faults(hosts: Sequence[Host]) -> Iterator[Fault]:
    ids: set[str] = set()
    owners: dict[str, str] = {}
    for index, host in enumerate(hosts):
        at = f"/hosts/{index}"
        if host.id in ids:
            yield Fault(f"{at}/id", f"the id {host.id!r} is given to two hosts")
        ids.add(host.id)
        for number, entry in enumerate(host.provider_addresses):
            pointer = f"{at}/provider_addresses/{number}"
            owner = owners.setdefault(entry.address, f"{host.id} ({pointer})")
            if not owner.endswith(f"({pointer})"):
                yield Fault(f"{pointer}/address", f"{entry.address} is given twice: host {owner} has it")
            if kind := why_not_routable(entry.address):
                yield Fault(f"{pointer}/address", f"{entry.address} is never routed: {kind}")
            if family(entry.address) == 4 and entry.prefix_length > 32:
                yield Fault(
                    f"{pointer}/prefix_length", f"{entry.prefix_length} is above 32, the bits of an IPv4 address"
                )
        for number, route in enumerate(host.provider_routes):
            yield from route_faults(route, f"{at}/provider_routes/{number}")
