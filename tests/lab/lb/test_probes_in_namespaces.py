"""Probes go out from the namespace of the compartment, whatever the machines on the other side do."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gateway.compartments.entering import socket_in
from gateway.policy.balancing import Probe
from gateway.policy.model import RoutingDomain
from lb.drains import Drains
from lb.health import MemberHealth, Status
from lb.service import HealthService, ProbedDomain
from tests.unit.lb.balanced_domains import domain, pool
from tests.unit.lb.balancing_servers import Behaviour, answer, dripping, endless, reset, serving, silence

BLUE, RED = f"tgwl{os.getpid()}-blue", f"tgwl{os.getpid()}-red"
RDIDS = {BLUE: "11111111-2222-3333-4444-000000000001", RED: "11111111-2222-3333-4444-000000000002"}
NAMES = {rdid: name for name, rdid in RDIDS.items()}
SERVICE = ("10.1.6.254", "fd00:6::254")
MEMBER, MEMBER6 = "10.1.6.21", "fd00:6::21"
PORT = 8080


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True)


def make_compartment(name: str) -> None:
    """Join a compartment and its machines, in a namespace of their own, by a wire; in blue and red alike."""
    for namespace in (name, f"{name}-vms"):
        ip(f"netns add {namespace}")
        ip(f"-n {namespace} link set lo up")
    ip(f"-n {name} link add inside type veth peer name eth0 netns {name}-vms")
    for namespace, interface, addresses in ((name, "inside", SERVICE), (f"{name}-vms", "eth0", (MEMBER, MEMBER6))):
        ip(f"-n {namespace} addr add {addresses[0]}/24 dev {interface}")
        ip(f"-n {namespace} addr add {addresses[1]}/64 dev {interface} nodad")
        ip(f"-n {namespace} link set {interface} up")


def remove_compartment(name: str) -> None:
    for namespace in (name, f"{name}-vms"):
        subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


@pytest.fixture
def compartments() -> Iterator[None]:
    if os.geteuid():
        pytest.skip("network namespaces need root")
    try:
        make_compartment(BLUE)
        make_compartment(RED)
        yield
    finally:
        remove_compartment(BLUE)
        remove_compartment(RED)


def path(namespace: str) -> str:
    return f"/run/netns/{namespace}"


def machine(name: str, behaviour: Behaviour, address: str = MEMBER) -> AbstractContextManager[int]:
    make = partial(socket_in, path(f"{name}-vms"), kind=socket.SOCK_STREAM)
    return serving(behaviour, address, PORT, lambda family: make(family=family))


def policy(name: str, *members: str) -> RoutingDomain:
    probe = Probe("http", "http", PORT, interval_s=1, timeout_s=1, rise=1, fall=1)
    return domain(pool("web", *members), probes=(probe,), rules="web/http", rdid=RDIDS[name])


@contextmanager
def probing(*domains: RoutingDomain) -> Iterator[HealthService]:
    with TemporaryDirectory() as directory:
        service = HealthService(lambda _: None, Drains(Path(directory) / "drains.json"))
        service.reconcile({one.id: ProbedDomain(one, path(NAMES[one.id]), SERVICE) for one in domains})
        try:
            yield service
        finally:
            service.close()


def health(service: HealthService, name: str, member: str = MEMBER) -> MemberHealth:
    (members,) = service.health()[RDIDS[name]].values()
    return next(one for one in members if one.customer_address == member)


def found(
    service: HealthService, name: str, words: str | tuple[str, ...], member: str = MEMBER, streak: int = 0
) -> MemberHealth:
    """Wait, a few seconds at most, until the last probe of a member, or so many in a row, found these words first."""
    deadline = time.monotonic() + 8
    while not (known := health(service, name, member)).latest.startswith(words) or abs(known.streak) < streak:
        assert time.monotonic() < deadline, f"still {known}"
        time.sleep(0.02)
    return known


def test_each_domain_is_probed_in_its_own_network_from_its_service_address(compartments: None) -> None:
    """Blue and red have the same addresses; only blue's machine is well."""
    sources = []

    def note(connection: socket.socket, ended: object) -> None:
        sources.append(connection.getpeername()[0])
        answer(b"")(connection, ended)

    with (
        machine(BLUE, note),
        machine(BLUE, note, MEMBER6),
        machine(RED, answer(b"", "503 Service Unavailable")),
        probing(policy(BLUE, MEMBER, MEMBER6), policy(RED, MEMBER, MEMBER6)) as service,
    ):
        found(service, BLUE, "ok")
        found(service, BLUE, "ok", MEMBER6)
        found(service, RED, "status 503, expected 200")
        found(service, RED, "refused", MEMBER6)
    assert set(sources) == set(SERVICE)


