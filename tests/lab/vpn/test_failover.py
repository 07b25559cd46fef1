"""Two sites with the same prefixes: the tunnel of the lower metric carries, and the other one when it is gone."""

import time
from pathlib import Path

import pytest
from vpn_capture import capture_in_clear
from vpn_rig import SERVER, SITE, VM, Domain, Rig, Site, connection, swanctl, until

from gateway.compartments.entering import run_in
from gateway.policy.model import ConnectionRoute, TrafficSelectors

PEERS = {"first": "203.0.113.20", "second": "203.0.113.30"}
METRICS = {"first": 10, "second": 20}
LONGEST_FAILOVER_S = 15.0  # a peer that is silent is asked four times, then given up


@pytest.fixture
def domain(rig: Rig) -> Domain:
    """A domain with two sites at whose tunnels' ends are the same servers; the first one carries."""
    domain = rig.add_domain("red", "198.51.100.10")
    for name, peer in PEERS.items():
        routes = tuple(ConnectionRoute(prefix, metric=METRICS[name]) for prefix in SITE)
        wanted = connection(domain, peer, name=name, remote_id=f"{name}.red.example", routes=routes)
        domain.connections = (*domain.connections, wanted)
        rig.add_site(name, peer).start(swanctl(wanted))
    rig.reconcile()
    until(lambda: seen_at(rig, domain) == {"first": 6, "second": 0}, "the first does not carry")
    until(lambda: rig.status(domain, "second").state in ("connected", "standby"), "the second is neither up nor waits")
    return domain


def test_a_site_that_is_cut_off_is_replaced_by_the_other_and_takes_over_again(rig: Rig, domain: Domain) -> None:
    with capture_in_clear(rig, domain) as captured:
        began = time.monotonic()
        cut(rig, "add")
        until(lambda: seen_at(rig, domain) == {"first": 0, "second": 6}, "traffic did not move to the second site")
        gap = time.monotonic() - began
        cut(rig, "del")
        until(lambda: seen_at(rig, domain) == {"first": 6, "second": 0}, "traffic did not move back")
    print(f"traffic had moved to the second site {gap:.1f} s after the first was cut off")
    assert gap < LONGEST_FAILOVER_S
    assert captured.packets == []


def test_a_tunnel_that_is_taken_down_is_replaced_at_once(rig: Rig, domain: Domain) -> None:
    rig.service.down("red", "first")
    until(lambda: seen_at(rig, domain) == {"first": 0, "second": 6}, "the second does not carry")
    rig.service.up("red", "first", 10)
    until(lambda: seen_at(rig, domain) == {"first": 6, "second": 0}, "the first does not carry again")


def test_with_both_down_nothing_is_carried(rig: Rig, domain: Domain) -> None:
    rig.service.down("red", "first")
    rig.connected(domain, "second")
    rig.service.down("red", "second")
    assert seen_at(rig, domain) == {"first": 0, "second": 0}


def test_where_the_kernel_has_no_esp_the_second_waits_and_says_why(rig: Rig, domain: Domain) -> None:
    status = rig.status(domain, "second")
    if rig.service.backend.in_user_space:
        assert status.state == "standby"
        assert "stands by for first" in status.text
        assert "their selectors cannot be told apart" in status.text
    else:
        assert status.state == "connected"


def test_what_is_behind_a_tunnel_that_is_down_does_not_go_by_a_wider_one(rig: Rig) -> None:
    domain = rig.add_domain("red", "198.51.100.10")
    for (name, peer), prefix in zip(PEERS.items(), ("10.2.0.0/24", "10.0.0.0/8"), strict=True):
        routes = (ConnectionRoute(prefix),)
        wanted = connection(
            domain, peer, name=name, remote_id=f"{name}.red.example", traffic_selectors=None, routes=routes
        )
        domain.connections = (*domain.connections, wanted)
        rig.add_site(name, peer).start(swanctl(wanted, local_ts=prefix, remote_ts="10.1.1.0/24"))
    rig.reconcile()
    for name in PEERS:
        rig.connected(domain, name)
    until(lambda: seen_at(rig, domain) == {"first": 3, "second": 0}, "the first does not carry")
    rig.service.down("red", "first")
    assert seen_at(rig, domain) == {"first": 0, "second": 0}
    rig.service.up("red", "first", 10)
    until(lambda: seen_at(rig, domain) == {"first": 3, "second": 0}, "the first does not carry again")


def test_two_tunnels_to_one_prefix_carry_each_what_comes_from_its_own_sources(rig: Rig) -> None:
    domain = rig.add_domain("red", "198.51.100.10")
    sources = {"first": VM[0], "second": "10.1.1.200"}
    domain.vm.ip(f"addr add {sources['second']}/32 dev eth0")
    for (name, peer), cloud in zip(PEERS.items(), ("10.1.1.0/25", "10.1.1.128/25"), strict=True):
        selectors, routes = TrafficSelectors((cloud,), SITE[:1]), (ConnectionRoute(SITE[0]),)
        wanted = connection(
            domain, peer, name=name, remote_id=f"{name}.red.example", traffic_selectors=selectors, routes=routes
        )
        domain.connections = (*domain.connections, wanted)
        rig.add_site(name, peer).start(swanctl(wanted, local_ts=SITE[0], remote_ts=cloud))
    rig.reconcile()
    for name, source in sources.items():
        rig.connected(domain, name)
        until(lambda: domain.vm.replies(SERVER[0], 1, source), f"{name} does not carry")  # noqa: B023
    with capture_in_clear(rig, domain) as captured:
        before = {name: rig.status(domain, name).packets_out for name in PEERS}
        assert domain.vm.replies(SERVER[0], 3, sources["first"]) == 3
        assert domain.vm.replies(SERVER[0], 5, sources["second"]) == 5
        after = {name: rig.status(domain, name).packets_out for name in PEERS}
        assert {name: after[name] - before[name] for name in PEERS} == {"first": 3, "second": 5}
        rig.service.down("red", "first")
        assert domain.vm.replies(SERVER[0], 3, sources["first"]) == 0
        assert domain.vm.replies(SERVER[0], 3, sources["second"]) == 3
    assert captured.packets == []


def cut(rig: Rig, act: str) -> None:
    """Add or delete what cuts the first site off from the Internet."""
    for direction in ("from", "to"):
        rig.internet.ip(f"rule {act} pref 10 {direction} {PEERS['first']} blackhole")


def seen_at(rig: Rig, domain: Domain) -> dict[str, int]:
    """Ping three times in each family; return how many requests came to each site."""
    before = [echo_requests(site) for site in rig.sites]
    for server in SERVER:
        domain.vm.replies(server)
    after = [echo_requests(site) for site in rig.sites]
    return {name: now - then for name, now, then in zip(PEERS, after, before, strict=True)}


def echo_requests(site: Site) -> int:
    """Return how many a site has received, of both families."""
    path = site.namespace.path
    ipv4, ipv6 = (run_in(path, Path(f"/proc/thread-self/net/{name}").read_text) for name in ("snmp", "snmp6"))
    names, values = (line.split() for line in ipv4.splitlines() if line.startswith("Icmp:"))
    of_ipv6 = dict(line.split() for line in ipv6.splitlines())
    return int(values[names.index("InEchos")]) + int(of_ipv6["Icmp6InEchos"])
