"""What must agree between the parts of a policy. Every fault is found in one go; pointers are JSON pointers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from gateway.configuration import Port
from gateway.policy.access_checks import access_list_faults
from gateway.policy.addresses import family, why_not_routable
from gateway.policy.claims import Claims
from gateway.policy.faults import Fault
from gateway.policy.model import Host, Policy, RoutingDomain
from gateway.policy.route_checks import connection_faults, customer_route_faults, equal_route_faults, route_faults
from gateway.policy.subnet_checks import record_faults, subnet_faults


def faults(policy: Policy, ports: Mapping[str, Port], beside: Claims | None = None) -> list[Fault]:
    """Find the faults of a policy on a gateway with these ports, beside domains that hold claims already and stay."""
    claims = beside.without(()) if beside else Claims(ports)
    found = list(_host_faults(policy.hosts))
    ids: set[str] = set()
    for index, domain in enumerate(policy.routing_domains):
        at = f"/routing_domains/{index}"
        if domain.id in ids:
            found.append(Fault(f"{at}/id", f"the id {domain.id} is given to two routing domains"))
        ids.add(domain.id)
        found += [replace(fault, pointer=at + fault.pointer) for fault in domain_faults(domain, ports, claims)]
        claims.put(domain)
    return found


def domain_faults(domain: RoutingDomain, ports: Mapping[str, Port], claims: Claims) -> list[Fault]:
    """Find the faults of one domain beside all those that hold `claims`; its own former claims do not count.

    Pointers are relative to the domain. The caller keeps `claims` and puts the domain into it once it is accepted.
    """
    return [
        *subnet_faults(domain),
        *record_faults(domain),
        *customer_route_faults(domain),
        *connection_faults(domain, ports),
        *equal_route_faults(domain),
        *access_list_faults(domain),
        *claims.faults(domain),
    ]


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
