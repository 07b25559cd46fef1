"""Differences between policies, in words."""

import dataclasses
import json
from typing import Any

import pytest

from gateway.policy.difference import Change, difference
from gateway.policy.document import parse_json
from gateway.policy.model import Policy


def parsed(document: dict[str, Any]) -> Policy:
    return parse_json(json.dumps(document).encode())


@pytest.fixture
def old(document: dict[str, Any]) -> Policy:
    return parsed(document)


def test_equal_policies_do_not_differ(document: dict[str, Any], old: Policy) -> None:
    assert difference(old, parsed(document)) == []


def test_the_order_of_elements_is_no_difference(old: Policy, document: dict[str, Any]) -> None:
    document["routing_domains"].reverse()
    document["routing_domains"][1]["lookup_records"].reverse()
    assert difference(old, parsed(document)) == []


def test_an_added_and_a_removed_record_are_told_whole(old: Policy, document: dict[str, Any]) -> None:
    records = document["routing_domains"][1]["lookup_records"]
    gone = records.pop()
    new = gone | {"customer_address": "10.1.1.77"}
    records.append(new)
    assert difference(old, parsed(document)) == [
        Change("routing domain red, lookup record 5001 10.1.1.11", "removed", gone, None),
        Change("routing domain red, lookup record 5001 10.1.1.77", "added", None, new),
    ]


def test_a_changed_field_is_told_with_both_values(old: Policy, document: dict[str, Any]) -> None:
    blue = document["routing_domains"][0]
    blue["lookup_records"][0]["encapsulation"] = "vxlan"
    blue["access_control_lists"][0]["rules"][1]["action"] = "allow"
    blue["network_connections"][0]["routes"][0]["metric"] = 5
    blue["virtual_subnets"][0]["gateways"] = ["10.1.1.254"]
    assert difference(old, parsed(document)) == [
        Change("routing domain blue, virtual subnet 6001, gateways", "changed", [], ["10.1.1.254"]),
        Change("routing domain blue, lookup record 6001 10.1.1.11, encapsulation", "changed", "nvgre", "vxlan"),
        Change(
            "routing domain blue, network connection corpnet, route 0.0.0.0/0 via 157.1.0.1, metric", "changed", 0, 5
        ),
        Change(
            "routing domain blue, access control list web-only, rule inbound 200, action", "changed", "deny", "allow"
        ),
    ]


def test_a_renamed_domain_is_the_same_domain(old: Policy, document: dict[str, Any]) -> None:
    document["routing_domains"][1]["name"] = "crimson"
    assert difference(old, parsed(document)) == [Change("routing domain crimson, name", "changed", "red", "crimson")]


def test_domains_and_hosts_come_and_go(old: Policy) -> None:
    blue, red = old.routing_domains
    changes = difference(dataclasses.replace(old, routing_domains=(blue,)), Policy(old.hosts[:1], (red,)))
    assert [(change.kind, change.path) for change in changes] == [
        ("removed", "host host2"),
        ("removed", "routing domain blue"),
        ("added", "routing domain red"),
    ]
    assert changes[2].new["virtual_subnets"] == [{"vsid": 5001, "prefixes": ["10.1.1.0/24"]}]


def test_routes_that_differ_in_their_metric_only_are_both_told(old: Policy, document: dict[str, Any]) -> None:
    routes = document["routing_domains"][0]["customer_routes"]
    routes.append(routes[1] | {"metric": 20})
    assert [change.path for change in difference(old, parsed(document))] == [
        "routing domain blue, customer route 172.16.0.0/12 via 10.1.6.21 (2)"
    ]
