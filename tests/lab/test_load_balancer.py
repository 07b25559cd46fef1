"""Public addresses of two tenants, and an internal one that both have: who answers, and what is seen on the way."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from deploy.lab import namespaces, probes
from deploy.lab.processes import wait_until
from deploy.lab.programs import await_word, running
from deploy.lab.running import RunningLab

BLUE, RED = "198.51.100.80", "198.51.100.81"
BLUE_V6 = "2001:db8:100::80"
SHARED = "198.51.100.85"
TIER, TIER_V6 = "10.1.5.100", "fd00:6::100"
OUTSIDE = "203.0.113.10"
FAR = "203.0.113.130"
MEGABYTE = 1 << 20
SERVERS = {
    BLUE: {f"blue BlueVM{number}" for number in (1, 2, 3, 4)},
    RED: {f"red RedVM{number}" for number in (1, 2)},
    BLUE_V6: {f"blue BlueVM{number}" for number in (1, 2)},
}


def clients_of(lab: RunningLab, server: str) -> set[str]:
    """Return the addresses that a web server was asked from."""
    lines = lab.processes.log(f"{server}-http").read_text().splitlines()
    return {line.split()[0].removeprefix("::ffff:") for line in lines if "GET" in line}


@pytest.fixture
def far_client(load_balancer: RunningLab) -> Iterator[str]:
    """A client behind a link of the Internet with a small MTU, of which only the router before it knows."""
    lab, node = load_balancer, "far"
    namespaces.create(lab.namespace(node))
    try:
        lab.connect(node, "eth0", "internet", "far")
        namespaces.set_sysctls(lab.namespace("internet"), ipv4__ip_forward=1)
        lab.configure("internet", "addr add 203.0.113.129/25 dev far")
        lab.configure("internet", f"route add {FAR}/32 dev far mtu lock 1280")
        lab.configure(node, f"addr add {FAR}/25 dev eth0", "route add default via 203.0.113.129")
        yield node
    finally:
        namespaces.remove(lab.namespace(node))


def test_each_public_address_leads_to_all_members_of_its_tenant_at_the_same_time(
    load_balancer: RunningLab, at_once: Callable[..., list[set[str | None]]]
) -> None:
    ways = (BLUE, RED)
    found = at_once(*(partial(probes.servers, load_balancer, "internet", way, SERVERS[way]) for way in ways))
    assert found == [SERVERS[way] for way in ways]


def test_an_ipv6_address_leads_to_the_members_that_have_ipv6(load_balancer: RunningLab) -> None:
    assert probes.servers(load_balancer, "internet", BLUE_V6, SERVERS[BLUE_V6]) == SERVERS[BLUE_V6]


def test_members_see_the_clients_own_address(load_balancer: RunningLab) -> None:
    load_balancer.run("internet", "curl", "-sS", "--interface", OUTSIDE, f"http://{BLUE}/")
    asked = set().union(*(clients_of(load_balancer, server.split()[1]) for server in SERVERS[BLUE]))
    assert OUTSIDE in asked
    assert BLUE not in asked


def test_the_equal_internal_address_leads_each_tenant_to_its_own_second_tier(
    load_balancer: RunningLab, at_once: Callable[..., list[set[str | None]]]
) -> None:
    tiers = {"BlueVM11": {"blue BlueVM21", "blue BlueVM22"}, "RedVM11": {"red RedVM21", "red RedVM22"}}
    found = at_once(*(partial(probes.servers, load_balancer, node, TIER, tier) for node, tier in tiers.items()))
    assert found == list(tiers.values())


@pytest.mark.parametrize(("address", "servers"), [(TIER, SERVERS[BLUE]), (TIER_V6, SERVERS[BLUE_V6])])
def test_a_member_reaches_its_own_pool_itself_included(
    load_balancer: RunningLab, address: str, servers: set[str]
) -> None:
    for node in ("BlueVM1", "BlueVM2"):
        assert probes.servers(load_balancer, node, address, servers, 8080) == servers


@pytest.mark.parametrize(
    ("node", "address"),
    [("internet", BLUE), ("internet", BLUE_V6), ("internet", RED), ("BlueVM11", TIER), ("RedVM11", TIER)],
)
def test_virtual_addresses_answer_ping(load_balancer: RunningLab, node: str, address: str) -> None:
    assert probes.pings(load_balancer, node, address)


def test_a_port_without_a_rule_is_a_named_drop(load_balancer: RunningLab) -> None:
    before = probes.drops(load_balancer, "blue", "vip_not_served")
    assert probes.page(load_balancer, "internet", BLUE, port=81, seconds=1) is None
    assert probes.drops(load_balancer, "blue", "vip_not_served") > before


def test_probes_pass_access_lists_and_find_every_member_healthy(load_balancer: RunningLab) -> None:
    """Red's list denies what comes from inside, where its probes come from."""

    def all_healthy() -> bool:
        pools = [("blue", "tier1"), ("blue", "tier1-v6"), ("blue", "tier2"), ("red", "tier1"), ("red", "tier2")]
        return all(status == "healthy" for pool in pools for _, status in probes.members(load_balancer, *pool).values())

    wait_until(all_healthy, "all members are healthy")
    assert "10.1.5.254" in clients_of(load_balancer, "RedVM1")


