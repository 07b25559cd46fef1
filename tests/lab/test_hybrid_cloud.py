"""A web server moved to the cloud, its tenant's premises at the other end of a tunnel, and another tenant like it."""

import json
from collections.abc import Callable
from functools import partial

import pytest

from deploy.lab import faults, gateway, main, probes
from deploy.lab.offices import Router
from deploy.lab.processes import wait_until
from deploy.lab.recording import recorded
from deploy.lab.running import RunningLab

WEB, APP, SQL, DNS, OFFICE, BRANCH = "10.1.1.11", "10.1.6.21", "10.1.1.12", "10.1.1.53", "10.2.0.10", "10.3.0.10"
MARKER = "how-much-is-the-fish"
MEGABYTE = 1 << 20
IN_CLEAR = "ip and not esp and not udp port 500 and not udp port 4500 and not icmp[icmptype] == icmp-unreach"


@pytest.fixture(autouse=True)
def tunnels_are_up(hybrid_cloud: RunningLab) -> None:
    probes.await_tunnels(hybrid_cloud)


def router(lab: RunningLab, name: str) -> Router:
    return Router(lab, next(office for office in lab.topology.offices if office.name == name))


def test_no_packet_of_ikes_was_lost_to_ask_where_the_next_hop_is(hybrid_cloud: RunningLab) -> None:
    assert "resolving" not in probes.status(hybrid_cloud)["internet"]["drops"]


@pytest.mark.parametrize(
    ("domain", "name", "ike", "esp"),
    [
        ("red", "headquarters", "ECP_256", "AES_GCM_16"),
        ("red", "branch", "ECP_256", "AES_GCM_16"),
        ("blue", "headquarters", "MODP_2048", "AES_CBC"),
    ],
)
def test_status_names_the_suites_that_were_negotiated(
    hybrid_cloud: RunningLab, domain: str, name: str, ike: str, esp: str
) -> None:
    found = probes.tunnel(hybrid_cloud, domain, name)
    assert ike in found["ike_suite"]
    assert esp in found["esp_suite"]


@pytest.mark.parametrize(("tenant", "name"), [("red", "Red"), ("blue", "Blue")])
def test_a_moved_web_server_keeps_its_dns_server_and_its_database(
    hybrid_cloud: RunningLab, tenant: str, name: str
) -> None:
    """Both stayed on premises, in what was the web server's own subnet."""
    assert probes.resolve(hybrid_cloud, f"{name}Web", f"sql.{tenant}.example", DNS) == SQL
    assert probes.query(hybrid_cloud, f"{name}Web", SQL, "price") == f"{tenant} price for {WEB}"


def test_both_tenants_reach_their_own_premises_and_are_reached_at_the_same_time(
    hybrid_cloud: RunningLab, at_once: Callable[..., list[str]]
) -> None:
    ways = {
        ("RedWeb", SQL): "red red-hq-server",
        ("BlueWeb", SQL): "blue blue-hq-server",
        ("RedApp", OFFICE): "red red-hq-server",
        ("BlueApp", OFFICE): "blue blue-hq-server",
        ("RedWeb", BRANCH): "red red-branch-server",
        ("red-hq-server", WEB): "red RedWeb",
        ("blue-hq-server", WEB): "blue BlueWeb",
        ("red-hq-server", APP): "red RedApp",
        ("red-branch-server", APP): "red RedApp",
        ("red-branch-server", WEB): "red RedWeb",
    }
    assert at_once(*(partial(probes.page, hybrid_cloud, *way) for way in ways)) == list(ways.values())


