"""Status, metrics, explain and the API's description of itself."""

from dataclasses import replace

from documents import WEB, blue, policy, record, red, tunnel
from live_gateway import BLUE, RED, LiveGateway
from prometheus_client.parser import text_string_to_metric_families

from gateway.compartments.specification import Compartment, CompartmentSpecification, Leg
from gateway.policy.model import RoutingDomain
from lb.pools import Choice, PoolState, pool_states

COMPARTMENT = Compartment(
    CompartmentSpecification(BLUE, ("10.1.1.254",), ("203.0.113.1",)),
    "/run/netns/tgw-blue",
    Leg("tgi-1", 7, "inside", "02-00-00-00-00-07"),
    Leg("tgo-1", 8, "outside", "02-00-00-00-00-08"),
)
CORPNET = {
    "name": "corpnet",
    "type": "l3",
    "port": "corpnet",
    "local_addresses": ["157.1.0.254/16"],
    "routes": [{"prefix": "0.0.0.0/0", "next_hop": "157.1.0.1"}],
}


def test_status_shows_what_is_held_programmed_and_counted(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue(), red()), params={"wait": "programmed"})
        status = client.get("/v1/status").json()
    assert status["policy"] == {"accepted_revision": 1, "programmed_revision": 1, "programmed": True}
    assert status["routing_domains"][0] == {
        "id": BLUE,
        "name": "blue",
        "owner": "policy",
        "revision": 1,
        "lookup_records": 1,
        "error": None,
        "traffic": {"overlay_to_external": {"packets": 7, "bytes": 700}},
        "drops": {"no_route": 3},
        "fragments_put_in_order": 11,
        "connections": {"used": 5, "capacity": 256},
        "load_balancers": [],
        "tunnels": [],
        "services_fault": None,
    }
    assert [port["name"] for port in status["ports"]] == ["provider", "corpnet", "internet"]
    assert status["internet"] == {
        "traffic": {},
        "drops": {"vip_not_served": 2},
        "fragments_put_in_order": 0,
        "connections": None,
    }
    assert status["drops"] == {"unknown_vsid": 1}
    assert status["unresolved_provider_addresses"] == ["192.168.1.99"]
    assert status["memory"] == {"tables": {"used": 1024, "capacity": 4096, "unit": "bytes"}}


def test_metrics_are_what_prometheus_reads(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue()), params={"wait": "programmed"})
        text = client.get("/metrics").raise_for_status().text
    samples = {
        (sample.name, sample.labels.get("domain"), sample.labels.get("direction") or sample.labels.get("reason")): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["tenant_gateway_packets_total", "blue", "overlay_to_external"] == 7
    assert samples["tenant_gateway_bytes_total", "blue", "overlay_to_external"] == 700
    assert samples["tenant_gateway_drops_total", "blue", "no_route"] == 3
    assert samples["tenant_gateway_fragments_put_in_order_total", "blue", None] == 11
    assert samples["tenant_gateway_drops_total", "internet", "vip_not_served"] == 2
    assert samples["tenant_gateway_drops_total", "", "unknown_vsid"] == 1
    assert samples["tenant_gateway_map_used", None, None] == 1024
    assert samples["tenant_gateway_port_attached", None, None] == 1
    assert samples["tenant_gateway_unresolved_provider_addresses", None, None] == 1
    assert samples["tenant_gateway_accepted_revision", None, None] == 1
    assert samples["tenant_gateway_programmed_revision", None, None] == 1


def test_explain_names_the_entry_that_decided(gateway: LiveGateway) -> None:
    packet = {"from": "overlay", "vsid": 6001, "source": "10.1.1.11", "destination": "157.1.0.9", "protocol": "tcp"}
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue(network_connections=[CORPNET]))).raise_for_status()
        explanation = client.post("/v1/explain", json=packet | {"port": 80}).raise_for_status().json()
        assert (explanation["verdict"], explanation["interface"]) == ("forwarded", "eth2")
        assert "/routing_domains/0/network_connections/0/local_addresses/0" in {
            step["entry"] for step in explanation["steps"]
        }
        back = {"from": "corpnet", "source": "157.1.0.9", "destination": "10.1.1.99"}
        explanation = client.post("/v1/explain", json=back).json()
        assert (explanation["verdict"], explanation["reason"]) == ("dropped", "no_record")


