"""Each rule for load balancers and public addresses: what is done to a sound document, and the field that is named."""

from collections.abc import Callable
from typing import Any

import pytest
from samples import LOAD_BALANCER, edit, record

Found = Callable[[], dict[str, str]]
Plain = dict[str, Any]

D = "/routing_domains/0"
RED = "/routing_domains/1"
L = f"{D}/load_balancers/0"
B = f"{D}/load_balancers/1"
RULE = LOAD_BALANCER["rules"][0]
NAT = LOAD_BALANCER["inbound_nat_rules"][0]
PUBLIC = LOAD_BALANCER["frontends"][0]
TIER = LOAD_BALANCER["frontends"][1]

# What is set where; the pointer of the fault, `=` if the same; a part of what is said of it.
FAULTS = [
    (f"{D}/load_balancers/-", {"name": "web"}, f"{D}/load_balancers/1/name", "twice"),
    (f"{L}/frontends/-", TIER | {"address": "10.1.1.201"}, f"{L}/frontends/3/name", "twice"),
    (f"{L}/backend_pools/-", LOAD_BALANCER["backend_pools"][0], f"{L}/backend_pools/2/name", "twice"),
    (f"{L}/probes/-", LOAD_BALANCER["probes"][0], f"{L}/probes/1/name", "twice"),
    (f"{L}/rules/1/name", "www", "=", "twice"),
    (f"{L}/inbound_nat_rules/-", NAT | {"port": 2223}, f"{L}/inbound_nat_rules/1/name", "twice"),
    (f"{L}/rules/0/frontend", "publik", "=", "did you mean 'public'"),
    (f"{L}/rules/0/pool", "nothing", "=", "not a pool"),
    (f"{L}/rules/0/probe", "ping", "=", "not a probe"),
    (f"{L}/inbound_nat_rules/0/frontend", "nothing", "=", "not a frontend"),
    (f"{L}/outbound_nat/0/frontend", "nothing", "=", "not a frontend"),
    (f"{L}/rules/-", RULE | {"name": "again"}, f"{L}/rules/3/port", "rule 'www' already"),
    (f"{L}/inbound_nat_rules/0/port", 80, "=", "rule 'www' already"),
    (f"{L}/rules/0/port", 0, "=", "1 and 65535"),
    (f"{L}/rules/0/port", 65536, "=", "1 and 65535"),
    (f"{L}/rules/1/backend_port", 65536, "=", "1 and 65535"),
    (f"{L}/rules/0/idle_timeout_s", 3, "=", "4 and 86400"),
    (f"{L}/rules/0/idle_timeout_s", 86401, "=", "4 and 86400"),
    (f"{L}/rules/0/direct_return", True, "=", "not supported yet"),
    (f"{L}/rules/2/backend_port", 81, "=", "floating_ip"),
    (f"{L}/rules/0/pool", "web6", "=", "different IP families"),
    (f"{L}/backend_pools/0/members", [], "=", "at least one member"),
    (f"{L}/backend_pools/0/members/0/weight", 0, "=", "1 and 1000"),
    (f"{L}/backend_pools/0/members/0/weight", 10**9, "=", "1 and 1000"),
    (f"{L}/backend_pools/0/members/1/customer_address", "10.1.6.21", "=", "a member twice"),
    (f"{L}/backend_pools/0/members/1/customer_address", "10.1.1.99", "=", "no lookup record"),
    (f"{L}/backend_pools/0/minimum_healthy", 3, "=", "more than the members"),
    (f"{L}/probes/0/port", 0, "=", "1 and 65535"),
    (f"{L}/probes/0/timeout_s", 6, "=", "longer than interval_s"),
    (f"{L}/probes/0/interval_s", 3601, "=", "1 and 3600"),
    (f"{L}/probes/0/timeout_s", 0, "=", "1 and 3600"),
    (f"{L}/probes/0/rise", 0, "=", "1 and 100"),
    (f"{L}/probes/0/fall", 101, "=", "1 and 100"),
    (f"{L}/probes/0/path", "health", "=", "begins with"),
    (f"{L}/probes/0/path", "/a b", "=", "no spaces"),
    (f"{L}/probes/0/path", "/a\r\nHost: x", "=", "no spaces"),
    (f"{L}/probes/0/expect_status", 600, "=", "100 and 599"),
    (f"{L}/frontends/0/address", "203.0.113.80", "=", "in no network of an external port"),
    (f"{L}/frontends/0/address", "192.168.6.80", "=", "in no network of an external port"),
    (f"{L}/frontends/0/address", "198.51.100.1", "=", "the own address of port"),
    (f"{L}/frontends/2/address", "2001:db8:100::fe", "=", "is a gateway of port"),
    (f"{L}/frontends/0/address", "198.51.100.255", "=", "broadcast"),
    (f"{L}/frontends/0/vsid", 6001, "=", "remove vsid"),
    (f"{L}/frontends/1/vsid", ..., "=", "is missing"),
    (f"{L}/frontends/1/vsid", 5001, "=", "not a virtual subnet of this routing domain"),
    (f"{L}/frontends/1/vsid", 9999, "=", "not a virtual subnet of this routing domain"),
    (f"{L}/frontends/1/address", "10.1.6.200", "=", "in none of its prefixes"),
    (f"{L}/frontends/1/address", "10.1.1.255", "=", "broadcast"),
    (f"{L}/frontends/1/address", "10.1.1.11", "=", "BlueVM1"),
    (f"{L}/frontends/1/address", "10.1.1.1", "=", "router"),
    (f"{L}/frontends/1/address", "10.1.1.254", "=", "service address"),
    (f"{L}/frontends/-", TIER | {"name": "again"}, f"{L}/frontends/3/address", "frontend 'tier' already"),
    (f"{L}/frontends/-", PUBLIC | {"name": "again"}, f"{L}/frontends/3/address", "twice in this routing domain"),
    (
        f"{D}/load_balancers/-",
        {"name": "b", "frontends": [PUBLIC]},
        f"{D}/load_balancers/1/frontends/0/address",
        "twice",
    ),
    (f"{RED}/load_balancers", [{"name": "b", "frontends": [PUBLIC]}], "=/0/frontends/0/address", "blue too"),
    (f"{L}/inbound_nat_rules/0/customer_address", "10.1.1.99", "=", "no lookup record"),
    (f"{L}/inbound_nat_rules/0/customer_address", "fd00:6::21", "=", "different IP families"),
    (f"{L}/inbound_nat_rules/0/backend_port", 0, "=", "1 and 65535"),
    (f"{L}/outbound_nat/0/frontend", "tier", "=", "not public"),
    (f"{L}/outbound_nat/0/vsid", 5001, "=", "not a virtual subnet"),
    (f"{L}/outbound_nat/-", {"frontend": "public", "vsid": 6001}, f"{L}/outbound_nat/1/vsid", "already"),
    (f"{D}/public_addresses/0/address", "203.0.113.81", "=", "in no network of an external port"),
    (f"{D}/public_addresses/0/address", "198.51.100.80", "=", "twice in this routing domain"),
    (f"{D}/public_addresses/0/customer_address", "10.1.1.99", "=", "no lookup record"),
    (f"{D}/public_addresses/0/customer_address", "fd00:6::21", "=", "different IP families"),
    (
        f"{D}/public_addresses/-",
        {"address": "198.51.100.82", "customer_address": "10.1.1.11"},
        f"{D}/public_addresses/1/customer_address",
        "already",
    ),
    (
        f"{RED}/public_addresses",
        [{"address": "198.51.100.81", "customer_address": "10.1.1.11"}],
        "=/0/address",
        "blue too",
    ),
    (f"{D}/service_addresses", ["10.1.9.1"], "=/0", "in none of its prefixes"),
    (f"{D}/service_addresses", ["10.1.1.12"], "=/0", "a lookup record"),
    (f"{D}/service_addresses", ["10.1.6.9"], "=/0", "router"),
    (f"{D}/service_addresses", ["10.1.1.100", "10.1.1.101"], "=/1", "a second one"),
    (f"{D}/lookup_records/-", record(6001, "10.1.1.254", 9, "192.168.1.10"), f"{D}/service_addresses", "give a free"),
]


