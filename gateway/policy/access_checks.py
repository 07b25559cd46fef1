"""Access control lists of one domain: pointers are relative to the domain."""

from collections.abc import Iterator, Sequence

from gateway.policy.addresses import family
from gateway.policy.faults import Fault
from gateway.policy.fields import PROTOCOL_NUMBERS
from gateway.policy.model import AccessControlList, AccessRule, AppliesTo, RoutingDomain
from gateway.policy.route_checks import customer_addresses

_WITH_PORTS = (None, PROTOCOL_NUMBERS["tcp"], PROTOCOL_NUMBERS["udp"])


def access_list_faults(domain: RoutingDomain) -> Iterator[Fault]:
    """Duplicate names and priorities, targets that do not exist or have a list already, rules that never match."""
    if not domain.access_control_lists:
        return
    names: set[str] = set()
    vsids = {subnet.vsid for subnet in domain.virtual_subnets}
    known = customer_addresses(domain)
    for index, access_list in enumerate(domain.access_control_lists):
        at = f"/access_control_lists/{index}"
        if access_list.name in names:
            yield Fault(f"{at}/name", f"the name {access_list.name!r} is given to two lists of this routing domain")
        names.add(access_list.name)
        for number, target in enumerate(access_list.applies_to):
            yield from _target_faults(target, f"{at}/applies_to/{number}", vsids, known)
        yield from _priority_faults(access_list, at)
        for number, rule in enumerate(access_list.rules):
            yield from _rule_faults(rule, f"{at}/rules/{number}")
    yield from _second_list_faults(domain.access_control_lists)


def _second_list_faults(access_lists: Sequence[AccessControlList]) -> Iterator[Fault]:
    """The datapath asks one list for a virtual subnet, and one for a customer address."""
    holders: dict[AppliesTo, str] = {}
    for index, access_list in enumerate(access_lists):
        for number, target in enumerate(access_list.applies_to):
            if target in holders:
                field = "customer_address" if target.vsid is None else "vsid"
                detail = f"access control list {holders[target]!r} applies to it already: join the two lists"
                yield Fault(f"/access_control_lists/{index}/applies_to/{number}/{field}", detail)
            holders.setdefault(target, access_list.name)


def _target_faults(target: AppliesTo, at: str, vsids: set[int], known: set[str]) -> Iterator[Fault]:
    if (target.vsid is None) == (target.customer_address is None):
        yield Fault(at, "give either vsid or customer_address")
    elif target.vsid is not None and target.vsid not in vsids:
        yield Fault(f"{at}/vsid", f"{target.vsid} is not a virtual subnet of this routing domain", absence=True)
    elif target.customer_address is not None and target.customer_address not in known:
        detail = f"{target.customer_address} is not a customer address of this routing domain: no lookup record has it"
        yield Fault(f"{at}/customer_address", detail, absence=True)


def _priority_faults(access_list: AccessControlList, at: str) -> Iterator[Fault]:
    taken: set[tuple[str, int]] = set()
    for number, rule in enumerate(access_list.rules):
        key = (rule.direction, rule.priority)
        if key in taken:
            detail = f"two {rule.direction} rules have priority {rule.priority}: which comes first must be told"
            yield Fault(f"{at}/rules/{number}/priority", detail)
        taken.add(key)


def _rule_faults(rule: AccessRule, at: str) -> Iterator[Fault]:
    for field in ("source_ports", "destination_ports"):
        if getattr(rule, field) is not None and rule.protocol_number() not in _WITH_PORTS:
            yield Fault(f"{at}/{field}", f"protocol {rule.protocol} has no ports: only tcp and udp have")
    source, destination = rule.source_prefix, rule.destination_prefix
    if source and destination and family(source) != family(destination):
        yield Fault(f"{at}/destination_prefix", f"{destination} and {source} are of different IP families")
