"""The part of a routing domain's block that translates addresses: struct table_services and what it leads to. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy
import numpy.typing

from gateway.datapath.layout import Layout
from gateway.policy.addresses import family
from gateway.programming.block import BlockBuilder
from gateway.programming.encoding import cells_for, mac_bytes, port_word, words_of
from gateway.programming.hash_table import add_table
from gateway.programming.planned_services import Chooser, Origin, Plan, PlannedFrontend, PlannedRule, Target
from gateway.programming.routes_block import add_leaves
from gateway.programming.search_tree import TreeWriter
from gateway.programming.service_plan import customers_digest

TARGET_FRONTEND = 0x40000000
FALLBACKS = 14
CONNECTION_TICK_SHIFT = 33
PROTOCOL_TCP = 1
PROTOCOL_UDP = 2
TCP, UDP = 6, 17
_TICK_NS = 1 << CONNECTION_TICK_SHIFT
_IDLE_TICKS_MAX = 7 << 8  # connections tell no more than 2,047 ticks apart

_Translated = tuple[int, int, tuple[tuple[int, int], ...]]  # frontend after, protocols, (port, rule)


def idle_byte(seconds: int) -> int:
    """Return the shortest limit that is not shorter than this, up to 4 h 16 min, as rules and connections carry it."""
    ticks = min(-(-seconds * 10**9 // _TICK_NS), _IDLE_TICKS_MAX)
    return next(value for value in range(256) if (1 + (value & 7)) << (value >> 3) >= ticks)


def add_services(
    builder: BlockBuilder, layout: Layout, plan: Plan, choice: Mapping[Origin, int], distributed: bool
) -> numpy.typing.NDArray[Any]:
    """Write a plan into the block; return its struct table_services. `choice`: the numbers of the choices."""
    header = numpy.zeros(1, layout.struct("table_services"))
    header["distributed"] = distributed
    frontends = _frontend_rows(builder, layout, plan.frontends)
    rules = _rule_rows(layout, plan.rules, choice)
    header["frontends"], header["frontend_count"] = builder.add(frontends), len(frontends)
    header["numbered"], header["rule_count"] = builder.add(rules), len(rules)
    header["rules"] = _add_rule_index(builder, layout, plan.rules)
    lines: dict[_Translated, int] = {}
    translated = _translated(plan)
    for version in (4, 6):
        of_family = {address: each for address, each in translated.items() if family(address) == version}
        cells = cells_for(layout, version, list(of_family))
        cells["target"] = [_translated_line(builder, layout, lines, each) for each in of_family.values()]
        header[f"translated{version}"] = add_table(builder, cells).values()
    return header


def _frontend_rows(builder: BlockBuilder, layout: Layout, frontends: Iterable[PlannedFrontend]) -> Any:
    kinds = layout.enum("frontend_kind")
    by_number = {each.number: each for each in frontends}
    rows = numpy.zeros(max(by_number, default=-1) + 1, layout.struct("frontend"))
    for number, frontend in by_number.items():
        row = rows[number]
        row["address"], row["vsid"] = words_of(frontend.address), frontend.vsid
        row["kind"] = kinds["FRONTEND_BALANCED"]
        if frontend.machine is not None:
            row["kind"], row["machine"] = kinds["FRONTEND_ONE_TO_ONE"], words_of(frontend.machine)
        if frontend.peers is not None:
            row["kind"], row["own"] = kinds["FRONTEND_STEERED"], frontend.own
            row["peers"] = _add_peers(builder, layout, family(frontend.address), frontend.peers)
        row["blocks"] = frontend.blocks
        if frontend.lenders is not None:
            row["kind"], row["lenders"] = kinds["FRONTEND_SHARED"], _add_lenders(builder, layout, frontend.lenders)
    return rows


def _add_lenders(builder: BlockBuilder, layout: Layout, lenders: Mapping[int, Target]) -> int:
    row = numpy.zeros(1, layout.struct("lenders"))
    for block, (domain, frontend) in lenders.items():
        row["of_block"]["domain"][0, block], row["of_block"]["frontend"][0, block] = domain, frontend
    return builder.add(row)


def _add_peers(
    builder: BlockBuilder, layout: Layout, version: int, peers: Mapping[str, tuple[int, str]]
) -> tuple[int, int, int]:
    ordered = sorted(peers)
    cells = cells_for(layout, version, ordered)
    for cell, peer in zip(cells, ordered, strict=True):
        cell["target"], cell["mac"] = peers[peer][0], list(mac_bytes(peers[peer][1]))
    return add_table(builder, cells).values()


def _rule_rows(layout: Layout, rules: Iterable[PlannedRule], choice: Mapping[Origin, int]) -> Any:
    kinds = layout.enum("rule_kind")
    by_number = {each.number: each for each in rules}
    rows = numpy.zeros(max(by_number, default=0) + 1, layout.struct("rule"))
    for number, rule in by_number.items():
        row = rows[number]
        row["kind"] = kinds["RULE_OUTBOUND"]
        if rule.chooser is not None:
            row["kind"], row["choice"] = kinds["RULE_BALANCED"], choice[rule.chooser]
        row["protocol"], row["distribution"], row["idle"] = rule.protocol, rule.distribution, idle_byte(rule.idle_s)
        row["port"], row["backend_port"] = port_word(rule.port), port_word(rule.backend_port)
        row["frontend"], row["address"] = rule.frontend.number, words_of(rule.frontend.address)
        row["floating"], row["is_public"] = rule.floating, not rule.frontend.vsid
        row["vsid"], row["customers"], row["blocks"] = rule.vsid, customers_digest(rule.customers), rule.blocks
    return rows


def _add_rule_index(builder: BlockBuilder, layout: Layout, rules: Iterable[PlannedRule]) -> tuple[int, int, int]:
    found = [rule for rule in rules if rule.chooser is not None]
    cells = numpy.zeros(len(found), layout.struct("cell"))
    cells["key"] = [(rule.frontend.number + 1) << 17 | (rule.protocol == UDP) << 16 | rule.port for rule in found]
    cells["target"] = [rule.number for rule in found]
    return add_table(builder, cells).values()


def add_customers(trees: TreeWriter, version: int, rules: Mapping[str, int], others: int) -> int:
    """Write the tree of machines with an outbound rule of their own, by prefix; return the word for it. 0: none."""
    return add_leaves(trees, version, rules.items(), others) if rules else 0


def _translated(plan: Plan) -> dict[str, _Translated]:
    """Tell of each machine that may answer for a frontend which is its own, and which rules its ports stand for."""
    after = {each.machine: each.number + 1 for each in plan.frontends if each.machine is not None}
    # a machine that keeps a frontend's address sends from it: the address stands for itself
    after |= {
        rule.frontend.address: rule.frontend.number + 1
        for rule in plan.rules
        if rule.floating and not rule.frontend.vsid
    }
    leading: dict[Chooser, list[PlannedRule]] = {}
    for rule in plan.rules:
        if rule.chooser is not None:
            leading.setdefault(rule.chooser, []).append(rule)
    rules_of: dict[str, list[PlannedRule]] = {machine: [] for machine in after}
    for chooser, choice in plan.choices.items():
        for address in choice.numbers:
            rules_of.setdefault(address, []).extend(leading[chooser])
    fallbacks: dict[tuple[int, ...], tuple[tuple[int, int], ...]] = {}
    found = {}
    for address, rules in sorted(rules_of.items()):
        numbers = tuple(rule.number for rule in rules)
        if numbers not in fallbacks:
            fallbacks[numbers] = _fallbacks(rules)
        found[address] = (after.get(address, 0), _protocols(rules), fallbacks[numbers])
    return found


def _protocols(rules: Iterable[PlannedRule]) -> int:
    protocols = {rule.protocol for rule in rules}
    return (PROTOCOL_TCP if TCP in protocols else 0) | (PROTOCOL_UDP if UDP in protocols else 0)


def _fallbacks(rules: Iterable[PlannedRule]) -> tuple[tuple[int, int], ...]:
    """The public rules that alone lead to their port: (port, rule). What does not fit is left out."""
    leading: dict[tuple[int, int], list[int]] = {}
    for rule in rules:
        if not rule.frontend.vsid:
            leading.setdefault((rule.protocol, rule.backend_port), []).append(rule.number)
    alone = [(port, numbers[0]) for (_, port), numbers in sorted(leading.items()) if len(numbers) == 1]
    return tuple(alone[:FALLBACKS])


def _translated_line(
    builder: BlockBuilder, layout: Layout, lines: dict[_Translated, int], translated: _Translated
) -> int:
    """Machines of the same pools share a line."""
    if translated not in lines:
        row = numpy.zeros(1, layout.struct("translated"))
        row["frontend_after"], row["protocols"], fallbacks = translated
        row["count"] = len(fallbacks)
        for at, (port, rule) in enumerate(fallbacks):
            row["fallbacks"]["port"][0, at], row["fallbacks"]["rule"][0, at] = port_word(port), rule
        lines[translated] = builder.add(row)
    return lines[translated]
