"""What a policy asks of compartments, probes and tunnels: pure functions."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from gateway.compartments.specification import Compartment, CompartmentSpecification
from gateway.configuration import Port
from gateway.policy.addresses import network_of
from gateway.policy.connections import IpsecConnection
from gateway.policy.model import Policy, RoutingDomain, service_addresses_of
from gateway.policy.public import default_local_address, port_of
from lb.pools import Choice
from lb.prober import Member
from lb.service import ProbedDomain
from vpn.specification import EndpointSpecification

COMPARTMENTS_AT_ONCE = 16  # made before the datapath and the tunnels' daemons come to know of them
LARGEST_FRAGMENT = 9216  # that is put in order, in bytes
LARGEST_PATH_MTU = 1500  # of the Internet, in bytes, whatever our own link takes


def compartments_for(policy: Policy, ports: Mapping[str, Port]) -> dict[str, CompartmentSpecification]:
    """Return, by key, those of domains that are probed or have a tunnel, and those that put fragments in order."""
    of_linux = (
        _compartment(domain, ports)
        for domain in policy.routing_domains
        if is_probed(domain) or any(tunnel.enabled for tunnel in domain.ipsec_connections())
    )
    for_fragments = (
        CompartmentSpecification(domain.id, (), mtu=LARGEST_FRAGMENT, for_fragments=True)
        for domain in policy.routing_domains
        if domain.load_balancers
    )
    return {wanted.key: wanted for wanted in (*of_linux, *for_fragments)}


def kept(standing: Mapping[str, Compartment], wanted: Mapping[str, CompartmentSpecification]) -> dict[str, Compartment]:
    """Return what of the standing compartments stays: a domain without tunnels has no outside leg any more."""
    return {
        key: compartment if wanted[key].outside_addresses else replace(compartment, outside=None)
        for key, compartment in standing.items()
        if key in wanted
    }


def steps(
    wanted: Mapping[str, CompartmentSpecification], standing: Collection[str]
) -> Iterator[dict[str, CompartmentSpecification]]:
    """Yield growing parts of what is wanted, first what stands already, so that nobody waits for many others."""
    part = {key: specification for key, specification in wanted.items() if key in standing}
    missing = [key for key in wanted if key not in part]
    for begin in range(0, max(len(missing), 1), COMPARTMENTS_AT_ONCE):
        part |= {key: wanted[key] for key in missing[begin : begin + COMPARTMENTS_AT_ONCE]}
        yield dict(part)


def is_probed(domain: RoutingDomain) -> bool:
    """Tell whether a rule of a load balancer has a probe."""
    return any(rule.probe is not None for balancer in domain.load_balancers for rule in balancer.rules)


def probed_domains(policy: Policy, standing: Mapping[str, Compartment]) -> dict[str, ProbedDomain]:
    """Return what is probed, by RDID; a domain whose compartment does not stand is not."""
    return {
        domain.id: ProbedDomain(domain, compartment.namespace, compartment.specification.inside_addresses)
        for domain in policy.routing_domains
        if is_probed(domain) and (compartment := standing.get(domain.id))
    }


def endpoints_for(
    policy: Policy, standing: Mapping[str, Compartment], ports: Mapping[str, Port], mtus: Mapping[str, int]
) -> dict[str, EndpointSpecification]:
    """Return the endpoints of tunnels, by RDID. `mtus`: of interfaces, in bytes, by their names."""
    return {
        domain.id: EndpointSpecification(
            routing_domain=domain.id,
            namespace=compartment.namespace,
            inside=compartment.inside.name,
            outside=compartment.outside.name,
            connections=tuple(_with_local_address(tunnel, ports) for tunnel in domain.ipsec_connections()),
            path_mtu=_path_mtu(compartment.specification.outside_addresses, ports, mtus),
            legs=(compartment.inside.index, compartment.outside.index),
        )
        for domain in policy.routing_domains
        if (compartment := standing.get(domain.id)) and compartment.outside
    }


def _compartment(domain: RoutingDomain, ports: Mapping[str, Port]) -> CompartmentSpecification:
    enabled = [tunnel for tunnel in domain.ipsec_connections() if tunnel.enabled]
    outside = (_with_local_address(tunnel, ports).local_address for tunnel in enabled)
    return CompartmentSpecification(
        routing_domain=domain.id,
        inside_addresses=service_addresses_of(domain),
        outside_addresses=tuple(dict.fromkeys(address for address in outside if address)),
        inside_prefixes=tuple(dict.fromkeys(_inside_prefixes(domain))),
    )


def _inside_prefixes(domain: RoutingDomain) -> Iterator[str]:
    """Yield what the datapath routes to anything but a tunnel."""
    for subnet in domain.virtual_subnets:
        yield from subnet.prefixes
    yield from (route.prefix for route in domain.customer_routes)
    for connection in domain.l3_connections():
        yield from map(network_of, connection.local_addresses)
        yield from (route.prefix for route in connection.routes)


def _with_local_address(tunnel: IpsecConnection, ports: Mapping[str, Port]) -> IpsecConnection:
    if tunnel.local_address is not None:
        return tunnel
    return replace(tunnel, local_address=default_local_address(tunnel.remote_address, ports))


def _path_mtu(outside_addresses: tuple[str, ...], ports: Mapping[str, Port], mtus: Mapping[str, int]) -> int:
    found = (port_of(address, ports) for address in outside_addresses)
    of_links = (mtus[port.interface] for port in found if port and port.interface in mtus)
    return min((LARGEST_PATH_MTU, *of_links))


def members(found: Mapping[str, Mapping[Choice, Collection[str]]]) -> set[Member]:
    """Return as probed members what is given as addresses by RDID and choice."""
    return {
        Member(rdid, choice.load_balancer, choice.probe, address)
        for rdid, by_choice in found.items()
        for choice, addresses in by_choice.items()
        if choice.probe is not None
        for address in addresses
    }