def test_explain_tells_where_tunnels_lead_and_where_packets_end_while_one_is_down(hybrid_cloud: RunningLab) -> None:
    asked = ("explain", "--json", "--vsid", "5001", "--source", WEB, "--destination", BRANCH)

    def told() -> list[str]:
        return [step["words"] for step in json.loads(gateway.tgw(hybrid_cloud, *asked))["steps"]]

    to_branch = f"{BRANCH} lies in 10.3.0.0/24, behind the tunnel branch: to the compartment of red."
    assert to_branch in told()
    assert told()[-1] == "It is forwarded."
    gateway.tgw(hybrid_cloud, "vpn", "down", "red/branch")
    try:
        assert to_branch in told()
        assert told()[-1] == "It is forwarded to the compartment, which drops it."
        assert probes.page(hybrid_cloud, "RedWeb", BRANCH, seconds=1) is None
    finally:
        gateway.tgw(hybrid_cloud, "vpn", "up", "red/branch")


def test_premises_that_only_red_has_are_none_of_blues(hybrid_cloud: RunningLab) -> None:
    assert probes.page(hybrid_cloud, "BlueWeb", BRANCH, seconds=1) is None


def test_traceroute_shows_the_hops_that_the_move_added(hybrid_cloud: RunningLab) -> None:
    """The gateway's router, its end of the tunnel, and the router on premises by one of its addresses there."""
    gateway, end, premises, server = probes.routers(hybrid_cloud, "RedWeb", SQL)
    assert (gateway, end, server) == ("10.1.1.1", "10.1.1.254", SQL)
    assert premises in ("10.1.1.1", "10.2.0.1")


def test_the_internet_sees_ike_and_esp_and_no_word_of_a_tenant(hybrid_cloud: RunningLab) -> None:
    with recorded(hybrid_cloud, "internet") as outside, recorded(hybrid_cloud, "red-hq", "eth1") as inside:
        assert probes.query(hybrid_cloud, "RedWeb", SQL, MARKER)
        assert probes.query(hybrid_cloud, "BlueWeb", SQL, MARKER)
        assert probes.page(hybrid_cloud, "red-hq-server", WEB, path=f"?{MARKER}") == "red RedWeb"
    assert inside.holds(MARKER)
    assert not outside.holds(MARKER)
    assert outside.packets("esp or udp port 4500")
    assert outside.packets(IN_CLEAR) == []


@pytest.mark.parametrize(("node", "address"), [("RedWeb", SQL), ("red-hq-server", WEB), ("BlueApp", OFFICE)])
def test_a_megabyte_crosses_a_tunnel(hybrid_cloud: RunningLab, node: str, address: str) -> None:
    for server in hybrid_cloud.topology.servers():
        (hybrid_cloud.directory / "pages" / server / "big").write_text("x" * MEGABYTE)
    assert len(probes.page(hybrid_cloud, node, address, path="big", seconds=60) or "") == MEGABYTE


def test_tracepath_finds_the_mtu_that_status_shows(hybrid_cloud: RunningLab) -> None:
    found = probes.path(hybrid_cloud, "RedWeb", SQL)
    assert found.arrived
    assert found.mtu == probes.tunnel(hybrid_cloud, "red", "headquarters")["mtu"]


@pytest.mark.parametrize("fault", ["kill-charon", "wrong-key", "cut-link"])
def test_nothing_leaves_in_clear_while_a_tunnel_is_down_and_the_other_tenant_does_not_notice(
    hybrid_cloud: RunningLab, fault: str
) -> None:
    with recorded(hybrid_cloud, "internet") as outside:
        main.fault("hybrid-cloud", fault)
        try:
            assert probes.page(hybrid_cloud, "RedWeb", SQL, path=f"?{MARKER}", seconds=2) is None
            assert probes.page(hybrid_cloud, "red-hq-server", WEB, path=f"?{MARKER}", seconds=2) is None
            assert probes.page(hybrid_cloud, "BlueWeb", SQL) == "blue blue-hq-server"
            assert probes.page(hybrid_cloud, "RedWeb", BRANCH) == "red red-branch-server"
        finally:
            main.fault("hybrid-cloud", fault, undo=True)
    assert not outside.holds(MARKER)
    assert outside.packets(IN_CLEAR) == []
    probes.await_tunnels(hybrid_cloud)
    assert probes.page(hybrid_cloud, "RedWeb", SQL) == "red red-hq-server"