def test_an_inbound_nat_rule_leads_to_one_machine(load_balancer: RunningLab) -> None:
    assert probes.servers(load_balancer, "internet", BLUE, {"blue BlueVM1"}, 8001) == {"blue BlueVM1"}


def test_a_public_address_of_a_machine_is_its_own_both_ways(load_balancer: RunningLab) -> None:
    assert probes.page(load_balancer, "internet", "198.51.100.90") == "blue BlueVM11"
    assert probes.page(load_balancer, "BlueVM11", OUTSIDE) == "internet internet"
    assert "198.51.100.90" in clients_of(load_balancer, "internet")
    assert probes.pings(load_balancer, "BlueVM11", OUTSIDE)


def test_machines_reach_the_outside_from_the_shared_address(load_balancer: RunningLab) -> None:
    for node in ("RedVM1", "RedVM2", "RedVM11"):
        assert probes.page(load_balancer, node, OUTSIDE) == "internet internet"
        assert probes.pings(load_balancer, node, OUTSIDE)
    assert RED in clients_of(load_balancer, "internet")


def test_equal_machines_of_two_tenants_reach_the_outside_from_one_address(
    load_balancer: RunningLab, at_once: Callable[..., list[str | None]]
) -> None:
    nodes = [f"{tenant}VM{number}" for tenant in ("Blue", "Red") for number in (21, 22)] * 3
    pages = at_once(*(partial(probes.page, load_balancer, node, OUTSIDE) for node in nodes))
    assert pages == ["internet internet"] * len(nodes)
    assert all(probes.pings(load_balancer, node, OUTSIDE) for node in nodes[:4])
    assert SHARED in clients_of(load_balancer, "internet")
    assert not any(address.startswith("10.") for address in clients_of(load_balancer, "internet"))


def test_machines_reach_public_addresses_of_both_tenants_as_clients_of_the_internet_do(
    load_balancer: RunningLab, at_once: Callable[..., list[set[str | None]]]
) -> None:
    """From a public address of their own, and from shared ones; Red's list would deny what comes from inside."""
    ways = [(node, vip) for node in ("BlueVM11", "BlueVM21", "RedVM2", "RedVM21") for vip in (BLUE, RED)]
    found = at_once(*(partial(probes.servers, load_balancer, node, vip, SERVERS[vip]) for node, vip in ways))
    assert found == [SERVERS[vip] for _, vip in ways]
    assert all(probes.pings(load_balancer, *way) for way in ways)
    asked = clients_of(load_balancer, "RedVM1") | clients_of(load_balancer, "RedVM2")
    assert asked >= {"198.51.100.90", SHARED, RED}
    assert {one for one in asked if one.startswith("10.")} == {"10.1.5.254"}, "but for the probes"


def test_machines_without_a_public_address_do_not_reach_the_outside(load_balancer: RunningLab) -> None:
    before = probes.drops(load_balancer, "blue", "no_route")
    assert probes.page(load_balancer, "BlueVM3", OUTSIDE, seconds=1) is None
    assert probes.drops(load_balancer, "blue", "no_route") > before
    assert not any(address.startswith("10.") for address in clients_of(load_balancer, "internet"))


@pytest.mark.parametrize("what", [(), ("-R",)])
def test_iperf3_runs_to_all_virtual_addresses_at_once(
    load_balancer: RunningLab, at_once: Callable[..., list[float]], what: tuple[str, ...]
) -> None:
    """At a moderate rate: faster streams fill the hosts' switch in user space, and with it the way of the probes."""
    ways = [("internet", BLUE), ("internet", RED), ("BlueVM11", TIER), ("RedVM11", TIER)]
    options = ("-b", "10M", *what)
    rates = at_once(*(partial(probes.throughput, load_balancer, node, address, 2, *options) for node, address in ways))
    assert all(rate > 5 for rate in rates), dict(zip(ways, rates, strict=True))


@pytest.mark.parametrize("length", [1000, 4000])
def test_datagrams_arrive_whole_and_in_fragments(load_balancer: RunningLab, length: int) -> None:
    """TCP and UDP of one client come to the same member, as their rules look at addresses alone."""
    sent, lost = probes.datagrams(load_balancer, "internet", BLUE, length)
    assert sent > 50
    assert lost == 0


