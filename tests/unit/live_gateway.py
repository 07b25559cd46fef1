"""A gateway's service as it runs, on a real socket and a real store, over a programmer that only keeps notes.

Run as a program, it serves until it is killed: live_gateway.py STATE_DIRECTORY PORT; "ready" on stdout tells when.
"""

import ssl
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from gateway.api import application
from gateway.api.machine import Counters, DomainCounters, Fill, PortState, Traffic
from gateway.api.secrets import admin_token, server_certificate
from gateway.api.server import listen, serve, server
from gateway.api.services import DomainServices, Member, Pool, Serving
from gateway.compartments.specification import Compartment
from gateway.configuration import Api, GatewayConfiguration, Plugins, Port
from gateway.datapath.model.question import Question
from gateway.explanation import explanation
from gateway.policy.balancing import PoolMember
from gateway.policy.internet import INTERNET
from gateway.policy.model import Policy, RoutingDomain
from gateway.transactions import Transactions
from gateway.underlay.hop import Hop
from gateway.underlay.network import Link
from lb.pools import Choice, PoolState
from plugins.contract import load
from vpn.kernel import Backend
from vpn.status import ConnectionStatus, LastError, LogLine, State

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
        blue = DomainCounters({"overlay_to_external": Traffic(7, 700)}, {"no_route": 3}, Fill(5, 256, "entries"), 11)
        internet = DomainCounters({}, {"vip_not_served": 2})
        return Counters({BLUE: blue, INTERNET: internet}, {"unknown_vsid": 1}, {"tables": Fill(1024, 4096, "bytes")})

    def unresolved(self) -> list[str]:
        return ["192.168.1.99"]

    def faults(self) -> list[str]:
        return []

    def explain(self, policy: Policy, question: Question, serving: Serving) -> dict[str, Any]:
        hop = Hop("eth1", 1, 0, "192.168.6.2", b"\x02\0\0\0\0\x11", b"\x02\0\0\0\0\x12", 1600)
        links = {f"eth{at}": Link(f"eth{at}", at, bytes([2, 0, 0, 0, 0, at]), 1600, True) for at in (1, 2)}
        return explanation(question, policy, self.configuration, links, {"192.168.1.10": hop}, serving)


@dataclass
class StillServices:
    """Load balancers and tunnels on which nothing moves: members are as policy says, tunnels down until `up`.

    `unattended`: tunnels that nothing looks after.
    """

    fault: str | None = None
    states: dict[tuple[str, str], State] = field(default_factory=dict)
    unattended: set[str] = field(default_factory=set)
    pools: dict[str, Mapping[Choice, PoolState]] = field(default_factory=dict)
    compartments: dict[str, Compartment] = field(default_factory=dict)

    def ipsec(self) -> Backend:
        return Backend(False, "this kernel has ESP")

    def faults(self) -> list[str]:
        return []

    def report(self, domains: Iterable[RoutingDomain]) -> dict[str, DomainServices]:
        return {domain.id: self._of(domain) for domain in domains}

    def serving(self, domains: Iterable[RoutingDomain]) -> Serving:
        tunnels = {(one.id, each.name): each for one in domains for each in self._of(one).tunnels}
        return Serving(self.pools, self.compartments, tunnels)

    def up(self, domain_id: str, tunnel: str) -> ConnectionStatus:
        return self._set(domain_id, tunnel, "connected")

    def down(self, domain_id: str, tunnel: str) -> ConnectionStatus:
        return self._set(domain_id, tunnel, "down")

    def log(self, domain_id: str, tunnel: str) -> list[LogLine]:
        self._known(tunnel)
        return [LogLine(1.5, f"initiating IKE_SA {tunnel}")]

    def _of(self, domain: RoutingDomain) -> DomainServices:
        pools = tuple(
            Pool(balancer.name, pool.name, rule.probe, tuple(map(_member, pool.members)))
            for balancer in domain.load_balancers
            for rule in balancer.rules
            for pool in balancer.backend_pools
            if pool.name == rule.pool
        )
        tunnels = tuple(self._status(domain.id, one.name) for one in domain.ipsec_connections())
        return DomainServices(pools, tunnels, self.fault)

    def _set(self, domain_id: str, tunnel: str, state: State) -> ConnectionStatus:
        self._known(tunnel)
        self.states[domain_id, tunnel] = state
        return self._status(domain_id, tunnel)

    def _known(self, tunnel: str) -> None:
        if tunnel in self.unattended:
            raise KeyError(tunnel)

    def _status(self, domain_id: str, tunnel: str) -> ConnectionStatus:
        state = self.states.get((domain_id, tunnel), "connecting")
        error = LastError("silent", "the peer 198.51.100.20 does not answer", 2.0)
        counted = {"mtu": 1438, "bytes_in": 700, "bytes_out": 1400, "esp_rekeys": 2}
        return ConnectionStatus(
            tunnel, state, f"{state} since 1970", "198.51.100.20", since=1.0, last_error=error, **counted
        )


def _member(member: PoolMember) -> Member:
    return Member(member.customer_address, member.weight, member.state, "healthy", 3.0, "ok", "ok")


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
    services: StillServices

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
    state_dir: Path,
    plugins: tuple[str, ...] = ("policy",),
    ports: tuple[Port, ...] = CONFIGURED_PORTS,
    forwarding: tuple[str, ...] = (),
) -> Iterator[LiveGateway]:
    """Serve in a thread of this process. `forwarding`: what the datapath holds before."""
    listener = listen("127.0.0.1:0")
    port = listener.getsockname()[1]
    settings = configuration(state_dir, port, plugins, ports)
    programmer = RecordingProgrammer()
    transactions = Transactions(state_dir / "policy.sqlite", programmer, settings.ports_by_name())
    transactions.start(forwarding)
    token = admin_token(state_dir)
    services = StillServices()
    api = application.create(transactions, StillMachine(settings), services, load(settings.plugins.enabled), token)
    ready = threading.Event()
    serving = server(api, server_certificate(state_dir, ()), ready.set)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert ready.wait(30)
        yield LiveGateway(f"https://127.0.0.1:{port}", token, state_dir, transactions, programmer, services)
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
    plugins = load(settings.plugins.enabled)
    api = application.create(transactions, StillMachine(settings), StillServices(), plugins, token)
    listener = listen(settings.api.listen)
    files = server_certificate(state_dir, ())
    serve(server(api, files, lambda: print("ready", listener.getsockname()[1], flush=True)), listener)
    transactions.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