def test_a_tunnel_counts_as_up_when_a_router_that_restarted_has_it_too(hybrid_cloud: RunningLab) -> None:
    """Until it misses the answers (RFC 7296 section 2.4), the gateway takes its old tunnel to be connected."""
    main.fault("hybrid-cloud", "kill-charon")
    main.fault("hybrid-cloud", "kill-charon", undo=True)
    probes.await_tunnels(hybrid_cloud)
    assert probes.page(hybrid_cloud, "RedWeb", SQL) == "red red-hq-server"


def test_a_router_connects_anew_also_where_the_gateway_was_faster(hybrid_cloud: RunningLab) -> None:
    office = router(hybrid_cloud, "red-hq")
    office.close_tunnels()
    probes.await_tunnels(hybrid_cloud)
    office.connect()


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("kill-charon", "silent", "does not answer"),
        ("cut-link", "silent", "does not answer"),
        ("wrong-key", "authentication_rejected", "pre-shared key"),
        ("mismatched-proposals", "ike_proposal", "MODP_3072"),
    ],
)
def test_status_says_what_is_wrong_with_a_tunnel(hybrid_cloud: RunningLab, fault: str, code: str, words: str) -> None:
    main.fault("hybrid-cloud", fault)
    texts = []
    try:

        def said() -> bool:
            found = probes.tunnel(hybrid_cloud, "red", "headquarters")
            error = found["last_error"]
            texts[:] = [error["text"]] if error and error["code"] == code and found["state"] != "connected" else []
            return bool(texts)

        wait_until(said, f"status names {code}", 30)
        assert words in texts[0]
    finally:
        main.fault("hybrid-cloud", fault, undo=True)
    probes.await_tunnels(hybrid_cloud)
    assert probes.page(hybrid_cloud, "RedWeb", SQL) == "red red-hq-server"


@pytest.mark.parametrize(
    ("office", "name", "address"), [("red-hq", "headquarters", SQL), ("red-branch", "branch", BRANCH)]
)
def test_a_tunnel_passes_a_nat_and_status_says_so(
    hybrid_cloud: RunningLab, office: str, name: str, address: str
) -> None:
    main.fault("hybrid-cloud", "nat", office)
    try:
        wait_until(lambda: probes.page(hybrid_cloud, "RedWeb", address) == f"red {office}-server", "it passes", 30)
        found = probes.tunnel(hybrid_cloud, "red", name)
        assert found["udp_encapsulated"]
        assert not found["offloadable"]
        assert found["why_not"]
        assert "@ 192.168." in router(hybrid_cloud, office).control("--list-sas")
    finally:
        main.fault("hybrid-cloud", "nat", office, undo=True)
    wait_until(lambda: probes.page(hybrid_cloud, "RedWeb", address) == f"red {office}-server", "as before", 30)


def test_a_megabyte_crosses_a_path_of_half_the_mtu(hybrid_cloud: RunningLab) -> None:
    for server in hybrid_cloud.topology.servers():
        (hybrid_cloud.directory / "pages" / server / "big").write_text("x" * MEGABYTE)
    main.fault("hybrid-cloud", "half-mtu")
    try:
        assert len(probes.page(hybrid_cloud, "RedWeb", SQL, path="big", seconds=20) or "") == MEGABYTE
        assert len(probes.page(hybrid_cloud, "red-hq-server", WEB, path="big", seconds=20) or "") == MEGABYTE
        wait_until(
            lambda: probes.tunnel(hybrid_cloud, "red", "headquarters")["mtu"] < faults.HALF_MTU,
            "status shows what fits",
        )
    finally:
        main.fault("hybrid-cloud", "half-mtu", undo=True)