@pytest.mark.parametrize(("path", "value", "pointer", "words"), FAULTS, ids=[f"{f[0]}={f[1]!r}"[17:80] for f in FAULTS])
def test_a_fault_is_named_with_its_field(
    balanced: Plain, document: Plain, found: Found, path: str, value: Any, pointer: str, words: str
) -> None:
    edit(document, path, value)
    faults = found()
    assert list(faults) == [pointer.replace("=", path)]
    assert words in faults[pointer.replace("=", path)]


SOUND = [
    (f"{L}/backend_pools/0/members/0/weight", 1000),
    (f"{L}/frontends/1/address", "10.1.1.253"),
    (f"{L}/inbound_nat_rules/0/protocol", "udp"),
    (f"{L}/inbound_nat_rules/0/frontend", "tier"),
    (f"{L}/outbound_nat/-", {"frontend": "public6", "vsid": 6001}),
    (f"{L}/outbound_nat/-", {"frontend": "public", "vsid": 6002}),
    (f"{D}/service_addresses", ["10.1.6.77"]),
    (f"{D}/lookup_records/-", record(6001, "10.1.1.200", 9, "192.168.6.2")),
    (f"{RED}/load_balancers", [{"name": "b", "frontends": [TIER | {"vsid": 5001}]}]),
    (f"{D}/load_balancers", []),
]


