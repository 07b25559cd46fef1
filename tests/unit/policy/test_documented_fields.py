"""The fields that the API's page lists are those of the model, with their defaults and bounds."""

import json
import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from gateway.configuration import load
from gateway.policy import balancing, connections
from gateway.policy.bounds import bound_faults
from gateway.policy.document import parse_yaml
from gateway.policy.model import Policy
from gateway.policy.validation import faults

DOCS = Path(__file__).parents[3] / "docs"
BALANCING = {
    "frontends": balancing.Frontend,
    "backend_pools": balancing.BackendPool,
    "members": balancing.PoolMember,
    "probes": balancing.Probe,
    "rules": balancing.BalancingRule,
    "inbound_nat_rules": balancing.InboundNatRule,
    "outbound_nat": balancing.OutboundNat,
}
SUITES = {"ike": connections.IkeProposal, "esp": connections.EspProposal}


def rows(heading: str) -> dict[str, tuple[str, str]]:
    section = re.split(r"^## ", (DOCS / "api.md").read_text().partition(f"## {heading}\n")[2], maxsplit=1, flags=re.M)[
        0
    ]
    found = re.findall(r"^\| `([^`]+)` \| (.*?) \| ?(.*?) ?\|$", section, re.M)
    return {field: (default, meaning) for field, default, meaning in found}


def defaults(kind: Any, prefix: str = "") -> dict[str, str]:
    return {f"{prefix}{field.name}": default(field) for field in fields(kind)}


def default(field: "Field[Any]") -> str:
    if field.default is MISSING:
        return "required"
    if field.name in SUITES:
        return "see below"
    return "none" if field.default is None else f"`{json.dumps(field.default)}`"


def test_the_fields_of_load_balancers_are_listed() -> None:
    expected = {name: text for at, kind in BALANCING.items() for name, text in defaults(kind, f"{at}.").items()}
    assert {field: text for field, (text, _) in rows("Load balancers").items()} == expected


def test_the_fields_of_tunnels_are_listed() -> None:
    expected = defaults(connections.IpsecConnection)
    expected |= {name: text for at, kind in SUITES.items() for name, text in defaults(kind, f"{at}.").items()}
    assert {field: text for field, (text, _) in rows("IPsec connections").items()} == expected


SAMPLES: dict[str, dict[str, Any]] = {
    "members": {"customer_address": "10.0.0.1"},
    "backend_pools": {"name": "a", "members": ()},
    "probes": {"name": "a", "protocol": "tcp", "port": 1},
    "rules": {"name": "a", "frontend": "a", "pool": "a", "protocol": "tcp", "port": 1},
    "inbound_nat_rules": {
        "name": "a",
        "frontend": "a",
        "protocol": "tcp",
        "port": 1,
        "customer_address": "10.0.0.1",
    },
}


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        (field, int(found[1]), int(found[2]))
        for field, (_, meaning) in rows("Load balancers").items()
        if (found := re.search(r"([0-9]+) to ([0-9]+)", meaning))
    ],
)
def test_the_bounds_are_those_that_are_listed(field: str, low: int, high: int) -> None:
    at, _, name = field.partition(".")
    outside = {
        value
        for value in (low - 1, low, high, high + 1)
        if [*bound_faults(BALANCING[at](**SAMPLES[at] | {name: value}), "")]
    }
    assert outside == {low - 1, high + 1}


@pytest.mark.parametrize("example", sorted((DOCS / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_a_gateway_takes_every_example(example: Path) -> None:
    ports = load(DOCS / "examples/gateway.toml").ports_by_name()
    assert faults(parse_yaml(example.read_bytes()), ports) == []


def test_the_description_tells_bounds_names_and_secrets() -> None:
    schemas = TypeAdapter(Policy).json_schema()["$defs"]
    weight = schemas["PoolMember"]["properties"]["weight"]
    assert (weight["minimum"], weight["maximum"], weight["default"]) == (1, 1000, 1)
    assert schemas["IkeProposal"]["properties"]["dh_group"]["enum"][0] == "modp2048"
    assert schemas["PskAuthentication"]["properties"]["secret"]["writeOnly"]
    assert schemas["CertificateAuthentication"]["properties"]["private_key"]["writeOnly"]
    connection = schemas["RoutingDomain"]["properties"]["network_connections"]["items"]
    assert [kind["$ref"] for kind in connection["oneOf"]] == ["#/$defs/NetworkConnection", "#/$defs/IpsecConnection"]
