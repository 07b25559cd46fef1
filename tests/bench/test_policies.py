import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from gateway.configuration import Port
from gateway.policy import document, validation
from tests.bench import plan, policies, pools, tunnel_plan
from tests.bench.pings import Pings
from tests.bench.plan import Plan
from tests.bench.tunnel_plan import MOST_TUNNELS, Tunnel

PORTS = {
    "internet": Port(
        name="internet", role="external", interface="external", addresses=("198.51.100.1/24", "2001:db8:6::1/64")
    ),
    "provider": Port(name="provider", role="provider", interface="provider", addresses=("192.168.6.2/16",)),
    "corpnet": Port(name="corpnet", role="external", interface="external"),
}


@pytest.mark.parametrize(("records", "listed"), [(10_000, None), (40, "inbound"), (40, "outbound")])
def test_the_policies_are_valid(records: int, listed: policies.Direction | None) -> None:
    text = json.dumps(policies.document(Plan(records, domains=4), "vxlan", listed)).encode()
    policy = document.parse_json(text, check=lambda parsed: validation.faults(parsed, PORTS))
    assert sum(len(domain.lookup_records) for domain in policy.routing_domains) == records


@pytest.mark.parametrize(("make", "members"), [(pools.document_six, 100), (pools.many, 1_000), (pools.single, 1_000)])
def test_the_other_policies_of_load_balancers_are_valid(
    make: Callable[[Plan], policies.Document], members: int
) -> None:
    text = json.dumps(make(Plan(1_000, domains=10))).encode()
    policy = document.parse_json(text, check=lambda parsed: validation.faults(parsed, PORTS))
    pools_of = (pool for domain in policy.routing_domains for pool in domain.load_balancers[0].backend_pools)
    assert sum(len(pool.members) for pool in pools_of) == members


def test_the_policies_of_load_balancers_are_valid_and_their_members_are_at_hosts_of_both_encapsulations() -> None:
    text = json.dumps(pools.document(Plan(10_000, mixed=True))).encode()
    policy = document.parse_json(text, check=lambda parsed: validation.faults(parsed, PORTS))
    encapsulations = Counter(
        record.encapsulation for domain in policy.routing_domains for record in domain.lookup_records[: plan.MEMBERS]
    )
    assert encapsulations == {"nvgre": 500, "vxlan": 500}


def test_the_policy_of_tunnels_is_valid() -> None:
    tunnels = [Tunnel(number) for number in (1, MOST_TUNNELS)]
    text = json.dumps(tunnel_plan.document(tunnels)).encode()
    policy = document.parse_json(text, check=lambda parsed: validation.faults(parsed, PORTS))
    assert sum(len(domain.ipsec_connections()) for domain in policy.routing_domains) == len(tunnels)


def test_a_gap_is_as_long_as_no_request_is_answered() -> None:
    pings = Pings(sent={number: number / 10 for number in range(10)})
    pings.answered = {number: number / 10 + 0.01 for number in (0, 1, 2, 6, 7)}
    assert pings.lost == 5
    assert pings.longest_gap() == pytest.approx(0.4)


def test_constants_of_the_plan_are_those_of_the_c_header() -> None:
    header = (Path(__file__).parent / "bpf" / "plan.h").read_text()
    defined = dict(re.findall(r"^#define (\w+) (.+?)\s*(?:/\*.*)?$", header, re.MULTILINE))
    shared = set(defined) & set(vars(plan))
    assert {"SUBNETS", "RECORD_STRIDE", "RULES", "CA_PREFIXES", "PORT_CLASSES", "FIRST_PORT"} <= shared
    for name in shared - {"SUBNET_STRIDE"}:
        assert int(defined[name], 0) == getattr(plan, name), name
    assert plan.SUBNET_STRIDE == 1 << 15 and defined["SUBNET_STRIDE"] == "(1 << 15)"


@pytest.mark.parametrize("records", [1_000, 10_000, 100_000])
def test_every_flow_meets_exactly_one_rule_and_the_matches_spread_over_the_list(records: int) -> None:
    policy = Plan(records)
    rules = [_Parsed.of(rule) for rule in policies.rules(policy, 0, "outbound")]
    matched: Counter[int] = Counter()
    for record in range(0, policy.records_per_domain, plan.SUBNETS * max(1, records // 5_000)):
        for number in _rules_drawn_for(policy, record):
            source = int(policy.customer_address(0, record))
            destination = plan.FIRST_REMOTE + (number // plan.RULES_PER_REMOTE << 16) + 7
            port = plan.FIRST_PORT + number % plan.PORT_CLASSES * plan.PORT_STRIDE
            assert [index for index, rule in enumerate(rules) if rule.matches(source, destination, port)] == [number]
            matched[rules[number].priority // 100] += 1
    assert len(matched) == 10, "a tenth of the list is never reached"


def _rules_drawn_for(policy: Plan, record: int) -> list[int]:
    """List what the generator draws from for a VM (generator.c, choose)."""
    first = (record // plan.SUBNETS >> policy.sharing_shift) * policy.nested
    blocks = range(0, plan.RULES, plan.CA_PREFIXES)
    return [first + nested + block for nested in range(policy.nested) for block in blocks]


@dataclass(frozen=True, slots=True)
class _Parsed:
    priority: int
    source: tuple[int, int]
    destination: tuple[int, int]
    ports: tuple[int, int]

    @classmethod
    def of(cls, rule: dict[str, Any]) -> "_Parsed":
        first, _, last = rule["destination_ports"].partition("-")
        source, destination = _ends(rule["source_prefix"]), _ends(rule["destination_prefix"])
        return cls(rule["priority"], source, destination, (int(first), int(last or first)))

    def matches(self, source: int, destination: int, port: int) -> bool:
        values = ((self.source, source), (self.destination, destination), (self.ports, port))
        return all(first <= value <= last for (first, last), value in values)


def _ends(prefix: str) -> tuple[int, int]:
    network = IPv4Network(prefix)
    return int(network[0]), int(network[-1])
