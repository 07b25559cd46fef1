"""What the blocks that an earlier daemon left say of its numbers. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy

from gateway.datapath.layout import Layout
from gateway.programming.block import LINE_BYTES, Bytes
from gateway.programming.encoding import address_of, port_word
from gateway.programming.planned_services import OUTBOUND, FrontendKey, Numbers, Origin, PublicAddress, RuleKey
from gateway.programming.service_plan import whose_number

_SERVICES_LINE = 2


def recovered_numbers(block: Bytes, layout: Layout, members: Mapping[int, Mapping[str, int]]) -> Numbers:
    """Read the numbers of frontends and rules in a domain's block. `members`: numbers of members, by choice."""
    services = _rows(block, _SERVICES_LINE, 1, layout, "table_services")[0]
    frontends = _frontends(block, services, layout)
    kinds = layout.enum("rule_kind")
    rows = _rows(block, int(services["numbered"]), int(services["rule_count"]), layout, "rule")
    rules: dict[RuleKey, int] = {}
    choosers: dict[RuleKey, Origin] = {}
    used: dict[Origin, Mapping[str, int]] = {}
    for number in numpy.flatnonzero(rows["kind"] == kinds["RULE_BALANCED"]).tolist():
        row = rows[number]
        key = (int(row["frontend"]), int(row["protocol"]), port_word(int(row["port"])))
        if int(row["choice"]) in members:
            rules[key], choosers[key] = number, int(row["choice"])
            used[int(row["choice"])] = members[int(row["choice"])]
    blocks: dict[RuleKey, int] = {}
    for number in numpy.flatnonzero(rows["kind"] == kinds["RULE_OUTBOUND"]).tolist():
        row = rows[number]
        key = (int(row["frontend"]), OUTBOUND, whose_number(int(row["vsid"]), int(row["customers"])))
        rules[key], blocks[key] = number, int(row["blocks"])
    return Numbers(frontends, rules, choosers, dict(used), blocks)


def recovered_public(block: Bytes, layout: Layout) -> frozenset[PublicAddress]:
    """Read the public addresses in a domain's block."""
    services = _rows(block, _SERVICES_LINE, 1, layout, "table_services")[0]
    rows = _rows(block, int(services["frontends"]), int(services["frontend_count"]), layout, "frontend")
    found = _frontends(block, services, layout)
    public = ((address, number) for (address, vsid), number in found.items() if not vsid)
    return frozenset((address, number, int(rows[number]["blocks"])) for address, number in public)


def _frontends(block: Bytes, services: Any, layout: Layout) -> dict[FrontendKey, int]:
    kinds = layout.enum("frontend_kind")
    rows = _rows(block, int(services["frontends"]), int(services["frontend_count"]), layout, "frontend")
    wanted = numpy.isin(rows["kind"], (kinds["FRONTEND_BALANCED"], kinds["FRONTEND_ONE_TO_ONE"]))
    found = numpy.flatnonzero(wanted).tolist()
    return {(address_of(rows[number]["address"]), int(rows[number]["vsid"])): number for number in found}


def _rows(block: Bytes, line: int, count: int, layout: Layout, name: str) -> Any:
    kind = layout.struct(name)
    return block[line * LINE_BYTES : line * LINE_BYTES + count * kind.itemsize].view(kind)
