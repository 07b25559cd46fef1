"""Each rule of the policy, with the path of the field that breaks it. `D` is the first routing domain, blue."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.configuration import Port
from gateway.policy.addresses import mac
from gateway.policy.claims import Claims
from gateway.policy.document import parse_json
from gateway.policy.validation import domain_faults, faults

D = "/routing_domains/0"
RED = "/routing_domains/1"
Found = Callable[[], dict[str, str]]
Plain = dict[str, Any]


def test_a_sound_document_has_no_fault(found: Found) -> None:
    assert found() == {}


@pytest.mark.parametrize("vsid", [0, 4095, 2**24 - 1])
def test_a_vsid_outside_the_range_is_refused(red: Plain, found: Found, vsid: int) -> None:
    red["virtual_subnets"][0]["vsid"] = red["lookup_records"][0]["vsid"] = vsid
    assert found() == {f"{RED}/virtual_subnets/0/vsid": f"{vsid} is not a VSID: they go from 4096 to 16777214"}


@pytest.mark.parametrize("vsid", [4096, 2**24 - 2])
def test_the_edges_of_the_vsid_range_are_accepted(red: Plain, found: Found, vsid: int) -> None:
    red["virtual_subnets"][0]["vsid"] = red["lookup_records"][0]["vsid"] = vsid
    assert found() == {}


def test_a_vsid_belongs_to_one_domain(red: Plain, found: Found) -> None:
    red["virtual_subnets"].append({"vsid": 6001, "prefixes": []})
    assert found() == {f"{RED}/virtual_subnets/1/vsid": "virtual subnet 6001 belongs to routing domain blue too"}


def test_a_vsid_is_given_once(blue: Plain, found: Found) -> None:
    blue["virtual_subnets"].append({"vsid": 6002, "prefixes": []})
    pointers = found()
    assert "twice" in pointers[f"{D}/virtual_subnets/2/vsid"]


def test_a_customer_address_has_one_record_in_a_domain(blue: Plain, found: Found) -> None:
    blue["lookup_records"].append(blue["lookup_records"][1] | {"name": "again"})
    assert list(found()) == [f"{D}/lookup_records/6/customer_address"]


def test_a_customer_address_lies_in_its_subnet(blue: Plain, found: Found) -> None:
    blue["lookup_records"][1]["customer_address"] = "10.1.6.12"
    assert found() == {f"{D}/lookup_records/1/customer_address": "10.1.6.12 is in no prefix of virtual subnet 6001"}


@pytest.mark.parametrize("kind", ["l2only", "gateway_wildcard"])
def test_records_without_an_address_have_the_unspecified_one(blue: Plain, found: Found, kind: str) -> None:
    blue["lookup_records"][1]["type"] = kind
    assert list(found()) == [f"{D}/lookup_records/1/customer_address"]


def test_the_unspecified_address_is_given_once_per_subnet_and_family(blue: Plain, found: Found) -> None:
    wildcard = blue["lookup_records"][4]
    blue["lookup_records"] += [
        wildcard | {"customer_address": "::"},
        wildcard | {"vsid": 6002},
        wildcard | {"type": "l2only"},
    ]
    assert list(found()) == [f"{D}/lookup_records/8/customer_address"]


def test_a_record_names_a_virtual_subnet_of_its_domain(red: Plain, found: Found) -> None:
    red["lookup_records"][0]["vsid"] = 6001
    assert list(found()) == [f"{RED}/lookup_records/0/vsid"]


def test_a_mac_of_a_subnet_lives_at_one_provider_address(blue: Plain, found: Found) -> None:
    blue["lookup_records"][3]["provider_address"] = "192.168.6.44"
    assert list(found()) == [f"{D}/lookup_records/3/provider_address"]


def test_a_rewritten_mac_has_a_provider_address_for_each_of_its_addresses(blue: Plain, found: Found) -> None:
    rewritten = {"customer_address": "fd00:6::22", "provider_address": "fd00:9::1"}
    blue["lookup_records"].append(blue["lookup_records"][5] | rewritten)
    assert found() == {}


@pytest.mark.parametrize("overlapping", ["10.1.6.0/25", "10.0.0.0/8", "10.1.6.0/24", "fd00:6::/48"])
def test_prefixes_of_a_domain_do_not_overlap(blue: Plain, found: Found, overlapping: str) -> None:
    blue["virtual_subnets"].append({"vsid": 6003, "prefixes": ["10.2.0.0/24", overlapping]})
    pointers = list(found())
    assert f"{D}/virtual_subnets/2/prefixes/1" in pointers


def test_a_router_address_lies_in_a_prefix_of_its_subnet(blue: Plain, found: Found) -> None:
    blue["virtual_subnets"][1]["gateways"][0] = "10.1.7.1"
    assert list(found()) == [f"{D}/virtual_subnets/1/gateways/0"]


def test_a_prefix_has_one_router_address(blue: Plain, found: Found) -> None:
    blue["virtual_subnets"][1]["gateways"].append("10.1.6.2")
    assert list(found()) == [f"{D}/virtual_subnets/1/gateways/2"]


def test_a_next_hop_is_a_customer_address_of_the_domain(blue: Plain, found: Found) -> None:
    blue["customer_routes"][1]["next_hop"] = "10.1.6.99"
    assert list(found()) == [f"{D}/customer_routes/1/next_hop"]


def test_another_domains_customer_address_is_no_next_hop(red: Plain, found: Found) -> None:
    red["customer_routes"] = [{"prefix": "172.16.0.0/12", "next_hop": "10.1.6.21"}]
    assert list(found()) == [f"{RED}/customer_routes/0/next_hop"]


def test_a_customer_route_and_its_next_hop_are_of_one_family(blue: Plain, found: Found) -> None:
    blue["customer_routes"][1]["next_hop"] = "fd00:6::21"
    assert list(found()) == [f"{D}/customer_routes/1/next_hop"]


def test_a_customer_routes_subnet_exists(blue: Plain, found: Found) -> None:
    blue["customer_routes"][0]["vsid"] = 5001
    assert list(found()) == [f"{D}/customer_routes/0/vsid"]


@pytest.mark.parametrize(
    "route", [{"prefix": "10.9.0.0/24"}, {"prefix": "10.1.0.0/16"}, {"vsid": 6002, "prefix": "10.1.1.0/24"}]
)
def test_an_on_link_route_lies_in_its_virtual_subnet(blue: Plain, found: Found, route: Plain) -> None:
    blue["customer_routes"].append(route)
    assert list(found()) == [f"{D}/customer_routes/2/prefix"]


@pytest.mark.parametrize("route", [{"prefix": "10.1.1.128/25"}, {"prefix": "10.1.1.0/24", "next_hop": "0.0.0.0"}])
def test_an_on_link_route_may_be_more_specific_than_its_subnet(blue: Plain, found: Found, route: Plain) -> None:
    blue["customer_routes"].append(route)
    assert found() == {}


def test_a_connection_names_a_configured_port(blue: Plain, found: Found) -> None:
    blue["network_connections"][0]["port"] = "nowhere"
    pointers = found()
    assert list(pointers) == [f"{D}/network_connections/0/port"]
    assert "corpnet, corpnet20" in pointers[f"{D}/network_connections/0/port"]


def test_a_connection_needs_an_external_port(blue: Plain, found: Found) -> None:
    blue["network_connections"][0]["port"] = "provider"
    assert list(found()) == [f"{D}/network_connections/0/port"]


def connection(name: str, port: str, vlan: int = 0) -> Plain:
    return {"name": name, "port": port, "vlan": vlan, "local_addresses": ["157.9.0.254/16"]}


def test_an_attachment_belongs_to_one_domain(red: Plain, found: Found) -> None:
    red["network_connections"] = [connection("corpnet", "corpnet")]
    assert found() == {f"{RED}/network_connections/0/port": "interface eth2 VLAN 0 belongs to routing domain blue too"}


def test_a_connections_vlan_stands_before_its_ports(blue: Plain, red: Plain, found: Found) -> None:
    blue["network_connections"].append(connection("second", "corpnet", vlan=20))
    red["network_connections"] = [connection("corpnet", "corpnet20")]
    assert list(found()) == [f"{RED}/network_connections/0/port"]


def test_two_domains_share_a_port_by_vlan(red: Plain, found: Found) -> None:
    red["network_connections"] = [connection("corpnet", "corpnet", vlan=30)]
    assert found() == {}


def test_an_attachment_is_given_once_in_a_domain(blue: Plain, found: Found) -> None:
    blue["network_connections"].append(connection("second", "corpnet"))
    assert list(found()) == [f"{D}/network_connections/1/port"]


def test_a_connection_has_a_local_address(red: Plain, found: Found) -> None:
    red["network_connections"] = [connection("corpnet", "corpnet20") | {"local_addresses": []}]
    assert list(found()) == [f"{RED}/network_connections/0/local_addresses"]


@pytest.mark.parametrize("address", ["157.1.0.0/16", "157.1.255.255/16", "127.0.0.1/8", "fe80::1/64"])
def test_a_local_address_is_one_that_a_router_may_have(red: Plain, found: Found, address: str) -> None:
    red["network_connections"] = [connection("corpnet", "corpnet20") | {"local_addresses": [address]}]
    assert list(found()) == [f"{RED}/network_connections/0/local_addresses/0"]


def test_a_local_network_is_no_virtual_subnet(blue: Plain, found: Found) -> None:
    blue["network_connections"][0]["local_addresses"].append("10.1.6.254/24")
    assert list(found()) == [f"{D}/network_connections/0/local_addresses/1"]


def test_a_local_address_is_given_once_in_a_domain(blue: Plain, found: Found) -> None:
    blue["network_connections"].append(connection("second", "corpnet20") | {"local_addresses": ["157.1.0.254/24"]})
    assert list(found()) == [f"{D}/network_connections/1/local_addresses/0"]


@pytest.mark.parametrize("next_hop", ["157.2.0.1", "157.1.0.254", "fd00::1"])
def test_a_connections_next_hop_is_a_neighbour(blue: Plain, found: Found, next_hop: str) -> None:
    blue["network_connections"][0]["routes"][0]["next_hop"] = next_hop
    assert list(found()) == [f"{D}/network_connections/0/routes/0/next_hop"]


def test_a_connection_has_a_local_address_of_each_routes_family(blue: Plain, found: Found) -> None:
    blue["network_connections"][0]["routes"].append({"prefix": "2001:db8::/32"})
    assert list(found()) == [f"{D}/network_connections/0/routes/1/prefix"]


def test_names_of_domains_differ(red: Plain, found: Found) -> None:
    red["name"] = "blue"
    assert list(found()) == [f"{RED}/name"]


def test_ids_of_domains_differ_however_they_are_written(red: Plain, blue: Plain, found: Found) -> None:
    red["id"] = "{" + blue["id"].upper() + "}"
    assert list(found()) == [f"{RED}/id"]


def test_names_of_connections_differ_in_a_domain(blue: Plain, found: Found) -> None:
    blue["network_connections"].append(connection("corpnet", "corpnet20"))
    assert list(found()) == [f"{D}/network_connections/1/name"]


def test_names_of_access_lists_differ_in_a_domain(blue: Plain, found: Found) -> None:
    blue["access_control_lists"].append({"name": "web-only", "applies_to": []})
    assert list(found()) == [f"{D}/access_control_lists/1/name"]


def test_ids_of_hosts_differ(document: Plain, found: Found) -> None:
    document["hosts"][1]["id"] = "host1"
    assert list(found()) == ["/hosts/1/id"]


def test_a_provider_address_is_on_one_host(document: Plain, found: Found) -> None:
    document["hosts"][1]["provider_addresses"].append({"address": "192.168.1.10", "prefix_length": 24})
    assert list(found()) == ["/hosts/1/provider_addresses/1/address"]


def test_a_hosts_routes_and_lengths_fit_their_family(document: Plain, found: Found) -> None:
    document["hosts"][0]["provider_addresses"][0]["prefix_length"] = 33
    document["hosts"][0]["provider_routes"] = [{"prefix": "0.0.0.0/0", "next_hop": "fd00::1"}]
    assert list(found()) == ["/hosts/0/provider_addresses/0/prefix_length", "/hosts/0/provider_routes/0/next_hop"]


def test_a_rewrite_record_keeps_the_ip_family(blue: Plain, found: Found) -> None:
    blue["lookup_records"][5]["provider_address"] = "fd00:9::1"
    assert list(found()) == [f"{D}/lookup_records/5/provider_address"]


def test_a_wildcard_cannot_be_rewritten(blue: Plain, found: Found) -> None:
    blue["lookup_records"][4] |= {"encapsulation": "rewrite"}
    assert list(found()) == [f"{D}/lookup_records/4/encapsulation"]


def test_a_rewritten_provider_address_stands_for_one_customer_address(blue: Plain, found: Found) -> None:
    blue["lookup_records"].append(blue["lookup_records"][5] | {"customer_address": "10.1.6.23"})
    assert list(found()) == [f"{D}/lookup_records/6/provider_address"]


def test_a_rewritten_provider_address_stands_for_one_domain(red: Plain, found: Found) -> None:
    red["lookup_records"][0] |= {"provider_address": "192.168.9.1", "encapsulation": "rewrite"}
    assert list(found()) == [f"{RED}/lookup_records/0/provider_address"]


def test_no_tunnel_ends_at_a_rewritten_provider_address_of_another_domain(red: Plain, found: Found) -> None:
    red["lookup_records"][0]["provider_address"] = "192.168.9.1"
    assert list(found()) == [f"{RED}/lookup_records/0/provider_address"]


def test_no_tunnel_ends_at_a_rewritten_provider_address_of_the_domain(blue: Plain, found: Found) -> None:
    blue["lookup_records"][5]["provider_address"] = "192.168.6.5"
    assert list(found()) == [f"{D}/lookup_records/5/provider_address"]


@pytest.mark.parametrize("target", [{"vsid": 5001}, {"customer_address": "10.1.6.99"}])
def test_an_access_list_applies_to_something_of_its_domain(blue: Plain, found: Found, target: Plain) -> None:
    blue["access_control_lists"][0]["applies_to"].append(target)
    assert list(found()) == [f"{D}/access_control_lists/0/applies_to/2/{next(iter(target))}"]


@pytest.mark.parametrize("target", [{}, {"vsid": 6002, "customer_address": "10.1.6.21"}])
def test_an_access_list_target_is_one_thing(blue: Plain, found: Found, target: Plain) -> None:
    blue["access_control_lists"][0]["applies_to"].append(target)
    assert list(found()) == [f"{D}/access_control_lists/0/applies_to/2"]


@pytest.mark.parametrize("target", [{"vsid": 6002}, {"customer_address": "10.1.6.21"}])
def test_one_access_list_applies_to_a_virtual_subnet_or_customer_address(
    blue: Plain, found: Found, target: Plain
) -> None:
    blue["access_control_lists"].append({"name": "more", "applies_to": [target]})
    pointer = f"{D}/access_control_lists/1/applies_to/0/{next(iter(target))}"
    assert list(found()) == [pointer]
    assert "'web-only' applies to it already" in found()[pointer]


def test_an_access_list_names_what_it_applies_to_once(blue: Plain, found: Found) -> None:
    blue["access_control_lists"][0]["applies_to"].append({"vsid": 6002})
    assert list(found()) == [f"{D}/access_control_lists/0/applies_to/2/vsid"]


def test_a_virtual_subnet_and_a_machine_in_it_may_each_have_a_list(blue: Plain, found: Found) -> None:
    web_only = blue["access_control_lists"][0]
    blue["access_control_lists"].append({"name": "machine", "applies_to": [web_only["applies_to"].pop()]})
    assert found() == {}


def rule(**others: Any) -> Plain:
    return {"priority": 100, "direction": "outbound", "action": "deny"} | others


def test_priorities_differ_in_a_direction(blue: Plain, found: Found) -> None:
    blue["access_control_lists"][0]["rules"] += [rule(), rule(action="allow")]
    assert list(found()) == [f"{D}/access_control_lists/0/rules/3/priority"]


@pytest.mark.parametrize("protocol", ["icmp", "icmpv6", 47, 1])
def test_only_tcp_and_udp_have_ports(blue: Plain, found: Found, protocol: str | int) -> None:
    blue["access_control_lists"][0]["rules"].append(rule(protocol=protocol, source_ports="80"))
    assert list(found()) == [f"{D}/access_control_lists/0/rules/2/source_ports"]


@pytest.mark.parametrize("protocol", ["tcp", "udp", 6, 17, None])
def test_rules_with_ports_may_leave_the_protocol_open(blue: Plain, found: Found, protocol: str | int | None) -> None:
    blue["access_control_lists"][0]["rules"].append(rule(protocol=protocol, source_ports="80"))
    assert found() == {}


@pytest.mark.parametrize("text", ["90-80", "65536", "80,", "a", "-1", "", "80-"])
def test_a_bad_range_of_ports_is_refused(blue: Plain, found: Found, text: str) -> None:
    blue["access_control_lists"][0]["rules"].append(rule(protocol="tcp", destination_ports=text))
    assert list(found()) == [f"{D}/access_control_lists/0/rules/2/destination_ports"]


def test_prefixes_of_a_rule_are_of_one_family(blue: Plain, found: Found) -> None:
    blue["access_control_lists"][0]["rules"].append(rule(source_prefix="10.0.0.0/8", destination_prefix="fd00::/8"))
    assert list(found()) == [f"{D}/access_control_lists/0/rules/2/destination_prefix"]


MARTIANS = [
    "127.0.0.1",
    "0.1.2.3",
    "169.254.1.1",
    "224.0.0.5",
    "255.255.255.255",
    "::1",
    "fe80::1",
    "ff02::1",
    "::ffff:10.1.1.1",
]


@pytest.mark.parametrize("address", MARTIANS)
def test_martian_addresses_are_refused(blue: Plain, found: Found, address: str) -> None:
    blue["lookup_records"][0]["customer_address"] = address
    blue["lookup_records"][1]["provider_address"] = address
    assert list(found()) == [f"{D}/lookup_records/0/customer_address", f"{D}/lookup_records/1/provider_address"]


@pytest.mark.parametrize("prefix", ["127.0.0.0/16", "224.0.0.0/4", "169.254.7.0/24", "fe80::/64", "ff00::/8"])
def test_martian_prefixes_are_refused(blue: Plain, found: Found, prefix: str) -> None:
    next_hop = "fd00:6::21" if ":" in prefix else "10.1.6.21"
    blue["customer_routes"].append({"prefix": prefix, "next_hop": next_hop})
    blue["virtual_subnets"].append({"vsid": 6003, "prefixes": [prefix]})
    assert list(found()) == [f"{D}/customer_routes/2/prefix", f"{D}/virtual_subnets/2/prefixes/0"]


def test_a_virtual_subnet_holds_no_martians(red: Plain, found: Found) -> None:
    red["virtual_subnets"].append({"vsid": 5002, "prefixes": ["128.0.0.0/1"]})
    assert list(found()) == [f"{RED}/virtual_subnets/1/prefixes/0"]


def test_a_domain_has_65535_subnets_at_most(red: Plain, found: Found) -> None:
    red["virtual_subnets"] += [{"vsid": 100_000 + number, "prefixes": []} for number in range(65_534)]
    assert found() == {}
    red["virtual_subnets"].append({"vsid": 99_999, "prefixes": []})
    assert list(found()) == [f"{RED}/virtual_subnets"]


def test_64_routes_may_be_equal(blue: Plain, found: Found) -> None:
    addresses = [f"10.1.1.{number}" for number in range(20, 85)]
    blue["lookup_records"] += [
        blue["lookup_records"][1] | {"customer_address": address, "name": None} for address in addresses
    ]
    blue["customer_routes"] += [{"prefix": "10.9.0.0/16", "next_hop": address} for address in addresses[:64]]
    assert found() == {}
    blue["customer_routes"].append({"prefix": "10.9.0.0/16", "next_hop": addresses[64]})
    assert list(found()) == [f"{D}/customer_routes/66/prefix"]


def test_a_changed_domain_is_checked_against_the_others_alone(document: Plain, ports: dict[str, Port]) -> None:
    policy = parse_json(json.dumps(document).encode())
    blue, red = policy.routing_domains
    claims = Claims(ports, policy.routing_domains)
    assert domain_faults(blue, ports, claims) == []
    stolen = dataclasses.replace(red, virtual_subnets=(*red.virtual_subnets, blue.virtual_subnets[1]))
    assert [fault.pointer for fault in domain_faults(stolen, ports, claims)] == ["/virtual_subnets/1/vsid"]


def test_a_claim_that_is_given_up_is_free(document: Plain, ports: dict[str, Port]) -> None:
    policy = parse_json(json.dumps(document).encode())
    blue, red = policy.routing_domains
    claims = Claims(ports, policy.routing_domains)
    renamed = dataclasses.replace(red, name="blue")
    assert [fault.pointer for fault in domain_faults(renamed, ports, claims)] == ["/name"]
    claims.put(dataclasses.replace(blue, name="azure"))
    assert domain_faults(renamed, ports, claims) == []
    claims.remove(blue.id)
    assert domain_faults(dataclasses.replace(red, name="azure"), ports, claims) == []


def test_domains_that_stay_beside_a_document_are_respected(document: Plain, ports: dict[str, Port]) -> None:
    policy = parse_json(json.dumps(document).encode())
    blue, red = policy.routing_domains
    pushed = dataclasses.replace(policy, hosts=(), routing_domains=(dataclasses.replace(red, name="blue"),))
    beside = Claims(ports, policy.routing_domains).without([red.id])
    assert [fault.pointer for fault in faults(pushed, ports, beside)] == ["/routing_domains/0/name"]
    assert faults(pushed, ports, beside.without([blue.id])) == []


@pytest.mark.parametrize(
    "text", ["01-00-5E-00-00-01", "FF-FF-FF-FF-FF-FF", "00-00-00-00-00-00", "10-10-10", "10:10-10:10:10:10"]
)
def test_what_is_no_unicast_mac_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        mac(text)
