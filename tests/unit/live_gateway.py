"""A gateway's service as it runs, on a real socket and a real store, over a programmer that only keeps notes.

Run as a program, it serves until it is killed: live_gateway.py STATE_DIRECTORY PORT; "ready" on stdout tells when.
"""

import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from gateway.api import application
from gateway.api.machine import Counters, DomainCounters, Fill, PortState, Traffic
from gateway.api.secrets import admin_token, server_certificate
from gateway.api.server import listen, serve, server
from gateway.configuration import Api, GatewayConfiguration, Plugins, Port
from gateway.datapath.model.question import Question
from gateway.explanation import explanation
from gateway.policy.model import Policy
from gateway.transactions import Transactions
from gateway.underlay.hop import Hop
from gateway.underlay.network import Link
from plugins.contract import load

BLUE = "11111111-2222-3333-4444-000000000001"
RED = "11111111-2222-3333-4444-000000000002"


@dataclass
class RecordingProgrammer:
    """Notes what it is given to program. `errors` are its answers; clear `open` to hold it up."""

    calls: list[tuple[str, Policy]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    failure: Exception | None = None
    open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def apply(self, policy: Policy) -> dict[str, str]:
        return self._note("all", policy)

    def apply_domain(self, policy: Policy, domain_id: str) -> dict[str, str]:
        return self._note(domain_id, policy)

    def _note(self, what: str, policy: Policy) -> dict[str, str]:
        assert self.open.wait(30)
        self.calls.append((what, policy))
        if self.failure:
            raise self.failure
        return {at: why for at, why in self.errors.items() if what in ("all", at)}


@dataclass(frozen=True)
class StillMachine:
    """A machine on which nothing moves, with fixed counters."""

    configuration: GatewayConfiguration
    name: str = "gateway1"

    def ports(self) -> list[PortState]:
        return [PortState(port.name, port.role, port.interface, port.vlan, "attached") for port in CONFIGURED_PORTS]

    def counters(self) -> Counters:
        blue = DomainCounters({"overlay_to_external": Traffic(7, 700)}, {"no_route": 3})
        return Counters({BLUE: blue}, {"unknown_vsid": 1}, {"tables": Fill(1024, 4096, "bytes")})

    def unresolved(self) -> list[str]:
        return ["192.168.1.99"]

    def faults(self) -> list[str]:
        return []

    def explain(self, policy: Policy, question: Question) -> dict[str, Any]:
        hop = Hop("eth1", 1, 0, "192.168.6.2", b"\x02\0\0\0\0\x11", b"\x02\0\0\0\0\x12", 1600)
        links = {f"eth{at}": Link(f"eth{at}", at, bytes([2, 0, 0, 0, 0, at]), 1600, True) for at in (1, 2)}
        return explanation(question, policy, self.configuration, links, {"192.168.1.10": hop})


CONFIGURED_PORTS = (
    Port(name="provider", role="provider", interface="eth1", addresses=("192.168.6.2/24",)),
    Port(name="corpnet", role="external", interface="eth2"),
    Port(
        name="internet", role="external", interface="eth3", addresses=("203.0.113.1/24",), gateways=("203.0.113.254",)
    ),
)


@dataclass(frozen=True)
class LiveGateway:
    """A served gateway and what a client needs to reach it."""

    url: str
    token: str
    state_dir: Path
    transactions: Transactions
    programmer: RecordingProgrammer

    @contextmanager
    def client(self, **options: Any) -> Iterator[httpx.Client]:
        headers = {"Authorization": f"Bearer {self.token}"} | options.pop("headers", {})
        with client(self.url, self.state_dir, headers=headers, **options) as connected:
            yield connected


def client(url: str, state_dir: Path, **options: Any) -> httpx.Client:
    trust = ssl.create_default_context(cafile=str(state_dir / "tls" / "ca.pem"))
    return httpx.Client(base_url=url, verify=trust, timeout=60, trust_env=False, **options)


def configuration(
    state_dir: Path,
    port: int,
    plugins: tuple[str, ...] = ("policy",),
    ports: tuple[Port, ...] = CONFIGURED_PORTS,
) -> GatewayConfiguration:
    return GatewayConfiguration(
        name="gateway1",
        state_dir=state_dir,
        api=Api(listen=f"127.0.0.1:{port}"),
        plugins=Plugins(enabled=plugins),
        ports=ports,
    )


@contextmanager
def running_gateway(
    state_dir: Path, plugins: tuple[str, ...] = ("policy",), ports: tuple[Port, ...] = CONFIGURED_PORTS
) -> Iterator[LiveGateway]:
    """Serve in a thread of this process."""
    listener = listen("127.0.0.1:0")
    port = listener.getsockname()[1]
    settings = configuration(state_dir, port, plugins, ports)
    programmer = RecordingProgrammer()
    transactions = Transactions(state_dir / "policy.sqlite", programmer, settings.ports_by_name())
    transactions.start()
    token = admin_token(state_dir)
    api = application.create(transactions, StillMachine(settings), load(settings.plugins.enabled), token)
    ready = threading.Event()
    serving = server(api, server_certificate(state_dir, ()), ready.set)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert ready.wait(30)
        yield LiveGateway(f"https://127.0.0.1:{port}", token, state_dir, transactions, programmer)
    finally:
        programmer.open.set()
        serving.should_exit = True
        thread.join()
        transactions.stop()


def main(state_dir: Path, port: int) -> None:
    settings = configuration(state_dir, port)
    transactions = Transactions(state_dir / "policy.sqlite", RecordingProgrammer(), settings.ports_by_name())
    transactions.start()
    token = admin_token(state_dir)
    api = application.create(transactions, StillMachine(settings), load(settings.plugins.enabled), token)
    listener = listen(settings.api.listen)
    serve(
        api, listener, server_certificate(state_dir, ()), lambda: print("ready", listener.getsockname()[1], flush=True)
    )
    transactions.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
