"""The service over time: restarts, kill -9, failing disks, a busy programmer."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import httpx
import live_gateway
import pytest
from documents import blue, policy, record, red
from live_gateway import BLUE, RED, LiveGateway, running_gateway

from gateway.api.server import notify_service_manager

RECORD = f"/v1/routing-domains/{BLUE}/lookup-records/6001"


@contextmanager
def gateway_process(state_dir: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Serve in another process, which the caller may kill."""
    command = [sys.executable, "-P", live_gateway.__file__, str(state_dir), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            _, port = process.stdout.readline().split()
            headers = {"Authorization": f"Bearer {(state_dir / 'admin.token').read_text().strip()}"}
            with live_gateway.client(f"https://127.0.0.1:{port}", state_dir, headers=headers) as client:
                yield process, client
        finally:
            process.kill()


def test_kill_9_keeps_every_acknowledged_revision(tmp_path: Path) -> None:
    acknowledged: dict[int, int] = {}
    for last in range(11, 17):
        with gateway_process(tmp_path) as (process, client):
            client.put(f"/v1/routing-domains/{BLUE}", json=blue(record(last))).raise_for_status()
            killer = threading.Timer(0.2, process.send_signal, (signal.SIGKILL,))
            killer.start()
            try:
                for more in range(100, 250):
                    answer = client.put(f"{RECORD}/10.1.1.{more}", json=record(more))
                    acknowledged[answer.raise_for_status().json()["revision"]] = more
            except httpx.TransportError:
                killer.join()
            assert process.wait(10) == -signal.SIGKILL
    with gateway_process(tmp_path) as (_, client):
        assert client.get("/v1/status").json()["policy"]["accepted_revision"] >= max(acknowledged)
        assert len(acknowledged) > 6
        for revision, more in acknowledged.items():
            held = client.get("/v1/policy", params={"revision": revision}).json()
            records = held["routing_domains"][0]["lookup_records"]
            assert records[-1]["customer_address"] == f"10.1.1.{more}"


def test_sigterm_ends_the_service_cleanly_and_at_once_though_a_client_stays_connected(tmp_path: Path) -> None:
    with gateway_process(tmp_path) as (process, client):
        client.get("/v1/status").raise_for_status()
        process.terminate()
        began = time.monotonic()
        assert process.wait(10) == 0
        assert time.monotonic() - began < 4, "five seconds are for requests under way"


def test_a_request_under_way_is_answered_before_the_service_ends(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with running_gateway(tmp_path) as live, live.client() as client:
            live.programmer.open.clear()
            pushed = pool.submit(put, live, 1, wait="programmed")
            while client.get("/v1/status").json()["policy"]["accepted_revision"] == 0:
                assert not pushed.done()
        assert pushed.result().json() == {"revision": 1, "programmed": True}


def test_a_restart_programs_what_was_accepted_and_keeps_token_and_certificate(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as first, first.client() as client:
        client.put("/v1/policy", json=policy(blue()), headers={"Idempotency-Key": "k"}).raise_for_status()
        client.put(f"/v1/routing-domains/{live_gateway.RED}", json=red()).raise_for_status()
    made = {path: path.read_bytes() for path in [*(tmp_path / "tls").iterdir(), tmp_path / "admin.token"]}
    with running_gateway(tmp_path) as second, second.client() as client:
        answer = client.put("/v1/policy", json=policy(blue()), headers={"Idempotency-Key": "k"})
        assert answer.json() == {"revision": 1, "programmed": True}
        what, programmed = second.programmer.calls[0]
        assert (what, [domain.name for domain in programmed.routing_domains]) == ("all", ["blue", "red"])
        assert client.get("/v1/status").json()["policy"]["programmed_revision"] == 2
        assert client.get(f"/v1/routing-domains/{BLUE}").headers["ETag"] == '"1"'
    assert {path: path.read_bytes() for path in made} == made


def test_a_domain_that_lost_its_port_is_told_and_keeps_no_other_from_the_datapath(tmp_path: Path) -> None:
    corpnet = {"name": "corpnet", "type": "l3", "port": "corpnet", "local_addresses": ["157.1.0.254/16"]}
    with running_gateway(tmp_path) as live, live.client() as client:
        client.put("/v1/policy", json=policy(blue(network_connections=[corpnet]), red())).raise_for_status()
    with running_gateway(tmp_path, ports=live_gateway.CONFIGURED_PORTS[:1]) as live, live.client() as client:
        live.transactions.settled().result(10)
        assert [domain.name for domain in live.programmer.calls[0][1].routing_domains] == ["red"]
        status = client.get("/v1/status").json()
        assert [bool(domain["error"]) for domain in status["routing_domains"]] == [True, False]
        assert "corpnet" in status["routing_domains"][0]["error"]
        assert status["policy"] == {"accepted_revision": 1, "programmed_revision": 0, "programmed": False}
        mended = client.put(f"/v1/routing-domains/{BLUE}", json=blue(), params={"wait": "programmed"}).json()
        assert mended == {"revision": 2, "programmed": True}
        assert client.get("/v1/status").json()["policy"]["programmed_revision"] == 2


def test_secrets_are_readable_by_their_owner_alone(gateway: LiveGateway) -> None:
    for name in ("admin.token", "tls/ca.key", "tls/server.key"):
        assert (gateway.state_dir / name).stat().st_mode & 0o777 == 0o600


def test_a_corrupted_store_is_told_and_nothing_is_programmed(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as live, live.client() as client:
        client.put("/v1/policy", json=policy(blue())).raise_for_status()
    (tmp_path / "policy.sqlite").write_bytes(os.urandom(8192))
    with running_gateway(tmp_path) as live, live.client() as client:
        for answer in (
            client.get("/v1/policy"),
            client.put("/v1/policy", json=policy(blue())),
            client.get(f"/v1/routing-domains/{BLUE}"),
            client.get("/v1/history"),
        ):
            assert answer.status_code == 503
            assert "policy.sqlite" in answer.json()["detail"]
        status = client.get("/v1/status").raise_for_status().json()
        assert "policy.sqlite" in status["faults"][0]
        assert status["policy"]["programmed"] is False
        assert live.programmer.calls == []


def test_a_store_that_was_lost_leaves_the_datapath_as_it_is_until_policy_is_pushed(tmp_path: Path) -> None:
    with running_gateway(tmp_path, forwarding=(BLUE, RED)) as live, live.client() as client:
        [fault] = client.get("/v1/status").raise_for_status().json()["faults"]
        assert "the datapath holds 2 routing domains" in fault
        assert client.put("/v1/policy", json={}).json() == {"revision": 0, "programmed": False}
        assert live.programmer.calls == []
        answer = client.put(f"/v1/routing-domains/{BLUE}", json=blue(), params={"wait": "programmed"})
        assert answer.json() == {"revision": 1, "programmed": True}
        assert [what for what, _ in live.programmer.calls] == ["all"]
        assert client.get("/v1/status").json()["faults"] == []
    with running_gateway(tmp_path, forwarding=(BLUE,)) as live:
        assert [what for what, _ in live.programmer.calls] == ["all"]


def test_a_full_disk_refuses_the_write_and_keeps_the_policy(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue())).raise_for_status()
        store = gateway.transactions._usable()
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count = {pages}")
        many = [record(last, name=os.urandom(100).hex()) for last in range(11, 250)]
        answer = client.put("/v1/policy", json=policy(blue(*many), red()))
        store._database.execute("PRAGMA max_page_count = 1000000")
        assert answer.status_code == 507
        assert client.get("/v1/policy").json() == policy(blue())
        assert client.put(f"{RECORD}/10.1.1.12", json=record(12)).json()["revision"] == 2


def test_a_programmer_that_fails_is_told_and_tried_again_whole(gateway: LiveGateway) -> None:
    waiting = {"wait": "programmed"}
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue()), params=waiting).raise_for_status()
        gateway.programmer.failure = OSError("the pins are gone")
        answer = client.put(f"{RECORD}/10.1.1.12", json=record(12), params=waiting).json()
        assert answer == {"revision": 2, "programmed": False}
        status = client.get("/v1/status").json()
        assert status["faults"] == ["OSError: the pins are gone"]
        assert (status["policy"]["accepted_revision"], status["policy"]["programmed_revision"]) == (2, 1)
        gateway.programmer.failure = None
        answer = client.put(f"{RECORD}/10.1.1.13", json=record(13), params=waiting).json()
        assert answer == {"revision": 3, "programmed": True}
        assert [what for what, _ in gateway.programmer.calls][-2:] == [BLUE, "all"]


def test_one_changed_domain_alone_is_programmed(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(blue(), red()), params={"wait": "programmed"})
        client.put("/v1/policy", json=policy(blue(), red(tenant="red-corp")), params={"wait": "programmed"})
        client.put("/v1/policy", json=policy(blue()), params={"wait": "programmed"})
        hosts = [{"id": "host1", "provider_addresses": [{"address": "192.168.1.10", "prefix_length": 24}]}]
        client.put("/v1/policy", json={"hosts": hosts, **policy(blue())}, params={"wait": "programmed"})
    assert [what for what, _ in gateway.programmer.calls] == ["all", "all", live_gateway.RED, live_gateway.RED, "all"]


def test_status_answers_while_a_large_policy_is_read(gateway: LiveGateway) -> None:
    domains = [
        {
            "id": f"11111111-2222-3333-4444-{number:012d}",
            "name": f"domain{number}",
            "virtual_subnets": [{"vsid": 5000 + number, "prefixes": ["10.0.0.0/16"]}],
            "lookup_records": [
                {
                    "vsid": 5000 + number,
                    "customer_address": f"10.0.{at >> 8}.{at & 255}",
                    "mac": f"02-00-00-{number:02X}-{at >> 8:02X}-{at & 255:02X}",
                    "provider_address": "192.168.1.10",
                }
                for at in range(2, 1002)
            ],
        }
        for number in range(50)
    ]
    answered = []
    with gateway.client() as writer, gateway.client() as reader:
        push = threading.Thread(target=lambda: answered.append(writer.put("/v1/policy", json=policy(*domains))))
        started = time.monotonic()
        push.start()
        longest = count = 0.0
        while push.is_alive():
            began = time.monotonic()
            reader.get("/v1/status").raise_for_status()
            longest, count = max(longest, time.monotonic() - began), count + 1
        push.join()
    assert answered[0].status_code == 200
    assert count > 1
    assert longest < (time.monotonic() - started) / 2, "status waited for the policy"


def test_status_and_policy_answer_while_writers_queue(gateway: LiveGateway) -> None:
    with gateway.client() as client, gateway.transactions._writer, ThreadPoolExecutor(60) as writers:
        client.get("/v1/status").raise_for_status()
        queued = [writers.submit(put, gateway, last) for last in range(60)]
        assert not wait(queued, timeout=1).done
        assert client.get("/v1/status", timeout=5).status_code == 200
        assert client.get("/v1/policy", timeout=5).json() == {}
        gateway.transactions._writer.release()
        assert {answer.result().status_code for answer in queued} == {200}
        gateway.transactions._writer.acquire()


def put(gateway: LiveGateway, last: int, **parameters: str) -> httpx.Response:
    with gateway.client() as client:
        return client.put("/v1/policy", json=policy(blue(record(100 + last))), params=parameters)


def test_a_store_of_another_format_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "policy.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    with running_gateway(tmp_path) as live, live.client() as client:
        assert client.put("/v1/policy", json=policy(blue())).status_code == 503


def test_a_service_manager_that_is_told_hears_it_and_one_that_is_gone_hinders_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = tmp_path / "notify.sock"
    monkeypatch.setenv("NOTIFY_SOCKET", str(address))
    notify_service_manager("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        notify_service_manager("READY=1")
        assert manager.recv(64) == b"READY=1"
    notify_service_manager("STOPPING=1")
