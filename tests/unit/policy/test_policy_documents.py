"""Documents: what is read, what is refused and where, and that nothing changes on the way out and in again."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.configuration import Port
from gateway.policy.document import parse_domain_json, parse_json, parse_record_json, parse_yaml, to_json, to_yaml
from gateway.policy.faults import PolicyFaults
from gateway.policy.fields import port_ranges
from gateway.policy.model import LookupRecord, Policy, RoutingDomain, VirtualSubnet
from gateway.policy.reading import read_json, repeated_keys
from gateway.policy.validation import faults

Plain = dict[str, Any]


def refused(parse: Callable[[bytes], object], text: str | bytes) -> dict[str, str]:
    with pytest.raises(PolicyFaults) as raised:
        parse(text if isinstance(text, bytes) else text.encode())
    return {fault.pointer: fault.detail for fault in raised.value.faults}


def one_domain(**fields: Any) -> str:
    domain = {"id": "11111111-2222-3333-4444-000000000001", "name": "blue"} | fields
    return json.dumps({"routing_domains": [domain]})


def test_json_and_yaml_say_the_same(document: Plain) -> None:
    assert parse_yaml(yaml.safe_dump(document).encode()) == parse_json(json.dumps(document).encode())


def test_a_policy_comes_out_as_it_went_in(document: Plain) -> None:
    policy = parse_json(json.dumps(document).encode())
    assert parse_json(to_json(policy)) == policy
    assert parse_yaml(to_yaml(policy).encode()) == policy


def test_fields_with_their_default_are_not_written() -> None:
    record = {
        "vsid": 6001,
        "customer_address": "10.1.1.11",
        "mac": "10-10-10-10-11-05",
        "provider_address": "192.168.1.10",
    }
    given = record | {"encapsulation": "vxlan", "type": "static", "name": None}
    assert json.loads(to_json(parse_record_json(json.dumps(given).encode()))) == record


def test_a_domain_and_a_record_are_documents_too(document: Plain) -> None:
    blue = document["routing_domains"][0]
    domain = parse_domain_json(json.dumps(blue).encode())
    assert domain == parse_json(json.dumps(document).encode()).routing_domains[0]
    assert parse_domain_json(to_json(domain)) == domain
    assert parse_record_json(json.dumps(blue["lookup_records"][0]).encode()) == domain.lookup_records[0]


def test_an_empty_object_is_an_empty_policy() -> None:
    assert parse_json(b"{}") == parse_yaml(b"{}") == Policy()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b'{"hosts": [}', "line 1, column 12"),
        (b'{\n "hosts"\n}', "line 3, column 1"),
        (b"", "line 1"),
        (b'{"a": NaN}', "NaN"),
    ],
)
def test_malformed_json_is_refused_with_its_place(text: bytes, place: str) -> None:
    assert place in refused(parse_json, text)[""]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("hosts: [", "line 2, column 1"),
        ("hosts:\n  - a\n b: c", "line 3, column 2"),
        ("a: 1\n---\nb: 2", "line 2"),
        ("\tx", "line 1"),
    ],
)
def test_malformed_yaml_is_refused_with_its_place(text: str, place: str) -> None:
    assert place in refused(parse_yaml, text)[""]


@pytest.mark.parametrize("text", ["a: &x 1\nb: *x", "a: !!python/name:os.system x", "? [a]\n: b", "<<: *x"])
def test_yaml_that_is_more_than_data_is_refused(text: str) -> None:
    assert "line 1" in refused(parse_yaml, text)[""] or "line 2" in refused(parse_yaml, text)[""]


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 5_000, b"\xff\xfe\xfa", b"\x00", b"1" * 5_000])
def test_hostile_text_is_refused(parse: Callable[[bytes], Policy], text: bytes) -> None:
    assert "" in refused(parse, text)


@pytest.mark.parametrize("text", ["[]", "5", "null", '"policy"'])
def test_a_document_is_an_object(text: str) -> None:
    assert refused(parse_json, text)[""].startswith("must be an object")
    assert refused(parse_yaml, text)[""].startswith("must be an object")


def test_duplicate_keys_are_named_with_their_path() -> None:
    text = '{"hosts": [], "routing_domains": [{"name": "a", "id": "x", "name": "b"}], "hosts": []}'
    for parse in (parse_json, parse_yaml):
        pointers = refused(parse, text)
        assert {"/hosts", "/routing_domains/0/name", "/routing_domains/0/id"} == set(pointers)
        assert pointers["/hosts"] == "the key 'hosts' is given more than once"


def test_a_key_given_twice_is_found_among_very_many() -> None:
    fields = ",".join(f'"{number}":0' for number in range(200_000))
    assert [fault.pointer for fault in repeated_keys(read_json(f'{{{fields},"7":0}}'.encode()))] == ["/7"]


def test_unknown_fields_are_named_with_the_nearest_known_one() -> None:
    text = one_domain(lookup_record=[], virtual_subnets=[{"vsid": 6001, "prefixes": [], "zzz": 1}])
    pointers = refused(parse_json, text)
    assert pointers["/routing_domains/0/lookup_record"] == "is not a known field: did you mean lookup_records?"
    assert pointers["/routing_domains/0/virtual_subnets/0/zzz"].endswith("known are vsid, prefixes, gateways")


def test_pointers_escape_what_rfc_6901_says() -> None:
    assert "/a~1b~0c" in refused(parse_json, '{"a/b~c": 1}')


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 5),
        ("name", ""),
        ("name", "a\u0007b"),
        ("name", "x" * 256),
        ("name", "\ud800"),
        ("id", "blue"),
        ("id", "{11111111-2222-3333-4444-000000000001"),
        ("routing", "host"),
        ("virtual_subnets", {}),
        ("lookup_records", 3),
        ("tenant", True),
    ],
)
def test_wrong_values_of_a_domain_are_named(field: str, value: Any) -> None:
    assert list(refused(parse_json, one_domain(**{field: value}))) == [f"/routing_domains/0/{field}"]


RECORD = {"vsid": 6001, "customer_address": "10.1.1.11", "mac": "10-10-10-10-11-05", "provider_address": "192.168.1.10"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vsid", "6001"),
        ("vsid", 6001.0),
        ("vsid", True),
        ("vsid", None),
        ("customer_address", "10.1.1"),
        ("customer_address", "10.1.1.011"),
        ("customer_address", "10.1.1.11/32"),
        ("customer_address", "fe80::1%eth0"),
        ("customer_address", " 10.1.1.11"),
        ("customer_address", 167837963),
        ("mac", "10-10-10-10-11"),
        ("mac", "01-10-10-10-11-05"),
        ("provider_address", ""),
        ("encapsulation", "geneve"),
        ("type", "Static"),
    ],
)
def test_wrong_values_of_a_record_are_named(field: str, value: Any) -> None:
    assert list(refused(parse_record_json, json.dumps(RECORD | {field: value}))) == [f"/{field}"]


@pytest.mark.parametrize("field", RECORD)
def test_missing_fields_are_named(field: str) -> None:
    text = json.dumps({name: value for name, value in RECORD.items() if name != field})
    assert refused(parse_record_json, text) == {f"/{field}": "is missing"}


@pytest.mark.parametrize("value", ["none", "TranslationMethodNone"])
def test_translation_method_none_is_refused_by_name(value: str) -> None:
    detail = refused(parse_record_json, json.dumps(RECORD | {"encapsulation": value}))["/encapsulation"]
    assert "TranslationMethodNone" in detail


def test_connections_of_later_releases_are_refused_by_name_and_once() -> None:
    connection = {"name": "hq", "type": "gre", "remote_address": "203.0.113.20", "key": 77}
    assert refused(parse_json, one_domain(network_connections=[connection])) == {
        "/routing_domains/0/network_connections/0/type": (
            "network connections of type gre are not supported by this release"
        )
    }


@pytest.mark.parametrize(
    ("connection", "pointer", "detail"),
    [
        ({"type": "vpn"}, "/type", "\"vpn\" is not one of 'l3', 'ipsec'"),
        ({"type": 3}, "/type", "3 is not one of 'l3', 'ipsec'"),
        ("hq", "", 'must be an object, not "hq"'),
        ({"type": "ipsec", "name": "a", "remote_address": "1.1.1.1"}, "/authentication", "is missing"),
        (
            {"type": "ipsec", "name": "a", "remote_address": "1.1.1.1", "authentication": {}},
            "/authentication/method",
            "is missing: it is one of 'psk', 'certificate'",
        ),
        (
            {"name": "a", "port": "b", "local_addresses": [], "local_address": 1},
            "/local_address",
            "is not a known field: did you mean local_addresses?",
        ),
    ],
)
def test_what_is_wrong_with_a_connection_is_named_by_its_type(connection: Any, pointer: str, detail: str) -> None:
    found = refused(parse_json, one_domain(network_connections=[connection]))
    assert found == {f"/routing_domains/0/network_connections/0{pointer}": detail}
    [domain] = json.loads(one_domain(network_connections=[connection]))["routing_domains"]
    assert refused(parse_domain_json, json.dumps(domain)) == {f"/network_connections/0{pointer}": detail}


def test_the_other_end_of_a_tunnel_is_not_given_by_name() -> None:
    connection = {"name": "hq", "type": "ipsec", "remote_address": "vpn.example", "authentication": {"method": "psk"}}
    found = refused(parse_json, one_domain(network_connections=[connection]))
    assert "by its address, not by a name" in found["/routing_domains/0/network_connections/0/remote_address"]


def test_the_type_of_a_tunnel_is_written_also_where_it_is_the_models_default(joined: Plain, document: Plain) -> None:
    tunnel = json.loads(to_json(parse_json(json.dumps(document).encode())))["routing_domains"][0][
        "network_connections"
    ][1]
    assert (tunnel["type"], tunnel["authentication"]["method"]) == ("ipsec", "psk")


def test_prefixes_with_host_bits_are_refused_with_the_right_one() -> None:
    subnet = {"vsid": 6001, "prefixes": ["10.1.1.1/24", "fd00::1/64", "10.0.0.0", "10.0.0.0/33"]}
    pointers = refused(parse_json, one_domain(virtual_subnets=[subnet]))
    assert [pointer[-1] for pointer in pointers] == ["0", "1", "2", "3"]
    assert "write 10.1.1.0/24" in pointers["/routing_domains/0/virtual_subnets/0/prefixes/0"]
    assert "write fd00::/64" in pointers["/routing_domains/0/virtual_subnets/0/prefixes/1"]


@pytest.mark.parametrize(
    "text", ["10-10-10-10-11-0a", "10:10:10:10:11:0A", "10101010110a", "1010.1010.110a", "10.10.10.10.11.0a"]
)
def test_macs_are_canonical_however_they_are_written(text: str) -> None:
    assert parse_record_json(json.dumps(RECORD | {"mac": text}).encode()).mac == "10-10-10-10-11-0A"


@pytest.mark.parametrize("text", ["10:10:10:10:11:05", "101010101105", "10-10-10-10-11-05"])
def test_macs_of_digits_need_no_quotes_in_yaml(text: str) -> None:
    policy = parse_yaml(
        f"""
        routing_domains:
        - id: 11111111-2222-3333-4444-000000000001
          name: blue
          lookup_records:
          - {{vsid: 6001, customer_address: fd00:6::21, mac: {text}, provider_address: 192.168.1.10}}
        """.encode()
    )
    assert policy.routing_domains[0].lookup_records[0].mac == "10-10-10-10-11-05"


def test_addresses_guids_ports_and_protocols_are_canonical() -> None:
    rule = {
        "priority": 1,
        "direction": "inbound",
        "action": "deny",
        "protocol": 6,
        "source_ports": " 80 , 90-90, 1-2",
        "destination_ports": 53,
    }
    domain = parse_domain_json(
        json.dumps(
            {
                "id": "{ABCDEF01-2222-3333-4444-000000000001}",
                "name": "blue",
                "virtual_subnets": [{"vsid": 6001, "prefixes": ["FD00:0:0::/64"]}],
                "customer_routes": [{"prefix": "fd00::/64", "next_hop": "::"}],
                "access_control_lists": [{"name": "l", "applies_to": [], "rules": [rule]}],
            }
        ).encode()
    )
    read = domain.access_control_lists[0].rules[0]
    assert domain.id == "abcdef01-2222-3333-4444-000000000001"
    assert domain.virtual_subnets[0].prefixes == ("fd00::/64",)
    assert domain.customer_routes[0].next_hop is None
    assert (read.protocol, read.protocol_number()) == ("tcp", 6)
    assert (read.source_ports, read.destination_ports) == ("80,90,1-2", "53")
    assert port_ranges("80,90,1-2") == ((80, 80), (90, 90), (1, 2))


def test_dhcp_options_are_kept() -> None:
    options = {"dns_servers": ["10.1.1.2"], "lease_s": 3600}
    policy = parse_json(one_domain(dhcp_options=options).encode())
    assert policy.routing_domains[0].dhcp_options == options
    assert parse_yaml(to_yaml(policy).encode()) == policy


@pytest.mark.parametrize("value", ["[" * 600 + "]" * 600, '"\\ud800"'])
def test_dhcp_options_that_cannot_be_stored_are_refused(value: str) -> None:
    text = one_domain(dhcp_options={}).replace("{}", f'{{"a": {value}}}')
    assert list(refused(parse_json, text)) == ["/routing_domains/0/dhcp_options"]
    checked = refused(lambda data: parse_json(data, lambda policy: faults(policy, {})), text)
    assert list(checked) == ["/routing_domains/0/dhcp_options"]


def test_the_router_has_the_lowest_usable_address_unless_given_another() -> None:
    prefixes = ("10.1.1.0/24", "10.2.0.0/31", "10.3.0.7/32", "fd00::/64", "fd01::/64")
    assert VirtualSubnet(6001, prefixes, ("fd01::fe",)).router_addresses() == {
        "10.1.1.0/24": "10.1.1.1",
        "10.2.0.0/31": "10.2.0.0",
        "10.3.0.7/32": "10.3.0.7",
        "fd00::/64": "fd00::1",
        "fd01::/64": "fd01::fe",
    }


def test_all_faults_of_a_document_are_told_at_once(document: Plain, ports: dict[str, Port]) -> None:
    blue, red = document["routing_domains"]
    blue["lookup_records"].insert(0, RECORD | {"mac": "zz", "vm": "x"})
    blue["lookup_records"][2]["provider_address"] = "127.0.0.1"
    blue["network_connections"][0]["port"] = "nowhere"
    blue["network_connections"].insert(0, {"name": "hq", "type": "gre"})
    blue["virtual_subnets"][1]["prefixes"][1] = 5
    red["id"] = "red"
    red["name"] = "blue"
    red["virtual_subnets"].append({"vsid": 6001, "prefixes": ["10.1.1.0/25"]})
    document["hosts"][0]["southbound"] = "pigeon"
    document["hosts"][1]["provider_addresses"].append({"address": "224.0.0.1", "prefix_length": 24})
    found = refused(lambda data: parse_json(data, lambda policy: faults(policy, ports)), json.dumps(document))
    assert list(found) == [
        "/hosts/0/southbound",
        "/hosts/1/provider_addresses/1/address",
        "/routing_domains/0/lookup_records/0/mac",
        "/routing_domains/0/lookup_records/0/vm",
        "/routing_domains/0/lookup_records/2/provider_address",
        "/routing_domains/0/network_connections/0/type",
        "/routing_domains/0/network_connections/1/port",
        "/routing_domains/0/virtual_subnets/1/prefixes/1",
        "/routing_domains/1/id",
        "/routing_domains/1/name",
        "/routing_domains/1/virtual_subnets/1/prefixes/0",
        "/routing_domains/1/virtual_subnets/1/vsid",
    ]


def test_unknown_fields_hide_no_other_fault(document: Plain, ports: dict[str, Port]) -> None:
    blue = document["routing_domains"][0]
    blue["customer_routes"][1] |= {"weight": 5, "next_hop": "10.1.6.99"}
    found = refused(lambda data: parse_json(data, lambda policy: faults(policy, ports)), json.dumps(document))
    assert list(found) == [
        "/routing_domains/0/customer_routes/1/next_hop",
        "/routing_domains/0/customer_routes/1/weight",
    ]


def test_a_document_of_faults_is_refused_with_their_number(ports: dict[str, Port]) -> None:
    text = one_domain(lookup_records=[{}] * 5_000)
    with pytest.raises(PolicyFaults) as raised:
        parse_json(text.encode(), lambda policy: faults(policy, ports))
    assert (len(raised.value.faults), raised.value.unlisted) == (1_000, 19_000)


def test_at_most_a_thousand_faults_are_listed() -> None:
    text = one_domain(lookup_records=[{}] * 500)
    with pytest.raises(PolicyFaults) as raised:
        parse_json(text.encode())
    assert len(raised.value.faults) == 1000
    assert raised.value.unlisted == 1000
    assert str(raised.value).endswith("and 1,000 more faults")


octets = st.integers(0, 255)
ipv4 = st.builds("{}.{}.{}.{}".format, octets, octets, octets, octets)
ipv6 = st.ip_addresses(v=6).map(str)
macs = st.builds(
    lambda head, tail: "-".join(f"{o:02X}" for o in (head * 2 | 2, *tail)),
    st.integers(0, 100),
    st.tuples(*[octets] * 5),
)
names = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=40)
records = st.builds(
    LookupRecord,
    vsid=st.integers(),
    customer_address=ipv4 | ipv6,
    mac=macs,
    provider_address=ipv4 | ipv6,
    encapsulation=st.sampled_from(["vxlan", "nvgre", "rewrite"]),
    type=st.sampled_from(["static", "dynamic", "l2only", "gateway_wildcard"]),
    name=st.none() | names,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner) | st.dictionaries(names, inner),
    max_leaves=5,
)
domains = st.builds(
    RoutingDomain,
    id=st.uuids().map(str),
    name=names,
    tenant=st.none() | names,
    lookup_records=st.lists(records, max_size=5).map(tuple),
    dhcp_options=st.none() | st.dictionaries(names, json_values, max_size=3),
)
policies = st.builds(Policy, routing_domains=st.lists(domains, max_size=3).map(tuple))


@given(policies)
def test_any_policy_survives_json(policy: Policy) -> None:
    assert parse_json(to_json(policy)) == policy


@given(policies)
def test_any_policy_survives_yaml(policy: Policy) -> None:
    assert parse_yaml(to_yaml(policy).encode()) == policy


@given(st.binary(max_size=200))
def test_any_bytes_are_a_policy_or_refused(data: bytes) -> None:
    for parse in (parse_json, parse_yaml):
        try:
            parse(data)
        except PolicyFaults as raised:
            assert raised.faults


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["hosts", "routing_domains", "id", "name", "lookup_records", "network_connections", "type", "x"]
                ),
                inner,
            )
        ),
    )
)
def test_any_json_is_a_policy_or_refused_with_pointers(value: Any) -> None:
    try:
        parse_json(json.dumps(value).encode(), lambda policy: faults(policy, {}))
    except PolicyFaults as raised:
        assert all(fault.pointer == "" or fault.pointer.startswith("/") for fault in raised.faults)
