"""The premises of the lab are sound by themselves: without the gateway, with strongSwan alone."""

from collections.abc import Iterator

import pytest

from deploy.lab import faults, main, probes
from deploy.lab.errors import LabError
from deploy.lab.offices import Router
from deploy.lab.running import RunningLab

HEADQUARTERS = ("red-hq", "blue-hq")
DIRECT = """
connections {{ direct {{
  version = 2
  local_addrs = %any
  remote_addrs = {remote_address}
  proposals = aes256-sha256-ecp256
  local {{ auth = psk
    id = {local} }}
  remote {{ auth = psk
    id = {remote} }}
  children {{ direct {{
    local_ts = {local_network}
    remote_ts = {remote_network}
    esp_proposals = aes128gcm16 }} }} }} }}
secrets {{ ike-direct {{
  id-1 = {local}
  id-2 = {remote}
  secret = between-offices-only }} }}
"""
ENDS = (("red-hq", "203.0.113.20", "10.1.1.0/24"), ("red-branch", "203.0.113.36", "10.3.0.0/24"))


def router(lab: RunningLab, name: str) -> Router:
    return Router(lab, next(office for office in lab.topology.offices if office.name == name))


@pytest.fixture
def direct_tunnel(hybrid_cloud: RunningLab) -> Iterator[str]:
    """Red's offices know each other for a while; the name of the one that is to begin."""
    for (name, _, network), (peer, peer_address, peer_network) in (ENDS, ENDS[::-1]):
        text = DIRECT.format(
            local=name,
            remote=peer,
            remote_address=peer_address,
            local_network=network,
            remote_network=peer_network,
        )
        file = router(hybrid_cloud, name).directory / "direct.conf"
        file.write_text(text)
        router(hybrid_cloud, name).control("--load-all", "--noprompt", "--file", str(file))
    yield ENDS[0][0]
    for name, _, _ in ENDS:
        router(hybrid_cloud, name).load()


@pytest.mark.parametrize("name", HEADQUARTERS)
def test_premises_of_equal_addresses_have_servers_of_their_own(hybrid_cloud: RunningLab, name: str) -> None:
    tenant = name.partition("-")[0]
    assert probes.resolve(hybrid_cloud, name, f"sql.{tenant}.example", "10.1.1.53") == "10.1.1.12"
    assert probes.query(hybrid_cloud, name, "10.1.1.12", "price") == f"{tenant} price for 10.1.1.1"
    assert probes.page(hybrid_cloud, name, "10.2.0.10") == f"{tenant} {name}-server"


def test_the_dns_server_of_one_tenant_does_not_know_the_others_names(hybrid_cloud: RunningLab) -> None:
    assert probes.resolve(hybrid_cloud, "blue-hq", "sql.red.example", "10.1.1.53") is None


def test_two_offices_tunnel_to_each_other_with_strongswan_alone(hybrid_cloud: RunningLab, direct_tunnel: str) -> None:
    assert probes.page(hybrid_cloud, "red-hq-server", "10.3.0.10", seconds=1) is None
    router(hybrid_cloud, direct_tunnel).control("--initiate", "--child", "direct")
    assert probes.page(hybrid_cloud, "red-hq-server", "10.3.0.10") == "red red-branch-server"
    assert probes.routers(hybrid_cloud, "red-hq-server", "10.3.0.10") == ("10.1.1.1", "10.3.0.1", "10.3.0.10")
    router(hybrid_cloud, direct_tunnel).control("--terminate", "--ike", "direct")
    assert probes.page(hybrid_cloud, "red-hq-server", "10.3.0.10", seconds=1) is None


@pytest.mark.parametrize("name", faults.FAULTS)
def test_every_fault_is_done_and_undone(hybrid_cloud: RunningLab, name: str) -> None:
    """That it hurts is held where the tunnels are; here, that the premises are as before."""
    before = hybrid_cloud.run("red-hq", "ip", "-br", "-4", "addr", "show", "eth0")
    main.fault("hybrid-cloud", name)
    main.fault("hybrid-cloud", name, undo=True)
    assert hybrid_cloud.run("red-hq", "ip", "-br", "-4", "addr", "show", "eth0") == before
    assert "red.gateway.example" in router(hybrid_cloud, "red-hq").control("--list-conns")
    assert probes.pings(hybrid_cloud, "internet", "203.0.113.20", payload=1472, fragment=False)
    assert probes.pings(hybrid_cloud, "red-hq", "203.0.113.36")


def test_a_fault_that_cannot_be_is_refused_in_words(hybrid_cloud: RunningLab) -> None:
    with pytest.raises(LabError, match="half-mtu: the link has half the MTU"):
        main.fault("hybrid-cloud", "flood")
    with pytest.raises(LabError, match="red-hq, red-branch, blue-hq"):
        main.fault("hybrid-cloud", "nat", office="green-hq")
    with pytest.raises(LabError, match="by its certificate"):
        main.fault("hybrid-cloud", "wrong-key", office="red-branch")


def test_a_command_on_an_unknown_node_is_refused_with_the_names_of_all(hybrid_cloud: RunningLab) -> None:
    with pytest.raises(LabError, match="RedWeb, RedApp"):
        main.command("hybrid-cloud", "GreenWeb", "ip", "link")
