"""Whose the ports of public addresses are: what is refused, in which words, and what two domains may share."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from samples import TUNNEL, edit

from gateway.configuration import Port
from gateway.policy.claims import Claims
from gateway.policy.document import parse_json
from gateway.policy.lending import ALL_BLOCKS, blocks_lent, blocks_of, ports_of, shared_addresses
from gateway.policy.model import Frontend, LoadBalancer, OutboundNat, RoutingDomain
from gateway.policy.validation import domain_faults

Found = Callable[[], dict[str, str]]
Plain = dict[str, Any]

D, RED = "/routing_domains/0", "/routing_domains/1"
L = f"{D}/load_balancers/0"
N = f"{L}/outbound_nat"
OUT = {"name": "out", "address": "198.51.100.85", "public": True}


def lending(ports: str | None, vsid: int, **others: Any) -> Plain:
    """A load balancer for outbound NAT from the shared address."""
    entry = {"frontend": "out", "vsid": vsid} | ({} if ports is None else {"ports": ports})
    return {"name": "out", "frontends": [OUT], "outbound_nat": [entry]} | others


FAULTS = [
    ("0/ports", "1024-8191", "=", "write 4096-8191"),
    (
        "0/ports",
        "5000-20000",
        "=",
        "5000-20000 is not made of whole blocks of 4,096 ports, from 4096 on: write 4096-20479",
    ),
    ("0/ports", "4096-8191,9000", "=", "write 8192-12287"),
    ("0/ports", 80, "=", "80-80 is not made of whole blocks"),
    ("0/customer_prefixes", ["10.1.6.21"], "=/0", "10.1.6.21/32 is in none of the prefixes of virtual subnet 6001"),
    ("0/customer_prefixes", ["10.1.0.0/16"], "=/0", "is in none of the prefixes of virtual subnet 6001, 10.1.1.0/24"),
    ("0/customer_prefixes", ["fd00:6::21"], "=/0", "are of different IP families"),
    (
        "-",
        {"frontend": "public", "vsid": 6001, "customer_prefixes": ["10.1.1.11", "10.1.1.11/32"]},
        "1/customer_prefixes/1",
        "10.1.1.11/32 reaches the outside from frontend 'public' already",
    ),
    ("-", {"frontend": "public", "vsid": 6001}, "1/vsid", "virtual subnet 6001 reaches the outside from"),
]


@pytest.mark.parametrize(("path", "value", "pointer", "words"), FAULTS, ids=[f"{f[0]}={f[1]!r}"[:60] for f in FAULTS])
def test_a_fault_is_named_with_its_field(
    balanced: Plain, document: Plain, found: Found, path: str, value: Any, pointer: str, words: str
) -> None:
    edit(document, f"{N}/{path}", value)
    faults = found()
    assert list(faults) == [f"{N}/{pointer.replace('=', path)}"]
    assert words in faults[f"{N}/{pointer.replace('=', path)}"]


def test_ports_that_two_of_a_frontend_name_are_told_with_whose_they_are(
    balanced: Plain, document: Plain, found: Found
) -> None:
    edit(document, f"{N}/0/ports", "4096-12287")
    edit(document, f"{N}/0/customer_prefixes", ["10.1.1.11"])
    edit(document, f"{N}/-", {"frontend": "public", "vsid": 6002, "ports": "8192-16383"})
    words = "8192-12287 of frontend 'public' belong to 10.1.1.11/32 of virtual subnet 6001 already"
    assert found() == {f"{N}/1/ports": words}


def test_where_all_ports_are_named_none_are_left_for_others(balanced: Plain, document: Plain, found: Found) -> None:
    edit(document, f"{N}/0/ports", "4096-65535")
    edit(document, f"{N}/-", {"frontend": "public", "vsid": 6002})
    assert list(found()) == [f"{N}/1/ports"]


SOUND: list[list[Plain]] = [
    [{"frontend": "public", "vsid": 6001, "ports": "4096-8191,12288-16383"}],
    [{"frontend": "public", "vsid": 6001}, {"frontend": "public", "vsid": 6001, "customer_prefixes": ["10.1.1.11"]}],
    [{"frontend": "public", "vsid": 6001, "customer_prefixes": ["10.1.1.64/26", "10.1.1.11"], "ports": "61440-65535"}],
    [{"frontend": "public6", "vsid": 6002, "customer_prefixes": ["fd00:6::/64"], "ports": "4096-65535"}],
]


@pytest.mark.parametrize("entries", SOUND)
def test_what_may_be_written_is_accepted(balanced: Plain, document: Plain, found: Found, entries: list[Plain]) -> None:
    edit(document, N, entries)
    assert found() == {}


def test_two_domains_share_an_address_by_its_ports(balanced: Plain, document: Plain, found: Found) -> None:
    edit(document, f"{D}/load_balancers/-", lending("4096-20479", 6001))
    balanced["load_balancers"][0]["outbound_nat"] = []
    edit(document, f"{RED}/load_balancers", [lending("20480-65535", 5001)])
    assert found() == {}


def shared(balanced: Plain, document: Plain, red: Plain, blues: str | None = "4096-20479") -> None:
    balanced["load_balancers"][0]["outbound_nat"] = []
    edit(document, f"{D}/load_balancers/-", lending(blues, 6001))
    edit(document, f"{RED}/load_balancers", [red])


def test_ports_that_two_domains_lend_are_told_with_both_names(balanced: Plain, document: Plain, found: Found) -> None:
    shared(balanced, document, lending("16384-24575", 5001))
    words = "16384-20479 of 198.51.100.85 belong to routing domain blue too, not to red alone"
    assert found() == {f"{RED}/load_balancers/0/outbound_nat/0/ports": f"{words}: give each domain ports of its own"}


RULED = {
    "backend_pools": [{"name": "web", "members": [{"customer_address": "10.1.1.11"}]}],
    "rules": [{"name": "www", "frontend": "out", "pool": "web", "protocol": "tcp", "port": 80}],
}
NOT_SHARED = {
    "no ports": (lending(None, 5001), "4096-20479"),
    "a rule": (lending("20480-65535", 5001, **RULED), "4096-20479"),
    "no outbound NAT": (lending("20480-65535", 5001, outbound_nat=[]), "4096-20479"),
    "the other has it all": (lending("20480-65535", 5001), None),
}


@pytest.mark.parametrize(("red", "blues"), NOT_SHARED.values(), ids=NOT_SHARED)
def test_an_address_is_shared_only_if_both_say_so(
    balanced: Plain, document: Plain, found: Found, red: Plain, blues: str | None
) -> None:
    shared(balanced, document, red, blues)
    pointer = f"{RED}/load_balancers/0/frontends/0/address"
    assert list(found()) == [pointer]
    assert (
        "198.51.100.85 belongs to routing domain blue too: to share it, both use it for outbound NAT"
        in found()[pointer]
    )


def test_a_machines_own_address_is_not_shared(balanced: Plain, document: Plain, found: Found) -> None:
    shared(balanced, document, lending("20480-65535", 5001))
    edit(document, f"{D}/public_addresses/0/address", "198.51.100.85")
    assert set(found()) == {f"{D}/public_addresses/0/address", f"{RED}/load_balancers/0/frontends/0/address"}


def test_an_address_whose_ports_are_shared_is_no_end_of_tunnels(balanced: Plain, document: Plain, found: Found) -> None:
    shared(balanced, document, lending("20480-65535", 5001))
    connections = document["routing_domains"][1].setdefault("network_connections", [])
    connections.append(TUNNEL | {"local_address": "198.51.100.85", "traffic_selectors": None})
    found_faults = found()
    assert found_faults
    assert all("local address of a network connection" in detail for detail in found_faults.values())


def test_an_address_is_given_once_in_a_domain_also_where_its_ports_are_lent(
    balanced: Plain, document: Plain, found: Found
) -> None:
    shared(balanced, document, lending("20480-65535", 5001))
    edit(document, f"{D}/load_balancers/-", lending("20480-24575", 6002) | {"name": "again"})
    assert "given twice in this routing domain" in found()[f"{D}/load_balancers/2/frontends/0/address"]


def test_a_domain_that_goes_leaves_its_ports_to_others(
    balanced: Plain, document: Plain, ports: dict[str, Port]
) -> None:
    shared(balanced, document, lending("4096-20479", 5001))
    blue, red = parse_json(json.dumps(document).encode()).routing_domains
    claims = Claims(ports, (blue,))
    assert [fault.pointer for fault in domain_faults(red, ports, claims)] == ["/load_balancers/0/outbound_nat/0/ports"]
    assert claims.is_own_address("198.51.100.85")
    claims.remove(blue.id)
    assert domain_faults(red, ports, claims) == []
    assert not claims.is_own_address("198.51.100.85")


def test_ports_and_blocks_are_two_ways_to_write_the_same() -> None:
    for ports in ("4096-8191", "4096-20479,61440-65535", "4096-65535"):
        assert ports_of(blocks_of(ports)) == ports
    assert blocks_of("4096-65535") == ALL_BLOCKS
    assert ports_of(0) == ""


def test_who_names_no_ports_has_those_that_nobody_names() -> None:
    balancer = LoadBalancer(
        "nat",
        frontends=(Frontend("out", "198.51.100.80", True), Frontend("own", "198.51.100.81", True)),
        outbound_nat=(
            OutboundNat("out", 1),
            OutboundNat("out", 2, ports="4096-12287"),
            OutboundNat("out", 3),
            OutboundNat("own", 4),
            OutboundNat("own", 5, ports="61440-65535"),
        ),
    )
    assert blocks_lent(balancer) == [0xFFF8, 0x0006, 0xFFF8, 0x7FFE, 0x8000]
    domain = RoutingDomain("11111111-2222-3333-4444-000000000001", "blue", load_balancers=(balancer,))
    assert shared_addresses(domain) == {}