@pytest.fixture
def answering(load_balancer: RunningLab) -> Iterator[RunningLab]:
    """A server on each machine that answers datagrams in fragments, the last one first."""
    with ExitStack() as stack:
        for machine in load_balancer.topology.machines:
            name = f"{machine.domain}-{machine.name}"
            server = stack.enter_context(running(load_balancer, machine.name, "fragments", "answer", name, "7"))
            await_word(server, "bound")
        yield load_balancer


def answers(lab: RunningLab, node: str, address: str, port: int = 7, count: int = 20) -> dict[str, int]:
    """Ask in fragments, the last one first; who answered, "" standing for nobody."""
    command = (sys.executable, "-m", "deploy.lab.fragments", "ask", address, str(port), str(count))
    found: dict[str, int] = json.loads(lab.run(node, *command, seconds=90))
    return found


def test_datagrams_whose_last_fragments_come_first_are_answered_likewise(
    answering: RunningLab, at_once: Callable[..., list[dict[str, int]]]
) -> None:
    """In both tenants with equal addresses at once, over both families, and where the source is exchanged."""
    ways = {
        ("internet", BLUE, 7): {f"blue-BlueVM{number}" for number in (1, 2, 3, 4)},
        ("internet", RED, 7): {"red-RedVM1", "red-RedVM2"},
        ("internet", BLUE_V6, 7): {"blue-BlueVM1", "blue-BlueVM2"},
        ("BlueVM11", TIER, 7): {"blue-BlueVM21", "blue-BlueVM22"},
        ("RedVM11", TIER, 7): {"red-RedVM21", "red-RedVM22"},
        ("BlueVM21", TIER, 8007): {f"blue-BlueVM{number}" for number in (1, 2, 3, 4)},
        ("BlueVM21", BLUE, 7): {f"blue-BlueVM{number}" for number in (1, 2, 3, 4)},
        ("BlueVM11", RED, 7): {"red-RedVM1", "red-RedVM2"},
    }
    assert all(probes.page(answering, "internet", address) for address in (BLUE, BLUE_V6))
    found = at_once(*(partial(answers, answering, *way) for way in ways))
    assert all(one.keys() <= servers for one, servers in zip(found, ways.values(), strict=True)), found


@pytest.mark.parametrize("payload", [56, 4000])
def test_large_echoes_leave_from_the_shared_address(load_balancer: RunningLab, payload: int) -> None:
    assert probes.pings(load_balancer, "RedVM1", OUTSIDE, payload=payload)


def put_in_order(lab: RunningLab, domain: str) -> int:
    """How many fragments of a tenant have gone to be put in order."""
    domains = probes.status(lab)["routing_domains"]
    return int(next(each["fragments_put_in_order"] for each in domains if each["name"] == domain))


def test_a_flood_of_fragments_to_one_tenant_is_bounded_and_keeps_no_other_waiting(
    answering: RunningLab, at_once: Callable[..., list[Any]]
) -> None:
    count, before = 40_000, put_in_order(answering, "red")
    flood = (sys.executable, "-m", "deploy.lab.fragments", "flood", RED, str(count))

    def flooded() -> float:
        began = time.monotonic()
        answering.run("internet", *flood, seconds=60)
        return time.monotonic() - began

    seconds, meanwhile = at_once(flooded, partial(answers, answering, "internet", BLUE))
    assert "" not in meanwhile, meanwhile
    assert 1000 <= put_in_order(answering, "red") - before <= 1000 + 4000 * seconds
    assert probes.drops(answering, "red", "fragment_unmatched") > 0
    wait_until(lambda: "" not in answers(answering, "internet", RED, count=5), "red's are put in order again")


@pytest.mark.parametrize(
    ("node", "address"), [("internet", BLUE), ("internet", BLUE_V6), ("BlueVM11", TIER), ("BlueVM21", RED)]
)
def test_a_megabyte_comes_from_behind_a_virtual_address(load_balancer: RunningLab, node: str, address: str) -> None:
    for machine in load_balancer.topology.machines:
        (load_balancer.directory / "pages" / machine.name / "big").write_text("x" * MEGABYTE)
    assert len(probes.page(load_balancer, node, address, path="big") or "") == MEGABYTE


def test_a_member_learns_the_path_mtu_of_a_client_behind_the_virtual_address(
    load_balancer: RunningLab, far_client: str
) -> None:
    """The router's packet-too-big names the virtual address; without its translation the download would hang."""
    for machine in load_balancer.topology.machines:
        (load_balancer.directory / "pages" / machine.name / "big").write_text("x" * MEGABYTE)
    assert len(probes.page(load_balancer, far_client, BLUE, path="big") or "") == MEGABYTE
    routes = [
        load_balancer.run(machine.name, "ip", "route", "get", FAR)
        for machine in load_balancer.topology.machines
        if f"{machine.domain} {machine.name}" in SERVERS[BLUE]
    ]
    assert sum(bool(re.search(r"\bmtu 1280\b", route)) for route in routes) == 1