@pytest.mark.parametrize(("path", "value"), SOUND, ids=[f"{f[0]}={f[1]!r}"[17:80] for f in SOUND])
def test_what_may_be_written_is_accepted(balanced: Plain, document: Plain, found: Found, path: str, value: Any) -> None:
    assert found() == {}
    edit(document, path, value)
    assert found() == {}


def test_a_pool_holds_4096_members(balanced: Plain, document: Plain, found: Found) -> None:
    addresses = [f"10.2.{n >> 8}.{n & 255}" for n in range(1, 4098)]
    balanced["virtual_subnets"].append({"vsid": 6003, "prefixes": ["10.2.0.0/16"]})
    balanced["virtual_subnets"][-1]["gateways"] = ["10.2.255.1"]
    balanced["lookup_records"] += [record(6003, address, 9, "192.168.6.4") for address in addresses]
    pool = balanced["load_balancers"][0]["backend_pools"][0]
    pool["members"] = [{"customer_address": address} for address in addresses[:4096]]
    assert found() == {}
    pool["members"].append({"customer_address": addresses[4096]})
    assert list(found()) == [f"{L}/backend_pools/0/members"]


def test_faults_of_a_load_balancer_are_told_at_once(balanced: Plain, document: Plain, found: Found) -> None:
    edits = {
        f"{L}/backend_pools/0/members/0/weight": 0,
        f"{L}/backend_pools/0/members/1/customer_address": "10.1.1.99",
        f"{L}/probes/0/expect_status": 99,
        f"{L}/probes/0/path": "",
        f"{L}/rules/0/port": 0,
        f"{L}/rules/0/probe": "ping",
        f"{L}/rules/1/direct_return": True,
        f"{L}/rules/2/protocol": "sctp",
        f"{L}/frontends/0/address": "203.0.113.1",
        f"{L}/frontends/1/vsid": 9999,
        f"{D}/public_addresses/0/address": "198.51.100.1",
    }
    for path, value in edits.items():
        edit(document, path, value)
    assert set(found()) == set(edits)
