"""Secrets through the service: what comes out of it, what may be pushed back, and what is programmed."""

import os
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_gateway import BLUE, LiveGateway, running_gateway

from gateway.configuration import Port
from gateway.policy.model import Policy

Document = dict[str, Any]
PSK, OTHER_PSK = "correct-horse-battery-staple", "a-second-secret"
PORTS = (
    Port(name="provider", role="provider", interface="eth1", addresses=("192.168.6.2/24",)),
    Port(name="internet", role="external", interface="eth3", addresses=("198.51.100.1/24",)),
)


def tunnel(secret: str = PSK, **fields: Any) -> Document:
    return {
        "name": "headquarters",
        "type": "ipsec",
        "remote_address": "203.0.113.20",
        "authentication": {"method": "psk", "secret": secret},
        "routes": [{"prefix": "10.2.0.0/24"}],
    } | fields


def blue(*connections: Document) -> Document:
    return {
        "id": BLUE,
        "name": "blue",
        "virtual_subnets": [{"vsid": 6001, "prefixes": ["10.1.1.0/24"]}],
        "network_connections": list(connections),
    }


def put(client: httpx.Client, domain: Document) -> int:
    answer = client.put("/v1/policy", json={"routing_domains": [domain]}, params={"wait": "programmed"})
    return int(answer.raise_for_status().json()["revision"])


def programmed_secret(live: LiveGateway) -> str:
    live.transactions.settled().result(10)
    programmed: Policy = live.programmer.calls[-1][1]
    return programmed.routing_domains[0].ipsec_connections()[0].authentication.secret.get_secret_value()


@pytest.mark.parametrize(
    "path",
    ["/v1/policy", "/v1/policy?revision=1", f"/v1/routing-domains/{BLUE}", "/v1/status", "/v1/history", "/metrics"],
)
@pytest.mark.parametrize("accept", ["application/json", "application/yaml"])
def test_no_answer_shows_a_secret(tmp_path: Path, path: str, accept: str) -> None:
    with running_gateway(tmp_path, ports=PORTS) as live, live.client() as client:
        put(client, blue(tunnel()))
        answer = client.get(path, headers={"Accept": accept})
        assert answer.is_success
        assert PSK not in answer.text


def test_no_file_of_the_state_holds_a_secret_in_clear(tmp_path: Path) -> None:
    with running_gateway(tmp_path, ports=PORTS) as live, live.client() as client:
        put(client, blue(tunnel()))
        content = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
        with closing(sqlite3.connect(tmp_path / "policy.sqlite")) as store:
            (document,) = (zlib.decompress(packed) for (packed,) in store.execute("SELECT document FROM domains"))
    assert b"headquarters" in document
    assert PSK.encode() not in content + document


def test_what_was_shown_is_pushed_back_without_a_change(tmp_path: Path) -> None:
    with running_gateway(tmp_path, ports=PORTS) as live, live.client() as client:
        assert put(client, blue(tunnel())) == 1
        shown = client.get("/v1/policy")
        assert client.put("/v1/policy", content=shown.content).json()["revision"] == 1
        domain = client.get(f"/v1/routing-domains/{BLUE}")
        assert client.put(f"/v1/routing-domains/{BLUE}", content=domain.content).json()["revision"] == 1


def test_a_change_beside_the_placeholder_keeps_the_secret(tmp_path: Path) -> None:
    with running_gateway(tmp_path, ports=PORTS) as live, live.client() as client:
        put(client, blue(tunnel()))
        assert put(client, blue(tunnel("***", enabled=False))) == 2
        assert programmed_secret(live) == PSK
        domain = blue(tunnel("***", enabled=True))
        client.put(f"/v1/routing-domains/{BLUE}", json=domain).raise_for_status()
        assert programmed_secret(live) == PSK
    with running_gateway(tmp_path, ports=PORTS) as live:
        assert programmed_secret(live) == PSK


def test_a_rollback_brings_the_former_secret_back(tmp_path: Path) -> None:
    with running_gateway(tmp_path, ports=PORTS) as live, live.client() as client:
        put(client, blue(tunnel()))
        put(client, blue(tunnel(OTHER_PSK)))
        assert programmed_secret(live) == OTHER_PSK
        client.post("/v1/rollback/1").raise_for_status()
        assert programmed_secret(live) == PSK


