"""From which provider addresses a routing domain's packets may come."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from gateway.policy.model import Host, RoutingDomain

Siblings: TypeAlias = Mapping[str, frozenset[str]]  # a host's provider address -> all of that host's


def siblings_of(hosts: Iterable[Host]) -> Siblings:
    """Tell for each provider address which others its host may send from."""
    found = {}
    for host in hosts:
        addresses = frozenset(each.address for each in host.provider_addresses)
        found.update(dict.fromkeys(addresses, addresses))
    return found


def admitted(provider_addresses: Iterable[str], siblings: Siblings, moved: frozenset[str]) -> frozenset[str]:
    """All addresses that may send for a domain with records at these, `moved` while machines leave them."""
    return frozenset().union(*(siblings.get(each, {each}) for each in set(provider_addresses)), moved)


def moved_from(old: RoutingDomain | None, new: RoutingDomain) -> frozenset[str]:
    """Return the provider addresses that machines left between two versions of a domain."""
    if old is None or old.lookup_records is new.lookup_records:
        return frozenset()
    before = {(record.vsid, record.customer_address): record.provider_address for record in old.lookup_records}
    return frozenset(
        before[place]
        for record in new.lookup_records
        if (place := (record.vsid, record.customer_address)) in before and before[place] != record.provider_address
    )
