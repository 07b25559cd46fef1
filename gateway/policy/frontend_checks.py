"""Addresses that the gateway has for a domain, as frontends, public addresses or its own: pointers are relative to it.

That a public address is nobody else's is checked in `claims`.
"""

from collections.abc import Iterator, Mapping

from gateway.configuration import Port
from gateway.policy.addresses import address_range, family, ordinal
from gateway.policy.balancing import Frontend
from gateway.policy.faults import Fault
from gateway.policy.model import RoutingDomain, service_addresses_of
from gateway.policy.public import public_address_faults
from gateway.policy.route_checks import customer_addresses
from gateway.policy.subnet_checks import WITHOUT_ADDRESS


def outside_faults(domain: RoutingDomain, ports: Mapping[str, Port]) -> Iterator[Fault]:
    """Public frontends and public addresses that the external ports do not lead to."""
    for pointer, frontend in frontends(domain):
        if frontend.public:
            yield from public_address_faults(frontend.address, ports, f"{pointer}/address")
    for index, entry in enumerate(domain.public_addresses):
        yield from public_address_faults(entry.address, ports, f"/public_addresses/{index}/address")


def frontends(domain: RoutingDomain) -> Iterator[tuple[str, Frontend]]:
    """Yield the frontends of all load balancers, each after its pointer."""
    for index, balancer in enumerate(domain.load_balancers):
        for number, frontend in enumerate(balancer.frontends):
            yield f"/load_balancers/{index}/frontends/{number}", frontend


def frontend_faults(domain: RoutingDomain, ports: Mapping[str, Port]) -> Iterator[Fault]:
    """Frontends that are neither public nor in a virtual subnet, or both, or at an address that is taken."""
    if not domain.load_balancers:
        return
    subnets = {subnet.vsid: subnet.prefixes for subnet in domain.virtual_subnets}
    taken = _taken(domain, ports) | dict.fromkeys(service_addresses_of(domain), "the service address")
    for at, frontend in frontends(domain):
        if frontend.public and frontend.vsid is not None:
            yield Fault(f"{at}/vsid", "a public frontend is in no virtual subnet: remove vsid, or public")
        elif frontend.public:
            continue
        elif frontend.vsid is None:
            yield Fault(f"{at}/vsid", "is missing: a frontend that is not public is in a virtual subnet", absence=True)
        elif frontend.vsid not in subnets:
            detail = f"{frontend.vsid} is not a virtual subnet of this routing domain"
            yield Fault(f"{at}/vsid", detail, absence=True)
        else:
            yield from _inside_faults(frontend.address, subnets[frontend.vsid], taken, f"{at}/address")
            taken.setdefault(frontend.address, f"the address of frontend {frontend.name!r}")


def _inside_faults(address: str, prefixes: tuple[str, ...], taken: dict[str, str], pointer: str) -> Iterator[Fault]:
    """Tell why the gateway cannot have this address in these prefixes; `taken` says what addresses are already."""
    value = ordinal(address)
    network = next((n for n in map(address_range, prefixes) if n.first <= value <= n.last), None)
    if network is None:
        yield Fault(pointer, f"{address} is in none of its prefixes, {', '.join(prefixes) or 'none'}", absence=True)
    elif family(address) == 4 and network.length < 31 and value in (network.first, network.last):
        yield Fault(pointer, f"{address} is the network or the broadcast address of its prefix")
    if address in taken:
        yield Fault(pointer, f"{address} is {taken[address]} already: take a free address")


def _taken(domain: RoutingDomain, ports: Mapping[str, Port]) -> dict[str, str]:
    """Tell what the addresses of machines and routers are.

    A record at a provider address of the gateway itself is none of a machine: it tells hosts where a frontend is.
    """
    of_gateway = {own for port in ports.values() if port.role == "provider" for own in port.own_addresses()}
    found = {
        record.customer_address: f"the customer address of {record.name or 'a lookup record'}"
        for record in domain.lookup_records
        if record.type not in WITHOUT_ADDRESS and record.provider_address not in of_gateway
    }
    for subnet in domain.virtual_subnets:
        found |= dict.fromkeys(subnet.router_addresses().values(), "the router's address")
    return found


def service_address_faults(domain: RoutingDomain, ports: Mapping[str, Port]) -> Iterator[Fault]:
    """Service addresses outside the domain, or at an address that is taken; also the one that is taken by default."""
    if not (domain.service_addresses or domain.load_balancers or domain.ipsec_connections()):
        return
    prefixes = tuple(prefix for subnet in domain.virtual_subnets for prefix in subnet.prefixes)
    taken = _taken(domain, ports)
    families: set[int] = set()
    for number, address in enumerate(domain.service_addresses):
        pointer = f"/service_addresses/{number}"
        yield from _inside_faults(address, prefixes, taken, pointer)
        if family(address) in families:
            yield Fault(pointer, f"{address} is a second one of IPv{family(address)}: keep one of each IP family")
        families.add(family(address))
    for address in service_addresses_of(domain):
        if address not in domain.service_addresses and address in taken:
            detail = f"{address}, which is taken where none is given, is {taken[address]} already: give a free one"
            yield Fault("/service_addresses", detail)


def public_address_target_faults(domain: RoutingDomain) -> Iterator[Fault]:
    """Public addresses of machines that are not there, that have one already, or that are of another IP family."""
    if not domain.public_addresses:
        return
    known, taken = customer_addresses(domain), set[str]()
    for index, entry in enumerate(domain.public_addresses):
        pointer, customer = f"/public_addresses/{index}/customer_address", entry.customer_address
        if customer not in known:
            yield unrecorded(customer, pointer)
        if customer in taken:
            yield Fault(pointer, f"{customer} has a public address already: keep one of them")
        if family(customer) != family(entry.address):
            yield Fault(pointer, f"{customer} and {entry.address} are of different IP families")
        taken.add(customer)


def unrecorded(address: str, pointer: str) -> Fault:
    """Return the fault of a customer address that is none."""
    detail = f"{address} is not a customer address of this routing domain: no lookup record has it"
    return Fault(pointer, detail, absence=True)
