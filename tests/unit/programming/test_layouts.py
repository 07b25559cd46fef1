"""What Python and C share: structures come from the object's BTF, and numbers that both write down are the same."""

import ast
import re
from pathlib import Path

import pytest

import gateway
from gateway.datapath.build import SOURCE
from gateway.programming import (
    block,
    classifier,
    directory_block,
    domain_block,
    hash_table,
    memory,
    routes_block,
    rule_tree,
    search,
    search_tree,
    service_plan,
    services_block,
)
from tests.unit.programming.arena import layout

LINES = ("line", "directory", "directory_more", "rewrite", "table", "table_more", "subnet", "next_hop", "classifier")
LINES += ("table_services", "table_compartment", "frontend", "rule", "translated", "choice")
LINES += ("search_node", "endpoint", "port", "domain", "root")
PARTS_OF_A_LINE = {
    "member": 2,
    "access_rule": 4,
    "cell": 4,
    "cell6": 2,
    "connection": 4,
    "neighbour": 4,
    "neighbour6": 2,
}
GATEWAY = Path(gateway.__file__).parent


def names_asked_for(method: str) -> set[str]:
    """All names that the gateway's own code gives to a method of Layout."""
    return {
        constant.value
        for path in GATEWAY.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == method
        for argument in call.args
        for constant in ast.walk(argument)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }


def test_every_structure_and_enumeration_that_python_uses_is_in_the_object() -> None:
    structures, enumerations = names_asked_for("struct"), names_asked_for("enum")
    assert {"table", "cell6", "endpoint"} <= structures
    assert {"verdict", "encapsulation"} <= enumerations
    for name in structures:
        assert layout().struct(name).itemsize > 0
    for name in enumerations:
        assert layout().enum(name)


@pytest.mark.parametrize("name", LINES)
def test_what_is_a_line_of_its_own_fills_one(name: str) -> None:
    assert layout().struct(name).itemsize == block.LINE_BYTES


@pytest.mark.parametrize("name", PARTS_OF_A_LINE)
def test_cells_fill_a_line_without_a_rest(name: str) -> None:
    assert layout().struct(name).itemsize * PARTS_OF_A_LINE[name] == block.LINE_BYTES


def defined() -> dict[str, int]:
    """The numbers that the headers define."""
    text = "".join(header.read_text() for header in SOURCE.parent.glob("*.h"))
    found = re.findall(r"^#define\s+(\w+)\s+(0x[0-9a-f]+|\d+)u?\b", text, re.MULTILINE)
    return {name: int(value, 0) for name, value in found}


def test_numbers_that_both_sides_write_down_are_the_same() -> None:
    both = {
        "LINE_BYTES": block.LINE_BYTES,
        "CHUNK_LINES": memory.CHUNK_LINES,
        "PROBE_LIMIT": hash_table.PROBE_LIMIT,
        "TARGET_LOCAL": domain_block.TARGET_LOCAL,
        "TARGET_HERE": domain_block.TARGET_HERE,
        "TARGET_FRONTEND": services_block.TARGET_FRONTEND,
        "TABLE_LISTS": domain_block.TABLE_LISTS,
        "TABLE_SERVICES": domain_block.TABLE_SERVICES,
        "FALLBACKS": services_block.FALLBACKS,
        "CONNECTION_TICK_SHIFT": services_block.CONNECTION_TICK_SHIFT,
        "LEAF_EXACT": routes_block.LEAF_EXACT,
        "LEAF_COUNT_SHIFT": routes_block.LEAF_COUNT_SHIFT,
        "PORT_PROVIDER": directory_block.PORT_PROVIDER,
        "PORT_EXTERNAL": directory_block.PORT_EXTERNAL,
        "PORT_FRAGMENTS": directory_block.PORT_FRAGMENTS,
        "PROTOCOL_TCP": services_block.PROTOCOL_TCP,
        "PROTOCOL_UDP": services_block.PROTOCOL_UDP,
        "RULE_OF_NOTES": service_plan.RULES.stop,
        "VECTOR_WORDS_MAX": classifier.RULES_MAX // 64,
        "NODE_WORDS": search_tree.NODE_WORDS,
        "SEARCH_NODE": search_tree.NODE,
        "SEARCH_KEY_SHIFT": search_tree.KEY_SHIFT,
        "SEARCH_COUNT_SHIFT": search.COUNT_SHIFT,
        "SEARCH_VECTORS": rule_tree.SEARCH_VECTORS,
        "PLACE_BYTES": search.PLACE_BYTES,
        "RULES_AT_PLACE": rule_tree.RULES_AT_PLACE,
        "RULE_ALLOW": rule_tree.ALLOW,
        "RULE_ANY_PROTOCOL": rule_tree.ANY_PROTOCOL,
        "RULE_SOURCE_PORT": rule_tree.OF_SOURCE_PORT,
    }
    numbers = defined()
    assert {name: numbers.get(name) for name in both} == both


def test_what_nodes_of_access_lists_ask_about_has_the_same_numbers() -> None:
    numbers = layout().enum("search_key")
    assert {name: numbers[name] for name in numbers if name != "SEARCH_KEYS"} == {
        f"KEY_{key.name}": key for key in search_tree.Key
    }