def test_explain_knows_compartments_tunnels_and_members_as_they_are_now(gateway: LiveGateway) -> None:
    domain = blue(record(11), record(12), network_connections=[CORPNET, tunnel()], load_balancers=[WEB])
    to_site = {"vsid": 6001, "source": "10.1.1.11", "destination": "10.2.0.10"}
    to_vip = {"from": "internet", "source": "203.0.113.9", "destination": "203.0.113.80", "protocol": "tcp", "port": 80}
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(domain)).raise_for_status()
        assert client.post("/v1/explain", json=to_site).json()["reason"] == "no_record"
        assert client.post("/v1/explain", json=to_vip).json()["verdict"] == "forwarded"
        held = gateway.transactions.held.policy.routing_domains[0]
        gateway.services.compartments[BLUE] = COMPARTMENT
        gateway.services.pools[BLUE] = all_down(held)
        explanation = client.post("/v1/explain", json=to_site).json()
        assert (explanation["verdict"], explanation["interface"]) == ("forwarded", "tgi-1")
        assert explanation["steps"][-1]["words"] == "It is forwarded to the compartment, which drops it."
        client.post(f"/v1/routing-domains/{BLUE}/tunnels/headquarters/up").raise_for_status()
        connected = client.post("/v1/explain", json=to_site).json()["steps"]
        assert "The tunnel is connected since 1970; packets of up to 1438 bytes fit." in {
            one["words"] for one in connected
        }
        assert client.post("/v1/explain", json=to_vip).json()["reason"] == "no_member"


def all_down(domain: RoutingDomain) -> dict[Choice, PoolState]:
    return {
        choice: replace(state, members=tuple(replace(one, state="down") for one in state.members))
        for choice, state in pool_states(domain, {}).items()
    }


def test_a_question_that_cannot_be_asked_names_its_field(gateway: LiveGateway) -> None:
    question = {"source": "10.1.1.11", "destination": "157.1.0.9"}
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue()))
        for more, field in (
            ({}, "/vsid"),
            ({"vsid": 6001, "source": "nonsense"}, "/source"),
            ({"vsid": 6001, "protocol": "smoke"}, "/protocol"),
            ({"vsid": 6001, "ttl": 256}, "/ttl"),
            ({"vsid": 6001, "unknown": 1}, "/unknown"),
            ({"from": "nowhere"}, "/from"),
        ):
            answer = client.post("/v1/explain", json=question | more)
            assert answer.status_code == 422
            assert [error["pointer"] for error in answer.json()["errors"]] == [field]
        malformed = client.post("/v1/explain", content=b"{", headers={"Content-Type": "application/json"})
        assert malformed.status_code == 400


def test_the_description_covers_the_standing_contract(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        description = client.get("/openapi.json").json()
    operations = {(method, path) for path, methods in description["paths"].items() for method in methods}
    record_path = "/v1/routing-domains/{domain_id}/lookup-records/{vsid}/{customer_address}"
    assert operations >= {
        ("get", "/v1/policy"),
        ("put", "/v1/policy"),
        ("get", "/v1/routing-domains/{domain_id}"),
        ("put", "/v1/routing-domains/{domain_id}"),
        ("delete", "/v1/routing-domains/{domain_id}"),
        ("put", record_path),
        ("delete", record_path),
        ("get", "/v1/status"),
        ("post", "/v1/explain"),
        ("get", "/v1/history"),
        ("post", "/v1/rollback/{revision}"),
        ("get", "/metrics"),
    }
    for methods in description["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert "application/problem+json" in operation["responses"]["default"]["content"]
    assert set(description["components"]["schemas"]) >= {"Policy", "RoutingDomain", "LookupRecord", "Problem"}


def test_the_examples_of_the_description_are_accepted(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
        of_policy = paths["/v1/policy"]["put"]["requestBody"]["content"]["application/json"]["example"]
        client.put("/v1/policy", json=of_policy).raise_for_status()
        put_domain = paths["/v1/routing-domains/{domain_id}"]["put"]
        for each in put_domain["requestBody"]["content"]["application/json"]["examples"].values():
            client.put(f"/v1/routing-domains/{each['value']['id']}", json=each["value"]).raise_for_status()
        body = paths["/v1/routing-domains/{domain_id}/lookup-records/{vsid}/{customer_address}"]["put"]
        content = body["requestBody"]["content"]["application/json"]
        assert content["schema"]["required"] == ["mac", "provider_address"]  # the path has the rest
        example = content["example"]
        path = f"/v1/routing-domains/{BLUE}/lookup-records/{example['vsid']}/{example['customer_address']}"
        client.put(path, json=example).raise_for_status()
        assert client.get(f"/v1/routing-domains/{RED}").status_code == 404
        assert record(11)["vsid"] == example["vsid"]
