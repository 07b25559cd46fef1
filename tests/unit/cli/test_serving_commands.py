"""`tgw vpn` and `tgw lb`, against a served gateway."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from documents import WEB, blue, policy, red, tunnel
from live_gateway import BLUE, LiveGateway
from typer.testing import Result

Command = Callable[..., Result]
TGW = Path(sys.executable).parent / "tgw"
HEADQUARTERS, BRANCH = "headquarters", "branch"


@pytest.fixture
def served(gateway: LiveGateway) -> LiveGateway:
    """Blue has two tunnels and a load balancer, red one tunnel, with a name that blue has too."""
    of_blue = [tunnel(HEADQUARTERS), tunnel(BRANCH, "198.51.100.21", "10.3.0.0/24")]
    domains = (
        blue(network_connections=of_blue, load_balancers=[WEB]),
        red(network_connections=[tunnel(HEADQUARTERS, "198.51.100.30")]),
    )
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(*domains)).raise_for_status()
    return gateway


def text(result: Result, code: int = 0) -> str:
    assert result.exit_code == code, result.output
    return result.output


def test_vpn_status_lists_all_tunnels_and_one_in_full(tgw: Command, served: LiveGateway) -> None:
    listed = text(tgw("vpn", "status"))
    assert listed.count(HEADQUARTERS) == 2
    assert "connecting since 1970" in listed
    assert "ESP by kernel-netlink: this kernel has ESP" in listed
    one = text(tgw("vpn", "status", BRANCH))
    assert "the peer 198.51.100.20 does not answer" in one
    assert "1438 bytes" in one
    assert json.loads(text(tgw("vpn", "status", "red/headquarters", "--json")))["domain"] == "red"
    assert len(json.loads(text(tgw("vpn", "status", "--json")))) == 3


def test_a_tunnel_is_taken_down_and_up_by_its_name(tgw: Command, served: LiveGateway) -> None:
    assert "branch: down since" in text(tgw("vpn", "down", BRANCH))
    assert served.services.states == {(BLUE, BRANCH): "down"}
    assert "branch: connected since" in text(tgw("vpn", "up", BRANCH))


def test_a_name_that_several_tunnels_have_or_none_is_refused_with_those_there_are(
    tgw: Command, served: LiveGateway
) -> None:
    assert "say blue/headquarters or red/headquarters" in text(tgw("vpn", "down", HEADQUARTERS), 1)
    assert "the tunnels are blue/headquarters, blue/branch, red/headquarters" in text(tgw("vpn", "log", "nobody"), 1)
    assert served.services.states == {}


def test_a_tunnel_that_nothing_looks_after_is_said_to_be_so(tgw: Command, served: LiveGateway) -> None:
    served.services.unattended.add(BRANCH)
    assert "tunnel branch has no endpoint at this moment" in text(tgw("vpn", "up", BRANCH), 1)


def test_the_log_has_a_time_on_each_line(tgw: Command, served: LiveGateway) -> None:
    assert text(tgw("vpn", "log", "blue/branch")) == "1970-01-01T00:00:01.500+00:00  initiating IKE_SA branch\n"


def test_lb_ports_shows_who_has_a_port(tgw: Command, gateway: LiveGateway) -> None:
    front = {"name": "out", "address": "203.0.113.85", "public": True}
    of_red = {
        "name": "out",
        "frontends": [front],
        "outbound_nat": [{"frontend": "out", "vsid": 5001, "ports": "4096-8191"}],
    }
    own = {"frontend": "out", "vsid": 6001, "customer_prefixes": ["10.1.1.11"], "ports": "8192-20479"}
    with gateway.client() as client:
        domains = blue(load_balancers=[of_red | {"outbound_nat": [own]}]), red(load_balancers=[of_red])
        client.put("/v1/policy", json=policy(*domains)).raise_for_status()
    (found,) = json.loads(text(tgw("lb", "ports", "203.0.113.85", "--port", "9000", "--json")))
    words = "10.1.1.11/32 of virtual subnet 6001"
    assert found == {"address": "203.0.113.85", "ports": "8192-20479", "domain": "blue", "machines": words}
    assert "4096-8191" in text(tgw("lb", "ports"))
    assert "no outbound NAT has such ports" in text(tgw("lb", "ports", "--port", "80"))


def test_lb_status_shows_each_member_of_each_pool(tgw: Command, served: LiveGateway) -> None:
    listed = text(tgw("lb", "status", "--domain", "blue"))
    for word in ("web", "vms", "tcp", "10.1.1.11", "active", "healthy", "1970-01-01T00:00:03.000+00:00", "ok"):
        assert word in listed
    (domain,) = json.loads(text(tgw("lb", "status", "--json")))
    assert domain["load_balancers"][0]["pools"][0]["members"][0]["weight"] == 3
    assert "no load balancer has a rule" in text(tgw("lb", "status", "--domain", "red"))
    assert "there is no routing domain 'green'" in text(tgw("lb", "status", "--domain", "green"), 1)


def test_status_says_in_brief_how_a_domain_is_served(tgw: Command, served: LiveGateway) -> None:
    assert "0 of 2 tunnels up, 1 of 1 members active" in text(tgw("status"))
    served.services.fault = "its compartment cannot be made"
    assert "its compartment cannot be made" in text(tgw("status"))


def test_the_shell_completes_names_of_tunnels_and_domains(served: LiveGateway, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    listen = served.url.removeprefix("https://")
    file.write_text(f'state_dir = "{served.state_dir}"\n[api]\nlisten = "{listen}"\n')
    for line, expected in (
        (f"tgw --config {file} vpn down blue/", ["blue/headquarters", "blue/branch"]),
        (f"tgw --config {file} policy show --domain b", ["blue"]),
        (f"tgw --config {tmp_path / 'missing.toml'} vpn down blue/", []),
    ):
        told = {"_TGW_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        done = subprocess.run([TGW], env={**os.environ, **told}, capture_output=True, text=True, check=False)
        assert done.stdout.split() == expected, done.stderr
