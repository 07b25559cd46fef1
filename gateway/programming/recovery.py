"""What the blocks that an earlier daemon left say of its numbers. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy

from gateway.datapath.layout import Layout
from gateway.programming.block import LINE_BYTES, Bytes
from gateway.programming.encoding import address_of, port_word
from gateway.programming.service_plan import OUTBOUND, FrontendKey, Numbers, Origin, RuleKey

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
    for vsid, number in _outbound(block, layout):
        rules[int(rows[number]["frontend"]), OUTBOUND, vsid] = number
    return Numbers(frontends, rules, choosers, dict(used))


def _frontends(block: Bytes, services: Any, layout: Layout) -> dict[FrontendKey, int]:
    kinds = layout.enum("frontend_kind")
    rows = _rows(block, int(services["frontends"]), int(services["frontend_count"]), layout, "frontend")
    wanted = numpy.isin(rows["kind"], (kinds["FRONTEND_BALANCED"], kinds["FRONTEND_ONE_TO_ONE"]))
    found = numpy.flatnonzero(wanted).tolist()
    return {(address_of(rows[number]["address"]), int(rows[number]["vsid"])): number for number in found}


def _outbound(block: Bytes, layout: Layout) -> Iterator[tuple[int, int]]:
    """Each virtual subnet's rules for the outside: (VSID, rule)."""
    header = _rows(block, 0, 1, layout, "table")[0]
    index = _rows(block, 1, 1, layout, "table_more")[0]["vsids"]
    cells = block[int(index["first"]) * LINE_BYTES :].view(layout.struct("cell"))
    keys = cells["key"]
    behind = int(index["size"]) + int(numpy.argmax(keys[int(index["size"]) :] == 0))
    for at in numpy.flatnonzero(keys[:behind]).tolist():
        subnet = _rows(block, int(header["subnets"]) + int(cells[at]["index"]), 1, layout, "subnet")[0]
        for version in (4, 6):
            if subnet[f"outbound{version}"]:
                yield int(subnet["vsid"]), int(subnet[f"outbound{version}"])


def _rows(block: Bytes, line: int, count: int, layout: Layout, name: str) -> Any:
    kind = layout.struct(name)
    return block[line * LINE_BYTES : line * LINE_BYTES + count * kind.itemsize].view(kind)
