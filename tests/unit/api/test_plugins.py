"""Plug-ins: found by entry point, enabled by name, owners of what comes in through them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from documents import blue, policy, red
from fastapi import APIRouter
from live_gateway import BLUE, RED, LiveGateway, running_gateway

from gateway.policy.model import Policy, RoutingDomain
from gateway.transactions import Terms, Transactions
from plugins.contract import UnknownPluginError, load


class OtherDialect:
    """A plug-in of another package, which adds a routing domain by its name alone."""

    name = "other"

    def router(self, transactions: Transactions) -> APIRouter:
        router = APIRouter(prefix="/other")

        @router.post("/{name}")
        def add(name: str) -> int:
            domain = RoutingDomain(id=RED, name=name)
            return transactions.put_domain(Terms(self.name), domain).revision

        return router


plugin = OtherDialect()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install this module as a package that brings a plug-in."""
    metadata = tmp_path / "other_dialect-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other-dialect\nVersion: 1.0\n")
    entry = f"[tenant_gateway.orchestrators]\nother = {__name__}:plugin\n"
    (metadata / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    assert __name__ in sys.modules


def test_the_native_plugin_is_installed() -> None:
    assert [found.name for found in load(["policy"])] == ["policy"]


def test_an_unknown_plugin_is_refused_with_those_installed() -> None:
    with pytest.raises(UnknownPluginError, match=r"'teleport'.*installed: .*policy"):
        load(["policy", "teleport"])


@pytest.mark.usefixtures("installed")
def test_an_installed_plugin_serves_its_routes_and_owns_its_domains(tmp_path: Path) -> None:
    with running_gateway(tmp_path, ("policy", "other")) as gateway, gateway.client() as client:
        assert client.post("/other/crimson").json() == 1
        client.put("/v1/policy", json=policy(blue())).raise_for_status()
        assert names(client) == ["crimson", "blue"]
        assert names(client, owner="policy") == ["blue"]
        assert client.get("/v1/history").json()["revisions"][1]["owner"] == "other"
        assert_untouchable(client)
        client.put("/v1/policy", json=policy()).raise_for_status()
        assert names(client) == ["crimson"]


def names(client: httpx.Client, **parameters: str) -> list[str]:
    document = client.get("/v1/policy", params=parameters).json()
    return [domain["name"] for domain in document.get("routing_domains", [])]


def assert_untouchable(client: httpx.Client) -> None:
    """Assert that what another plug-in owns is kept, and that refusals name the owner."""
    whole = client.put("/v1/policy", json=policy(blue(), red()))
    assert whole.status_code == 422
    (error,) = whole.json()["errors"]
    assert error["pointer"] == "/routing_domains/1/id"
    assert "other" in error["detail"]
    for answer in (client.put(f"/v1/routing-domains/{RED}", json=red()), client.delete(f"/v1/routing-domains/{RED}")):
        assert answer.status_code == 409
        assert "other" in answer.json()["detail"]
    assert names(client) == ["crimson", "blue"]


def test_replacing_one_owners_part_leaves_the_others(gateway: LiveGateway) -> None:
    mine, theirs = RoutingDomain(id=BLUE, name="blue"), RoutingDomain(id=RED, name="red")
    gateway.transactions.replace(Terms("one"), Policy(routing_domains=(mine,)))
    gateway.transactions.replace(Terms("two"), Policy(routing_domains=(theirs,)))
    gateway.transactions.replace(Terms("one"), Policy())
    assert gateway.transactions.held.policy.routing_domains == (theirs,)
