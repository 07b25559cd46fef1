"""What differs between two policies, object by object, in words."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal

from pydantic import TypeAdapter

from gateway.policy.model import (
    AccessControlList,
    AccessRule,
    BackendPool,
    BalancingRule,
    ConnectionRoute,
    CustomerRoute,
    Frontend,
    Host,
    InboundNatRule,
    IpsecConnection,
    LoadBalancer,
    LookupRecord,
    NetworkConnection,
    OutboundNat,
    Policy,
    PoolMember,
    Probe,
    ProviderAddress,
    ProviderRoute,
    PublicAddress,
    RoutingDomain,
    Secret,
    VirtualSubnet,
)


@dataclass(frozen=True, slots=True)
class Change:
    """One object or field that is only in one of the policies or differs, as plain data; None on the side without it.

    `path` is in words: "routing domain blue, lookup record 6001 10.1.1.11, mac".
    """

    path: str
    kind: Literal["added", "removed", "changed"]
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class _Kind:
    """How objects of one type are called in words, and what tells one from another within its parent."""

    word: str
    key: Callable[[Any], tuple[object, ...]]


def _route_key(route: CustomerRoute | ConnectionRoute | ProviderRoute) -> tuple[object, ...]:
    return (route.prefix, "via", route.next_hop) if route.next_hop else (route.prefix, "on-link")


_KINDS: dict[type, _Kind] = {
    Host: _Kind("host", lambda host: (host.id,)),
    ProviderAddress: _Kind("provider address", lambda entry: (entry.address,)),
    ProviderRoute: _Kind("provider route", _route_key),
    RoutingDomain: _Kind("routing domain", lambda domain: (domain.id,)),
    VirtualSubnet: _Kind("virtual subnet", lambda subnet: (subnet.vsid,)),
    LookupRecord: _Kind("lookup record", lambda record: (record.vsid, record.customer_address)),
    CustomerRoute: _Kind("customer route", _route_key),
    NetworkConnection: _Kind("network connection", lambda connection: (connection.name,)),
    IpsecConnection: _Kind("network connection", lambda connection: (connection.name,)),
    ConnectionRoute: _Kind("route", _route_key),
    AccessControlList: _Kind("access control list", lambda access_list: (access_list.name,)),
    AccessRule: _Kind("rule", lambda rule: (rule.direction, rule.priority)),
    LoadBalancer: _Kind("load balancer", lambda balancer: (balancer.name,)),
    Frontend: _Kind("frontend", lambda frontend: (frontend.name,)),
    BackendPool: _Kind("pool", lambda pool: (pool.name,)),
    PoolMember: _Kind("member", lambda member: (member.customer_address,)),
    Probe: _Kind("probe", lambda probe: (probe.name,)),
    BalancingRule: _Kind("rule", lambda rule: (rule.name,)),
    InboundNatRule: _Kind("inbound NAT rule", lambda rule: (rule.name,)),
    OutboundNat: _Kind(
        "outbound NAT of virtual subnet", lambda entry: (entry.vsid, *entry.customer_prefixes, "from", entry.frontend)
    ),
    PublicAddress: _Kind("public address", lambda entry: (entry.address,)),
}


def difference(old: Policy, new: Policy) -> list[Change]:
    """Every change that leads from the old policy to the new one; the order of elements is no difference."""
    return list(_field_changes("", old, new))


def _field_changes(at: str, old: Any, new: Any) -> Iterator[Change]:
    for field in fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after:
            continue
        elements = (*before, *after) if isinstance(before, tuple) and isinstance(after, tuple) else ()
        if elements and type(elements[0]) in _KINDS:
            yield from _element_changes(at, _KINDS[type(elements[0])], before, after)
        elif is_dataclass(before) and type(before) is type(after):
            yield from _field_changes(f"{at}{field.name}, ", before, after)
        elif isinstance(before, Secret):
            yield Change(f"{at}{field.name}", "changed", str(before), f"{after} given anew")
        else:
            yield Change(f"{at}{field.name}", "changed", _plain(before), _plain(after))


def _element_changes(at: str, kind: _Kind, old: Sequence[Any], new: Sequence[Any]) -> Iterator[Change]:
    before, after = _by_key(kind, old), _by_key(kind, new)
    for key in dict.fromkeys((*before, *after)):
        was, is_now = before.get(key), after.get(key)
        path = f"{at}{kind.word} {_label(is_now or was, key)}"
        if was is None:
            yield Change(path, "added", None, _plain(is_now))
        elif is_now is None:
            yield Change(path, "removed", _plain(was), None)
        elif type(was) is not type(is_now):
            yield Change(path, "removed", _plain(was), None)
            yield Change(path, "added", None, _plain(is_now))
        elif was != is_now:
            yield from _field_changes(f"{path}, ", was, is_now)


def _by_key(kind: _Kind, elements: Sequence[Any]) -> dict[tuple[object, ...], Any]:
    """Elements by key; a repeated key (of equal routes) gets its number, so that nothing is lost."""
    found: dict[tuple[object, ...], Any] = {}
    for element in elements:
        key = kind.key(element)
        number = 1
        while key in found:
            number += 1
            key = (*kind.key(element), f"({number})")
        found[key] = element
    return found


def _label(element: Any, key: tuple[object, ...]) -> str:
    return element.name if isinstance(element, RoutingDomain) else " ".join(map(str, key))


def _plain(value: Any) -> Any:
    """Plain data, without fields that have their default."""
    if isinstance(value, tuple):
        return [_plain(element) for element in value]
    if not is_dataclass(value):
        return value
    kind: type = type(value)
    return _adapter(kind).dump_python(value, mode="json", exclude_defaults=True)


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
