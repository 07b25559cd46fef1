"""Rules of policy routing, ip-rule(8), in the namespace that requests are made in."""

import struct
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any

from pyroute2.netlink import rtnl  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.fibmsg import FR_ACT_TO_TBL, fibmsg  # type: ignore[import-untyped]

from gateway.compartments.changes import Change, request
from gateway.underlay.messages import attributes_of, number_of, text_of
from gateway.underlay.netlink import Requests

LOCAL = 255  # the table of addresses of one's own
_FIB_RULE_HEADER = struct.Struct("=BBB9x")  # family, lengths of destination and source
_HEADER_BYTES = 16  # struct nlmsghdr
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_TABLE = 1, 2, 3, 6, 15
_VERSIONS = {AF_INET: 4, AF_INET6: 6}
_FAMILIES = {version: family for family, version in _VERSIONS.items()}


@dataclass(frozen=True, slots=True)
class Rule:
    """What comes by this interface, from this prefix to that one, each None for any, is looked up in this table."""

    version: int
    priority: int
    table: int
    interface: str | None = None
    source: str | None = None
    destination: str | None = None


def held_rules(requests: Requests) -> set[Rule]:
    """Return the rules that there are, of both families. Raises OSError."""
    held = (_rule(message.data) for message in requests.dump(rtnl.RTM_NEWRULE) if message.family in _VERSIONS)
    return set(held)


def new_rule(rule: Rule) -> Change:
    """Add a rule; where it is there already, it is there twice."""
    return Change(f"adding {rule}", _request(rtnl.RTM_NEWRULE, rule))


def no_rule(rule: Rule) -> Change:
    """Remove a rule."""
    return Change(f"removing {rule}", _request(rtnl.RTM_DELRULE, rule))


def _rule(data: bytes) -> Rule:
    family, destination_length, source_length = _FIB_RULE_HEADER.unpack_from(data, _HEADER_BYTES)
    attributes = dict(attributes_of(data, _HEADER_BYTES + _FIB_RULE_HEADER.size))

    def prefix(kind: int, length: int) -> str | None:
        return f"{inet_ntop(family, attributes[kind])}/{length}" if kind in attributes else None

    return Rule(
        version=_VERSIONS[family],
        priority=number_of(attributes.get(_FRA_PRIORITY, b"")),
        table=number_of(attributes[_FRA_TABLE]),
        interface=text_of(attributes[_FRA_IIFNAME]) if _FRA_IIFNAME in attributes else None,
        source=prefix(_FRA_SRC, source_length),
        destination=prefix(_FRA_DST, destination_length),
    )


def _request(kind: int, rule: Rule) -> Any:
    attributes: list[tuple[str, Any]] = [("FRA_PRIORITY", rule.priority), ("FRA_TABLE", rule.table)]
    if rule.interface is not None:
        attributes.append(("FRA_IIFNAME", rule.interface))
    message = request(fibmsg, kind, attributes)
    message["family"] = _FAMILIES[rule.version]
    message["action"] = FR_ACT_TO_TBL
    for attribute, field, prefix in (("FRA_SRC", "src_len", rule.source), ("FRA_DST", "dst_len", rule.destination)):
        if prefix is not None:
            address, _, length = prefix.partition("/")
            attributes.append((attribute, address))
            message[field] = int(length)
    return message
