"""Bad input: a problem document that names every fault, and nothing of the request takes effect."""

import json
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from documents import blue, policy, record, red
from live_gateway import BLUE, RED, LiveGateway

MEGABYTE = 1 << 20


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["title"]
    return document


def pointers(answer: httpx.Response, status: int = 422) -> list[str]:
    return [error["pointer"] for error in problem(answer, status)["errors"]]


def test_all_faults_come_at_once_each_with_its_field(gateway: LiveGateway) -> None:
    faulty = blue(record(11, mac="nonsense"), record(12, provider_address="127.0.0.1"), unknown=1)
    with gateway.client() as client:
        answer = client.put("/v1/policy", json=policy(faulty, red(name=7)))
        assert set(pointers(answer)) >= {
            "/routing_domains/0/lookup_records/0/mac",
            "/routing_domains/0/lookup_records/1/provider_address",
            "/routing_domains/0/unknown",
            "/routing_domains/1/name",
        }
        assert client.get("/v1/policy").json() == {}
        assert [what for what, _ in gateway.programmer.calls] == ["all"]


def test_faults_of_one_domain_point_into_it(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(red())).raise_for_status()
        clash = blue(virtual_subnets=[{"vsid": 5001, "prefixes": ["10.1.1.0/24"]}])
        assert "/virtual_subnets/0/vsid" in pointers(client.put(f"/v1/routing-domains/{BLUE}", json=clash))
        assert pointers(client.put(f"/v1/routing-domains/{RED}", json=blue())) == ["/id"]


def test_faults_of_one_record_point_into_it(gateway: LiveGateway) -> None:
    path = f"/v1/routing-domains/{BLUE}/lookup-records"
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue())).raise_for_status()
        body = record(12, mac="10-10-10-10-11-0B", provider_address="192.168.1.99")  # the MAC of .11, elsewhere
        assert pointers(client.put(f"{path}/6001/10.1.1.12", json=body)) == ["/provider_address"]
        assert pointers(client.put(f"{path}/6001/10.9.9.9", json=record(9, customer_address="10.9.9.9"))) == [
            "/customer_address"
        ]
        assert pointers(client.put(f"{path}/6001/nonsense", json={})) == ["/customer_address"]


def test_a_record_that_a_route_needs_is_not_deleted(gateway: LiveGateway) -> None:
    routed = blue(customer_routes=[{"prefix": "172.16.0.0/12", "next_hop": "10.1.1.11"}])
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(routed)).raise_for_status()
        answer = client.delete(f"/v1/routing-domains/{BLUE}/lookup-records/6001/10.1.1.11")
        assert pointers(answer) == ["/customer_routes/0/next_hop"]


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"hosts": NaN}', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"a: [", "application/yaml"),
        (b"a: &b [*b]", "application/yaml"),
        (b"\x00", "application/yaml"),
    ],
)
def test_malformed_documents_are_bad_requests(gateway: LiveGateway, body: bytes, media_type: str) -> None:
    with gateway.client() as client:
        answer = client.put("/v1/policy", content=body, headers={"Content-Type": media_type})
        assert pointers(answer, 400) == [""]


def test_duplicate_keys_are_faults(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        body = json.dumps(blue())[:-1] + ', "name": "azure"}'
        answer = client.put(f"/v1/routing-domains/{BLUE}", content=body, headers={"Content-Type": "application/json"})
        assert pointers(answer) == ["/name"]
        client.put("/v1/policy", json=policy(blue())).raise_for_status()
        body = '{"mac": "10-10-10-10-11-0C", "mac": "10-10-10-10-11-0D", "provider_address": "192.168.1.10"}'
        path = f"/v1/routing-domains/{BLUE}/lookup-records/6001/10.1.1.12"
        assert pointers(client.put(path, content=body, headers={"Content-Type": "application/json"})) == ["/mac"]


def test_another_media_type_is_unsupported(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        problem(client.put("/v1/policy", content=b"<policy/>", headers={"Content-Type": "text/xml"}), 415)
        yaml = {"Content-Type": "application/yaml"}
        problem(client.put(f"/v1/routing-domains/{BLUE}", content=b"a: 1", headers=yaml), 415)


def test_what_is_not_there_is_not_found(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue())).raise_for_status()
        problem(client.get("/v1/nothing"), 404)
        problem(client.get(f"/v1/routing-domains/{RED}"), 404)
        problem(client.delete(f"/v1/routing-domains/{RED}"), 404)
        problem(client.put(f"/v1/routing-domains/{RED}/lookup-records/6001/10.1.1.1", json=record(1)), 404)
        problem(client.delete(f"/v1/routing-domains/{BLUE}/lookup-records/6001/10.1.1.99"), 404)


def test_a_method_that_a_path_does_not_take_is_answered_with_those_it_takes(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        for path, allowed in (
            ("/v1/policy", "GET, PUT"),
            (f"/v1/routing-domains/{BLUE}", "DELETE, GET, PUT"),
            (f"/v1/routing-domains/{BLUE}/lookup-records/6001/10.1.1.11", "DELETE, PUT"),
        ):
            answer = client.post(path)
            problem(answer, 405)
            assert answer.headers["Allow"] == allowed


def test_faults_of_parameters_are_named(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        answer = client.put("/v1/policy", json={}, params={"wait": "forever", "timeout": -1})
        assert pointers(answer) == ["/wait", "/timeout"]
        answer = client.put("/v1/policy", json={}, headers={"Idempotency-Key": ""})
        assert pointers(answer) == ["/idempotency-key"]


@pytest.mark.parametrize("given", [None, "Bearer nonsense", "Basic YTpi", "Bearer \xe9"])
def test_without_the_token_everything_is_refused(gateway: LiveGateway, given: str | None) -> None:
    with gateway.client() as client:
        del client.headers["Authorization"]
        headers = {} if given is None else {"Authorization": given.encode("latin-1")}
        for path in ("/v1/policy", "/v1/status", "/metrics", "/v1/nothing"):
            answer = client.get(path, headers=headers)
            problem(answer, 401)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_description_needs_no_token(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        del client.headers["Authorization"]
        assert client.get("/openapi.json").status_code == 200
        assert client.get("/docs").status_code == 200


def test_plain_http_and_a_foreign_trust_get_no_answer(gateway: LiveGateway) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(gateway.url.replace("https", "http"), trust_env=False)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(gateway.url, verify=ssl.create_default_context(), trust_env=False)


def test_a_body_announced_as_oversized_is_refused_unread(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        headers = {"Content-Type": "application/json", "Content-Length": str(65 * MEGABYTE)}
        request = client.build_request("PUT", "/v1/policy", headers=headers, content=iter([b" " * MEGABYTE] * 65))
        problem(client.send(request), 413)


def test_a_body_that_turns_out_oversized_is_refused_while_it_streams(gateway: LiveGateway) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(80):
            sent += MEGABYTE
            yield b" " * MEGABYTE

    with gateway.client() as client:
        problem(client.put("/v1/policy", content=endless(), headers={"Content-Type": "application/json"}), 413)
        assert sent > 64 * MEGABYTE
        assert client.get("/v1/policy").json() == {}


def test_a_refusal_leaves_the_connection_usable(gateway: LiveGateway) -> None:
    with gateway.client(limits=httpx.Limits(max_connections=1)) as client:
        problem(client.put("/v1/policy", content=b" " * (65 * MEGABYTE)), 413)
        client.put("/v1/policy", json=policy(blue())).raise_for_status()
