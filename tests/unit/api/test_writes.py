"""Writes of the native API, over TLS, on a real store."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import yaml
from documents import blue, policy, record, red
from live_gateway import BLUE, RED, LiveGateway

RECORD = f"/v1/routing-domains/{BLUE}/lookup-records/6001"


def addresses(client: httpx.Client, domain_id: str = BLUE) -> set[str]:
    records = client.get(f"/v1/routing-domains/{domain_id}").raise_for_status().json().get("lookup_records", [])
    return {entry["customer_address"] for entry in records}


def test_each_write_gets_the_next_revision(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        answers = [
            client.put("/v1/policy", json=policy(blue())),
            client.put(f"/v1/routing-domains/{RED}", json=red()),
            client.put(f"{RECORD}/10.1.1.12", json=record(12)),
            client.delete(f"{RECORD}/10.1.1.11"),
            client.delete(f"/v1/routing-domains/{RED}"),
        ]
        assert [answer.raise_for_status().json()["revision"] for answer in answers] == [1, 2, 3, 4, 5]
        assert client.get("/v1/policy").json() == policy(blue(record(12)))


def test_json_and_yaml_are_the_same_policy(gateway: LiveGateway) -> None:
    document = policy(blue(), red())
    with gateway.client() as client:
        text = yaml.safe_dump(document)
        client.put("/v1/policy", content=text, headers={"Content-Type": "application/yaml"}).raise_for_status()
        read = client.get("/v1/policy", headers={"Accept": "application/yaml"})
        assert read.headers["Content-Type"].startswith("application/yaml")
        assert yaml.safe_load(read.text) == client.get("/v1/policy").json() == document


def test_a_repeated_push_makes_no_revision(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        first, second = (client.put("/v1/policy", json=policy(blue())).json() for _ in range(2))
        repeated = client.put(f"{RECORD}/10.1.1.11", json=record(11)).json()
    assert first["revision"] == second["revision"] == repeated["revision"] == 1


def test_the_path_completes_a_record(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue()))
        body = {"mac": "10-10-10-10-11-0C", "provider_address": "192.168.1.10"}
        client.put(f"{RECORD}/10.1.1.12", json=body).raise_for_status()
        assert addresses(client) == {"10.1.1.11", "10.1.1.12"}


def test_a_record_that_contradicts_its_path_is_a_fault(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue()))
        answer = client.put(f"{RECORD}/10.1.1.12", json=record(13))
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/customer_address"
        assert addresses(client) == {"10.1.1.11"}


def test_ipv6_records_have_their_canonical_address(gateway: LiveGateway) -> None:
    dual = blue(virtual_subnets=[{"vsid": 6001, "prefixes": ["10.1.1.0/24", "fd00:1::/64"]}])
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(dual)).raise_for_status()
        body = {"mac": "10-10-10-10-11-0C", "provider_address": "192.168.1.10"}
        client.put(f"{RECORD}/FD00:1:0::0012", json=body).raise_for_status()
        assert "fd00:1::12" in addresses(client)
        client.delete(f"{RECORD}/fd00:1::12").raise_for_status()
        assert "fd00:1::12" not in addresses(client)


def test_a_write_waits_for_programmed_if_asked(gateway: LiveGateway) -> None:
    gateway.programmer.open.clear()
    with gateway.client() as client:
        accepted = client.put("/v1/policy", json=policy(blue())).json()
        assert accepted == {"revision": 1, "programmed": False}
        late = client.put(f"{RECORD}/10.1.1.12", json=record(12), params={"wait": "programmed", "timeout": 0.05}).json()
        assert late == {"revision": 2, "programmed": False}
        status = client.get("/v1/status").json()["policy"]
        assert (status["accepted_revision"], status["programmed_revision"], status["programmed"]) == (2, 0, False)
        threading.Timer(0.1, gateway.programmer.open.set).start()
        waited = client.put(f"{RECORD}/10.1.1.13", json=record(13), params={"wait": "programmed", "timeout": 30}).json()
        assert waited == {"revision": 3, "programmed": True}
        assert client.get("/v1/status").json()["policy"]["programmed_revision"] == 3


def test_a_domain_that_cannot_be_programmed_is_named_and_others_are_not_held_up(gateway: LiveGateway) -> None:
    gateway.programmer.errors = {BLUE: "no memory left"}
    waiting = {"wait": "programmed"}
    with gateway.client() as client:
        answer = client.put("/v1/policy", json=policy(blue(), red()), params=waiting).json()
        assert answer == {"revision": 1, "programmed": False, "errors": {BLUE: "no memory left"}}
        other = client.put(f"/v1/routing-domains/{RED}", json=red(tenant="red-corp"), params=waiting).json()
        assert other == {"revision": 2, "programmed": True}
        domains = {entry["name"]: entry["error"] for entry in client.get("/v1/status").json()["routing_domains"]}
        assert domains == {"blue": "no memory left", "red": None}
        again = client.put(f"/v1/routing-domains/{BLUE}", json=blue(), params=waiting).json()
        assert again == {"revision": 2, "programmed": False, "errors": {BLUE: "no memory left"}}
        gateway.programmer.errors = {}
        mended = client.put(f"{RECORD}/10.1.1.12", json=record(12), params=waiting).json()
        assert mended == {"revision": 3, "programmed": True}
        assert client.get("/v1/status").json()["policy"]["programmed_revision"] == 3


def test_a_repeated_push_tries_again_what_could_not_be_programmed(gateway: LiveGateway) -> None:
    gateway.programmer.errors = {BLUE: "no memory left"}
    waiting = {"wait": "programmed"}
    with gateway.client() as client:
        assert not client.put("/v1/policy", json=policy(blue(), red()), params=waiting).json()["programmed"]
        gateway.programmer.errors = {}
        assert client.put("/v1/policy", json=policy(blue(), red()), params=waiting).json() == {
            "revision": 1,
            "programmed": True,
        }


def test_etags_follow_the_resource(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue()))
        client.put(f"/v1/routing-domains/{RED}", json=red())
        assert client.get("/v1/policy").headers["ETag"] == '"2"'
        assert client.get(f"/v1/routing-domains/{BLUE}").headers["ETag"] == '"1"'
        assert client.put(f"{RECORD}/10.1.1.12", json=record(12)).headers["ETag"] == '"3"'


@pytest.mark.parametrize(
    ("tag", "status"), [('"1"', 200), ('"0"', 412), ('"9", "1"', 200), ("*", 200), ('W/"1"', 412), ("garbage", 412)]
)
def test_if_match_writes_only_over_the_expected_revision(gateway: LiveGateway, tag: str, status: int) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue()))
        answer = client.put(f"{RECORD}/10.1.1.12", json=record(12), headers={"If-Match": tag})
        assert answer.status_code == status
        assert len(addresses(client)) == (2 if status == 200 else 1)


def test_if_match_on_a_domain_that_is_not_there_fails(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        answer = client.put(f"/v1/routing-domains/{BLUE}", json=blue(), headers={"If-Match": "*"})
        assert answer.status_code == 412
        assert client.get("/v1/policy").json() == {}


def test_of_two_writers_with_the_same_etag_one_gets_a_conflict(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue()))

    def add(last: int) -> int:
        with gateway.client() as client:
            path = f"{RECORD}/10.1.1.{last}"
            return client.put(path, json=record(last), headers={"If-Match": '"1"'}).status_code

    with ThreadPoolExecutor(2) as writers:
        assert sorted(writers.map(add, (12, 13))) == [200, 412]


def test_many_writers_at_once_all_succeed_in_order(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue()))

    def add(last: int) -> int:
        with gateway.client() as client:
            answer = client.put(f"{RECORD}/10.1.1.{last}", json=record(last), params={"wait": "programmed"}).json()
            assert answer["programmed"]
            return int(answer["revision"])

    with ThreadPoolExecutor(8) as writers:
        revisions = list(writers.map(add, range(12, 52)))
    assert sorted(revisions) == list(range(2, 42))
    programmed = [len(held.routing_domains[0].lookup_records) for _, held in gateway.programmer.calls[1:]]
    assert programmed == list(range(1, 42))


def test_the_same_idempotency_key_and_body_get_the_same_answer(gateway: LiveGateway) -> None:
    key = {"Idempotency-Key": "5e1f"}
    with gateway.client() as client:
        first = client.put("/v1/policy", json=policy(blue()), headers=key)
        client.put("/v1/policy", json=policy(red()))
        again = client.put("/v1/policy", json=policy(blue()), headers=key)
        assert (again.status_code, again.json()["revision"]) == (200, first.json()["revision"])
        assert client.get("/v1/policy").json() == policy(red())


def test_an_idempotency_key_with_another_request_is_refused(gateway: LiveGateway) -> None:
    key = {"Idempotency-Key": "5e1f"}
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue()), headers=key)
        for answer in (
            client.put("/v1/policy", json=policy(red()), headers=key),
            client.delete(f"/v1/routing-domains/{BLUE}", headers=key),
        ):
            assert answer.status_code == 422
            assert answer.json()["type"].endswith("key-reused")
        assert client.get("/v1/policy").json() == policy(blue())


def test_a_write_without_effect_keeps_its_idempotency_key(gateway: LiveGateway) -> None:
    key = {"Idempotency-Key": "5e1f"}
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue()))
        kept = client.put("/v1/policy", json=policy(blue()), headers=key).json()["revision"]
        client.put("/v1/policy", json=policy(red()))
        assert client.put("/v1/policy", json=policy(blue()), headers=key).json()["revision"] == kept
        assert client.get("/v1/policy").json() == policy(red())


def test_rollback_makes_an_old_policy_a_new_revision(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue()))
        client.put("/v1/policy", json=policy(red()))
        answer = client.post("/v1/rollback/1", params={"wait": "programmed"}).json()
        assert answer == {"revision": 3, "programmed": True}
        assert client.get("/v1/policy").json() == policy(blue())
        assert client.get("/v1/policy", params={"revision": 2}).json() == policy(red())
        history = client.get("/v1/history").json()["revisions"]
        assert [(entry["revision"], entry["changed"], entry["removed"]) for entry in history] == [
            (3, ["blue"], ["red"]),
            (2, ["red"], ["blue"]),
            (1, ["blue"], []),
        ]
        assert client.post("/v1/rollback/0").json()["revision"] == 4
        assert client.get("/v1/policy").json() == {}


def test_rollback_to_a_revision_that_is_not_kept_is_not_found(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        assert client.post("/v1/rollback/7").status_code == 404
