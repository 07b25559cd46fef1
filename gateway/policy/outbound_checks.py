"""Outbound NAT of one domain: who has which ports of its frontends. Pointers are relative to the domain."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from gateway.policy.addresses import address_range, family
from gateway.policy.balancing import Frontend, LoadBalancer, OutboundNat
from gateway.policy.faults import Fault
from gateway.policy.fields import port_ranges
from gateway.policy.lending import BLOCK_PORTS, blocks_lent, blocks_of, ports_of, shared_addresses, whole_blocks, whose
from gateway.policy.model import RoutingDomain


def outbound_nat_faults(domain: RoutingDomain) -> Iterator[Fault]:
    """Machines with two ways to the outside or none of their own, ports that are not whole blocks or are lent twice."""
    prefixes = {subnet.vsid: subnet.prefixes for subnet in domain.virtual_subnets}
    taken: dict[tuple[int, int, str], str] = {}
    for index, balancer in enumerate(domain.load_balancers):
        of_frontend = {one.name: one for one in balancer.frontends}
        at = f"/load_balancers/{index}/outbound_nat"
        for number, entry in enumerate(balancer.outbound_nat):
            pointer = f"{at}/{number}"
            frontend = of_frontend.get(entry.frontend)
            if entry.vsid not in prefixes:
                detail = f"{entry.vsid} is not a virtual subnet of this routing domain"
                yield Fault(f"{pointer}/vsid", detail, absence=True)
            if frontend is None:
                yield unknown_name("frontend", entry.frontend, of_frontend, pointer)
                continue
            if not frontend.public:
                detail = f"frontend {frontend.name!r} is not public: machines reach the outside from a public address"
                yield Fault(f"{pointer}/frontend", detail)
            yield from _customer_faults(entry, frontend, prefixes.get(entry.vsid, ()), pointer)
            yield from _second_ways(entry, frontend, taken, pointer)
        yield from _port_faults(balancer, at)
    yield from _repeated_addresses(domain)


def _customer_faults(
    entry: OutboundNat, frontend: Frontend, prefixes: tuple[str, ...], pointer: str
) -> Iterator[Fault]:
    networks = [address_range(prefix) for prefix in prefixes]
    for number, customers in enumerate(entry.customer_prefixes):
        at, own = f"{pointer}/customer_prefixes/{number}", address_range(customers)
        if family(customers) != family(frontend.address):
            detail = f"{customers} and {frontend.address} of frontend {frontend.name!r} are of different IP families"
            yield Fault(at, detail)
        elif prefixes and not any(each.first <= own.first <= own.last <= each.last for each in networks):
            detail = f"{customers} is in none of the prefixes of virtual subnet {entry.vsid}, {', '.join(prefixes)}"
            yield Fault(at, detail, absence=True)


def _second_ways(
    entry: OutboundNat, frontend: Frontend, taken: dict[tuple[int, int, str], str], pointer: str
) -> Iterator[Fault]:
    for number, customers in enumerate(entry.customer_prefixes or ("",)):
        key = (entry.vsid, family(frontend.address), customers)
        if key in taken:
            words = customers or f"virtual subnet {entry.vsid}"
            at = f"{pointer}/customer_prefixes/{number}" if customers else f"{pointer}/vsid"
            yield Fault(at, f"{words} reaches the outside from frontend {taken[key]!r} already")
        taken.setdefault(key, frontend.name)


def _port_faults(balancer: LoadBalancer, at: str) -> Iterator[Fault]:
    lent = blocks_lent(balancer)
    before: dict[str, list[OutboundNat]] = {}
    for number, (entry, blocks) in enumerate(zip(balancer.outbound_nat, lent, strict=True)):
        pointer = f"{at}/{number}/ports"
        if not blocks:
            detail = f"is missing: all ports of frontend {entry.frontend!r} belong to other outbound NAT"
            yield Fault(pointer, detail, absence=True)
        if entry.ports is None:
            continue
        for first, last in port_ranges(entry.ports):
            nearest = whole_blocks(first, last)
            if (first, last) != nearest:
                detail = f"{first}-{last} is not made of whole blocks of {BLOCK_PORTS:,} ports, from {BLOCK_PORTS} on"
                yield Fault(pointer, f"{detail}: write {nearest[0]}-{nearest[1]}")
        for other in before.setdefault(entry.frontend, []):
            both = blocks & blocks_of(other.ports or "")
            if both:
                yield Fault(
                    pointer, f"{ports_of(both)} of frontend {entry.frontend!r} belong to {whose(other)} already"
                )
        before[entry.frontend].append(entry)


def _repeated_addresses(domain: RoutingDomain) -> Iterator[Fault]:
    """Find addresses that other domains may share, given twice in this one; others are found among all claims."""
    shared, seen = shared_addresses(domain), set[str]()
    for index, balancer in enumerate(domain.load_balancers):
        for number, frontend in enumerate(balancer.frontends):
            if frontend.address in shared and frontend.address in seen:
                detail = f"public address {frontend.address} is given twice in this routing domain"
                yield Fault(f"/load_balancers/{index}/frontends/{number}/address", detail)
            seen.add(frontend.address)


def unknown_name(field: str, name: str, known: Iterable[str], at: str) -> Fault:
    """Return the fault of a name that nothing of the load balancer has."""
    nearest = get_close_matches(name, known, n=1)
    mend = f"did you mean {nearest[0]!r}?" if nearest else "correct the name, or add it"
    return Fault(f"{at}/{field}", f"{name!r} is not a {field} of this load balancer: {mend}", absence=True)