@pytest.mark.parametrize("name", ["headquarters", "another"])
def test_a_placeholder_that_stands_for_nothing_is_a_fault(tmp_path: Path, name: str) -> None:
    with running_gateway(tmp_path, ports=PORTS) as live, live.client() as client:
        put(client, blue(tunnel(name="headquarters2")))
        documents = (
            ("/v1/policy", "/routing_domains/0", {"routing_domains": [blue(tunnel("***", name=name))]}),
            (f"/v1/routing-domains/{BLUE}", "", blue(tunnel("***", name=name))),
        )
        for path, at, document in documents:
            answer = client.put(path, json=document)
            assert answer.status_code == 422
            pointers = [error["pointer"] for error in answer.json()["errors"]]
            assert pointers == [f"{at}/network_connections/0/authentication/secret"]


def test_a_placeholder_is_no_fault_beside_others(tmp_path: Path) -> None:
    with running_gateway(tmp_path, ports=PORTS) as live, live.client() as client:
        put(client, blue(tunnel()))
        answer = client.put("/v1/policy", json={"routing_domains": [blue(tunnel("***")) | {"routing": "no"}]})
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/routing_domains/0/routing"]


def test_an_idempotent_write_of_a_secret_is_recognised(tmp_path: Path) -> None:
    with running_gateway(tmp_path, ports=PORTS) as live, live.client() as client:
        document, other = ({"routing_domains": [blue(tunnel(secret))]} for secret in (PSK, OTHER_PSK))
        key = {"Idempotency-Key": "k"}
        answers = [client.put("/v1/policy", json=one, headers=key) for one in (document, document, other)]
        assert [answer.status_code for answer in answers] == [200, 200, 422]


@pytest.mark.parametrize(
    "outside",
    [
        {"network_connections": [tunnel()]},
        {"load_balancers": [{"name": "w", "frontends": [{"name": "f", "address": "198.51.100.8", "public": True}]}]},
    ],
)
def test_a_domain_whose_public_address_lost_its_port_is_told(tmp_path: Path, outside: Document) -> None:
    with running_gateway(tmp_path, ports=PORTS) as live, live.client() as client:
        put(client, blue() | deepcopy(outside))
    with running_gateway(tmp_path, ports=PORTS[:1]) as live, live.client() as client:
        live.transactions.settled().result(10)
        assert live.programmer.calls[0][1].routing_domains == ()
        assert "external port" in client.get("/v1/status").json()["routing_domains"][0]["error"]


def test_a_peer_may_not_be_a_host_that_another_document_named(tmp_path: Path) -> None:
    host = {"id": "host1", "provider_addresses": [{"address": "203.0.113.20", "prefix_length": 24}]}
    with running_gateway(tmp_path, ports=PORTS) as live, live.client() as client:
        client.put("/v1/policy", json={"hosts": [host]}).raise_for_status()
        answer = client.put(f"/v1/routing-domains/{BLUE}", json=blue(tunnel()))
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/network_connections/0/remote_address"]
        answer = client.put("/v1/policy", json={"routing_domains": [blue(tunnel())]})
        assert answer.is_success, "the document replaces the host"


FAIL = """
import structlog
from gateway import logs

logs.configure()
try:
    body = "%s"
    raise RuntimeError("on purpose")
except RuntimeError:
    structlog.get_logger("test").exception("failed")
"""


@pytest.mark.parametrize("for_eyes", [True, False])
def test_no_log_shows_what_a_failure_had_at_hand(for_eyes: bool) -> None:
    reading, writing = os.openpty() if for_eyes else os.pipe()
    # What runs is read from stdin: a trace shows no lines of it.
    command = subprocess.run([sys.executable, "-"], input=(FAIL % PSK).encode(), stderr=writing, check=False)
    os.close(writing)
    shown = b""
    with suppress(OSError):  # how a terminal ends
        while part := os.read(reading, 1 << 16):
            shown += part
    os.close(reading)
    assert command.returncode == 0
    assert b"on purpose" in shown
    assert PSK.encode() not in shown
