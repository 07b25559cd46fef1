"""A sound policy document as plain data, for tests to take apart."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from samples import BLUE, LOAD_BALANCER, RED, TUNNEL, record

from gateway.configuration import Port
from gateway.policy.document import parse_json
from gateway.policy.faults import PolicyFaults
from gateway.policy.validation import faults


@pytest.fixture
def ports() -> dict[str, Port]:
    return {
        "provider": Port(name="provider", role="provider", interface="eth1", addresses=("192.168.6.2/24",)),
        "corpnet": Port(name="corpnet", role="external", interface="eth2"),
        "corpnet20": Port(name="corpnet20", role="external", interface="eth2", vlan=20),
        "internet": Port(
            name="internet",
            role="external",
            interface="eth3",
            addresses=("198.51.100.1/24", "2001:db8:100::1/64"),
            gateways=("198.51.100.254", "2001:db8:100::fe"),
        ),
    }


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "hosts": [
            {"id": "host1", "provider_addresses": [{"address": "192.168.1.10", "prefix_length": 24}]},
            {"id": "host2", "provider_addresses": [{"address": "192.168.2.20", "prefix_length": 24, "vlan": 7}]},
        ],
        "routing_domains": [
            {
                "id": BLUE,
                "name": "blue",
                "tenant": "blue-corp",
                "virtual_subnets": [
                    {"vsid": 6001, "prefixes": ["10.1.1.0/24"]},
                    {"vsid": 6002, "prefixes": ["10.1.6.0/24", "fd00:6::/64"], "gateways": ["10.1.6.9", "fd00:6::1"]},
                ],
                "lookup_records": [
                    record(6001, "10.1.1.11", 1, "192.168.1.10", encapsulation="nvgre", name="BlueVM1"),
                    record(6001, "10.1.1.12", 2, "192.168.2.20"),
                    record(6002, "10.1.6.21", 3, "192.168.6.4"),
                    record(6002, "fd00:6::21", 3, "192.168.6.4"),
                    record(6001, "0.0.0.0", 4, "192.168.6.5", type="gateway_wildcard"),
                    record(6002, "10.1.6.22", 5, "192.168.9.1", encapsulation="rewrite"),
                ],
                "customer_routes": [
                    {"vsid": 6001, "prefix": "10.1.1.0/24"},
                    {"prefix": "172.16.0.0/12", "next_hop": "10.1.6.21", "metric": 10},
                ],
                "network_connections": [
                    {
                        "name": "corpnet",
                        "type": "l3",
                        "port": "corpnet",
                        "local_addresses": ["157.1.0.254/16"],
                        "routes": [{"prefix": "0.0.0.0/0", "next_hop": "157.1.0.1"}],
                    }
                ],
                "access_control_lists": [
                    {
                        "name": "web-only",
                        "applies_to": [{"vsid": 6002}, {"customer_address": "10.1.6.21"}],
                        "rules": [
                            {
                                "priority": 100,
                                "direction": "inbound",
                                "action": "allow",
                                "protocol": "tcp",
                                "destination_ports": "80,443,8080-8089",
                            },
                            {"priority": 200, "direction": "inbound", "action": "deny"},
                        ],
                    }
                ],
            },
            {
                "id": RED,
                "name": "red",
                "virtual_subnets": [{"vsid": 5001, "prefixes": ["10.1.1.0/24"]}],
                "lookup_records": [record(5001, "10.1.1.11", 17, "192.168.1.10")],
            },
        ],
    }


@pytest.fixture
def balanced(blue: dict[str, Any]) -> dict[str, Any]:
    """The first domain with a load balancer and a public address of a machine."""
    blue["load_balancers"] = [deepcopy(LOAD_BALANCER)]
    blue["public_addresses"] = [{"address": "198.51.100.81", "customer_address": "10.1.1.11"}]
    return blue


@pytest.fixture
def joined(blue: dict[str, Any]) -> dict[str, Any]:
    """The first domain with a tunnel, its second network connection."""
    blue["network_connections"].append(deepcopy(TUNNEL))
    return blue


@pytest.fixture
def blue(document: dict[str, Any]) -> Any:
    return document["routing_domains"][0]


@pytest.fixture
def red(document: dict[str, Any]) -> Any:
    return document["routing_domains"][1]


@pytest.fixture
def found(document: dict[str, Any], ports: dict[str, Port]) -> Callable[[], dict[str, str]]:
    """Find the faults of the document as it stands when called, by pointer."""

    def look() -> dict[str, str]:
        try:
            parse_json(json.dumps(document).encode(), lambda policy: faults(policy, ports))
        except PolicyFaults as raised:
            return {fault.pointer: fault.detail for fault in raised.faults}
        return {}

    return look
