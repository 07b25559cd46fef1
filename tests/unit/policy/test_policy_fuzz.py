"""Whatever stands at one place of a sound document: it is read or refused in words, and no secret is shown."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import LOAD_BALANCER, TUNNEL, edit, record

from gateway.configuration import Port
from gateway.policy.document import parse_domain_json, parse_json, parse_yaml, to_json, to_yaml
from gateway.policy.faults import PolicyFaults
from gateway.policy.validation import faults

PORTS = {
    "provider": Port(name="provider", role="provider", interface="eth1", addresses=("192.168.6.2/24",)),
    "internet": Port(name="internet", role="external", interface="eth3", addresses=("198.51.100.1/24",)),
}
SECRET = "a secret that is shown nowhere"
DOMAIN: dict[str, Any] = {
    "id": "11111111-2222-3333-4444-000000000001",
    "name": "blue",
    "virtual_subnets": [
        {"vsid": 6001, "prefixes": ["10.1.1.0/24"]},
        {"vsid": 6002, "prefixes": ["10.1.6.0/24", "fd00:6::/64"]},
    ],
    "lookup_records": [
        record(6001, "10.1.1.11", 1, "192.168.1.10"),
        record(6001, "10.1.1.12", 2, "192.168.2.20"),
        record(6002, "10.1.6.21", 3, "192.168.6.4"),
        record(6002, "fd00:6::21", 3, "192.168.6.4"),
    ],
    "network_connections": [
        TUNNEL | {"authentication": {"method": "psk", "secret": SECRET}},
        {
            "name": "branch",
            "type": "ipsec",
            "remote_address": "203.0.113.30",
            "authentication": {"method": "certificate", "certificate": "x", "private_key": SECRET, "ca": "y"},
        },
    ],
    "load_balancers": [LOAD_BALANCER],
    "public_addresses": [{"address": "198.51.100.81", "customer_address": "10.1.1.11"}],
    "service_addresses": ["10.1.1.100"],
}


def places(value: Any, at: str = "") -> Iterator[str]:
    for key, element in value.items() if isinstance(value, dict) else enumerate(value):
        yield f"{at}/{key}"
        if isinstance(element, dict | list):
            yield from places(element, f"{at}/{key}")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["psk", "certificate", "l3", "ipsec", "gre", "10.1.1.11", "198.51.100.80", "::", "10.0.0.0/8", "web"]
    )
    | st.just(SECRET),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "type", "method", "secret", "prefix", "address", "x"]), inner, max_size=4
        )
    ),
    max_leaves=6,
)


@given(st.lists(st.tuples(st.sampled_from(sorted(places(DOMAIN))), values), min_size=1, max_size=3))
@settings(max_examples=400)
def test_anything_at_any_place_is_read_or_refused(changes: list[tuple[str, Any]]) -> None:
    domain = deepcopy(DOMAIN)
    for path, value in changes:
        try:
            edit(domain, path, value)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            continue  # an earlier change took the place away
    text = json.dumps({"routing_domains": [domain]}).encode()
    try:
        parse_json(text, lambda policy: faults(policy, PORTS))
    except PolicyFaults as raised:
        assert all(fault.pointer.startswith("/routing_domains") for fault in raised.faults)
        shown = [place for place, value in changes if SECRET in str(value) and "authentication" not in place]
        assert shown or SECRET not in str(raised)


@pytest.mark.parametrize("taken_away", [None, *sorted(places(DOMAIN))])
def test_what_is_read_is_written_and_read_again(taken_away: str | None) -> None:
    domain = deepcopy(DOMAIN)
    if taken_away is not None:
        edit(domain, taken_away, ...)
    try:
        policy = parse_json(json.dumps({"routing_domains": [domain]}).encode())
    except PolicyFaults:
        return
    for again in (parse_json(to_json(policy)), parse_yaml(to_yaml(policy).encode())):
        assert to_json(again) == to_json(policy)
    (read,) = policy.routing_domains
    sealed = to_json(read, seal=lambda text: text[::-1])
    assert SECRET.encode() not in sealed
    assert parse_domain_json(sealed, unseal=lambda text: text[::-1]) == read
