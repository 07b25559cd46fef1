"""Virtual subnets and lookup records of one domain: pointers are relative to the domain."""

from collections.abc import Iterator

from gateway.policy.addresses import (
    UNSPECIFIED,
    AddressRange,
    address_range,
    family,
    ordinal,
    unroutable_within,
    why_not_routable,
)
from gateway.policy.faults import Fault
from gateway.policy.model import LookupRecord, RoutingDomain, VirtualSubnet

LOWEST_VSID, HIGHEST_VSID = 4096, 2**24 - 2
MOST_SUBNETS = 65_535
WITHOUT_ADDRESS = ("l2only", "gateway_wildcard")


def subnet_faults(domain: RoutingDomain) -> Iterator[Fault]:
    """Range of the VSID, prefixes that no VM may have, overlaps, and router addresses outside their prefix."""
    if len(domain.virtual_subnets) > MOST_SUBNETS:
        yield Fault(
            "/virtual_subnets", f"{len(domain.virtual_subnets):,} subnets: a domain holds {MOST_SUBNETS:,} at most"
        )
    for index, subnet in enumerate(domain.virtual_subnets):
        at = f"/virtual_subnets/{index}"
        if not LOWEST_VSID <= subnet.vsid <= HIGHEST_VSID:
            yield Fault(f"{at}/vsid", f"{subnet.vsid} is not a VSID: they go from {LOWEST_VSID} to {HIGHEST_VSID}")
        for number, prefix in enumerate(subnet.prefixes):
            if kind := unroutable_within(prefix):
                yield Fault(f"{at}/prefixes/{number}", f"{prefix} holds addresses that are never routed: {kind}")
        yield from _gateway_faults(subnet, at)
    yield from _overlaps(domain)


def _gateway_faults(subnet: VirtualSubnet, at: str) -> Iterator[Fault]:
    routed: set[str] = set()
    for number, gateway in enumerate(subnet.gateways):
        value = ordinal(gateway)
        prefix = next((p for p in subnet.prefixes if address_range(p).first <= value <= address_range(p).last), None)
        if prefix is None:
            yield Fault(f"{at}/gateways/{number}", f"{gateway} is in no prefix of its virtual subnet", absence=True)
        elif prefix in routed:
            yield Fault(f"{at}/gateways/{number}", f"{gateway} is a second router address of {prefix}")
        else:
            routed.add(prefix)


def _overlaps(domain: RoutingDomain) -> Iterator[Fault]:
    """Prefixes sorted by their first address: one that begins before an earlier one ends overlaps it."""
    placed = sorted(
        (address_range(prefix).first, -address_range(prefix).last, index, number, prefix)
        for index, subnet in enumerate(domain.virtual_subnets)
        for number, prefix in enumerate(subnet.prefixes)
    )
    widest = None
    for entry in placed:
        if widest is None or entry[0] > -widest[1]:
            widest = entry
            continue
        earlier, later = sorted((widest, entry), key=lambda one: one[2:4])
        vsid = domain.virtual_subnets[earlier[2]].vsid
        pointer = f"/virtual_subnets/{later[2]}/prefixes/{later[3]}"
        yield Fault(pointer, f"{later[4]} overlaps {earlier[4]} of virtual subnet {vsid}")


def record_faults(domain: RoutingDomain) -> Iterator[Fault]:
    """Everything that concerns one record or two of the same domain."""
    ranges = {subnet.vsid: [address_range(prefix) for prefix in subnet.prefixes] for subnet in domain.virtual_subnets}
    seen: set[object] = set()
    places: dict[tuple[int, str], str] = {}
    for index, record in enumerate(domain.lookup_records):
        of_subnet = ranges.get(record.vsid)
        if of_subnet is None:
            yield _fault(index, "vsid", f"{record.vsid} is not a virtual subnet of this routing domain", absence=True)
        elif record.type not in WITHOUT_ADDRESS:
            yield from _outside(index, record, of_subnet)
        elif record.customer_address not in UNSPECIFIED:
            yield _fault(index, "customer_address", f"a record of type {record.type} has the address 0.0.0.0 or ::")
        key = (record.vsid, record.customer_address) if record.type in WITHOUT_ADDRESS else record.customer_address
        if key in seen:
            yield _fault(index, "customer_address", f"{record.customer_address} is given twice{_where(record)}")
        seen.add(key)
        if kind := why_not_routable(record.provider_address):
            yield _fault(index, "provider_address", f"{record.provider_address} is never routed: {kind}")
        if record.encapsulation == "rewrite":  # one provider address for each customer address of a MAC
            yield from _rewrite_faults(index, record)
            continue
        place = places.setdefault((record.vsid, record.mac), record.provider_address)
        if place != record.provider_address:
            detail = f"{record.mac} of virtual subnet {record.vsid} is at {place} already: a MAC lives at one address"
            yield _fault(index, "provider_address", detail)


def _fault(index: int, field: str, detail: str, *, absence: bool = False) -> Fault:
    return Fault(f"/lookup_records/{index}/{field}", detail, absence)


def _where(record: LookupRecord) -> str:
    return f" in virtual subnet {record.vsid}" if record.type in WITHOUT_ADDRESS else " in this routing domain"


def _outside(index: int, record: LookupRecord, prefixes: list[AddressRange]) -> Iterator[Fault]:
    address = record.customer_address
    value = ordinal(address)
    for prefix in prefixes:
        if prefix.first <= value <= prefix.last:
            return
    if kind := why_not_routable(address):
        yield _fault(index, "customer_address", f"{address} is never routed: {kind}")
    else:
        detail = f"{address} is in no prefix of virtual subnet {record.vsid}"
        yield _fault(index, "customer_address", detail, absence=True)


def _rewrite_faults(index: int, record: LookupRecord) -> Iterator[Fault]:
    if record.type in WITHOUT_ADDRESS:
        yield _fault(index, "encapsulation", f"rewrite needs a customer address, which {record.type} has not")
    elif family(record.customer_address) != family(record.provider_address):
        detail = f"rewrite from {record.customer_address} to {record.provider_address}: both must be of one IP family"
        yield _fault(index, "provider_address", detail)