UNRULY: dict[str, tuple[Behaviour, str]] = {
    "10.1.6.31": (answer(b"Location: http://10.1.6.21:8080/\r\n", "302 Found"), "status 302, expected 200"),
    "10.1.6.32": (reset, "reset"),
    "10.1.6.33": (silence, "timed out"),
    "10.1.6.34": (dripping(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 900, 0.01), "timed out"),
    "10.1.6.35": (endless(b"HTTP/1.1 200 OK\r\n", b"X-More: header\r\n"), "no HTTP answer: "),
    "10.1.6.36": (endless(b"HTTP/1.1 200 OK\r\n\r\n", b"body"), "ok"),
}


def test_no_machine_holds_up_its_own_probe_or_that_of_another(compartments: None) -> None:
    with ExitStack() as servers:
        for address, (behaviour, _) in UNRULY.items():
            ip(f"-n {BLUE}-vms addr add {address}/24 dev eth0")
            servers.enter_context(machine(BLUE, behaviour, address))
        servers.enter_context(machine(BLUE, answer(b"")))
        servers.enter_context(machine(RED, answer(b"")))
        service = servers.enter_context(probing(policy(BLUE, MEMBER, *UNRULY), policy(RED, MEMBER)))
        for address, (_, words) in UNRULY.items():
            found(service, BLUE, words, address)
        firsts = {name: found(service, name, "ok") for name in (BLUE, RED)}
        for name, first in firsts.items():
            found(service, name, "ok", streak=first.streak + 2)


def test_a_machine_that_is_gone_is_unreachable_or_times_out(compartments: None) -> None:
    ip(f"-n {BLUE}-vms link set eth0 down")
    with probing(policy(BLUE, MEMBER)) as service:
        assert found(service, BLUE, ("unreachable", "timed out")).status is Status.UNHEALTHY


def test_a_compartment_that_is_not_there_is_no_verdict_and_probing_goes_on_when_it_is_made_anew(
    compartments: None,
) -> None:
    remove_compartment(BLUE)
    with probing(policy(BLUE, MEMBER)) as service:
        assert found(service, BLUE, "not probed: [Errno 2]").status is Status.UNKNOWN
        make_compartment(BLUE)
        with machine(BLUE, answer(b"")):
            assert found(service, BLUE, "ok").status is Status.HEALTHY


def test_the_prober_does_not_stay_in_a_compartment_and_keep_it_alive(compartments: None) -> None:
    with machine(BLUE, answer(b"")), probing(policy(BLUE, MEMBER)) as service:
        found(service, BLUE, "ok")
        homes = {(task / "ns/net").readlink() for task in Path("/proc/self/task").iterdir()}
        assert homes == {Path("/proc/self/ns/net").readlink()}


def test_an_address_that_the_compartment_does_not_have_is_no_verdict(compartments: None) -> None:
    ip(f"-n {BLUE} addr flush dev inside")
    with probing(policy(BLUE, MEMBER)) as service:
        assert found(service, BLUE, "not probed: [Errno 99]").status is Status.UNKNOWN
