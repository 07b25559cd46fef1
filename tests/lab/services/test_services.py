"""Compartments, probes and tunnels follow the policy that a real daemon is given, and outlive the daemon."""

import signal
from pathlib import Path

import pytest
from service_rig import BLUE, RED, Rig, domain, probed, tunnelled, until

ROOT = Path(__file__).parents[3]


def test_a_probed_domain_has_a_compartment_as_long_as_it_is_probed(rig: Rig) -> None:
    rig.push(domain())
    assert rig.compartments() == {}
    rig.push(probed())
    until(lambda: len(rig.legs()) == 2, "there was a leg to probe by, and one for fragments")
    until(lambda: member(rig)["status"] == "unhealthy", "the member was found dead")
    assert member(rig)["state"] == "active", "all members failing keeps all"
    rig.push(domain())
    until(lambda: not rig.compartments() and not rig.legs(), "the compartment was gone")


def member(rig: Rig) -> dict[str, str]:
    (pool,) = rig.ask("GET", f"/v1/routing-domains/{BLUE}/pools")["pools"]
    (found,) = pool["members"]
    return found


def test_a_tunnel_has_a_daemon_in_a_compartment_while_it_is_enabled(rig: Rig) -> None:
    rig.push(tunnelled())
    until(lambda: rig.tunnel_process(), "a daemon ran")
    assert len(rig.legs()) == 2
    (tunnel,) = rig.domain()["tunnels"]
    assert (tunnel["name"], tunnel["state"], tunnel["local_address"]) == ("headquarters", "connecting", "203.0.113.1")
    rig.push(tunnelled(enabled=False))
    until(lambda: not rig.compartments() and not rig.legs(), "the compartment was gone")
    (tunnel,) = rig.domain()["tunnels"]
    assert (tunnel["state"], tunnel["text"]) == ("disabled", "disabled in policy")
    assert rig.tunnel_process() is None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_runs_outlives_the_daemon_and_is_adopted(rig: Rig, how: signal.Signals) -> None:
    rig.push(tunnelled(), probed(rdid=RED, name="red", vsid=5001))
    until(lambda: rig.tunnel_process() and len(rig.legs()) == 4, "all was set up")
    before = rig.tunnel_process(), rig.compartments(), rig.legs()
    rig.end(how)
    assert (rig.tunnel_process(), rig.compartments(), rig.legs()) == before
    rig.start()
    until(lambda: rig.domain()["tunnels"][0]["since"], "the tunnel was looked after")
    assert (rig.tunnel_process(), rig.compartments(), rig.legs()) == before


def test_a_daemon_that_starts_again_ends_what_policy_has_no_more(rig: Rig) -> None:
    rig.push(domain())
    rig.back_up_policy()
    rig.push(tunnelled())
    until(lambda: rig.tunnel_process(), "a daemon ran")
    rig.end(signal.SIGKILL)
    rig.restore_policy()
    rig.start()
    until(lambda: not rig.compartments() and not rig.legs(), "the compartment was gone")


def test_a_tunnel_outlives_the_loss_of_the_policy_store_until_policy_is_pushed(rig: Rig) -> None:
    rig.push(tunnelled())
    until(lambda: rig.tunnel_process(), "a daemon ran")
    before = rig.tunnel_process(), rig.compartments(), rig.legs()
    rig.end(signal.SIGKILL)
    rig.lose_policy()
    rig.start()
    assert (rig.tunnel_process(), rig.compartments(), rig.legs()) == before
    rig.push(domain())
    until(lambda: not rig.compartments() and not rig.legs(), "the compartment was gone")


def test_a_change_is_programmed_and_status_told_while_the_tunnels_of_others_are_set_up(rig: Rig) -> None:
    others = [
        tunnelled(f"{number:08x}-0000-4000-8000-000000000000", f"t{number}", 7000 + number) for number in range(64)
    ]
    rig.push(*others)
    rig.push(*others, domain())
    assert rig.domain()["error"] is None
    assert len(rig.legs()) < 2 * len(others), "all was set up already: this shows nothing"
    until(lambda: len(rig.legs()) == 2 * len(others), "all was set up")


def test_a_lost_leg_is_made_again(rig: Rig) -> None:
    rig.push(tunnelled())
    until(lambda: rig.tunnel_process() and len(rig.legs()) == 2, "all was set up")
    before = rig.legs()
    rig.lose_leg()
    until(lambda: rig.legs().keys() == before.keys(), "there were both legs again")
    assert rig.legs() != before


def test_the_gateway_is_taken_off_the_machine_whole_but_not_while_it_runs(rig: Rig) -> None:
    rig.push(tunnelled(), probed(rdid=RED, name="red", vsid=5001))
    until(lambda: rig.tunnel_process() and len(rig.legs()) == 4, "all was set up")
    process = rig.tunnel_process()
    rig.tgw("gateway", "remove", code=1)
    assert rig.tunnel_process() == process
    rig.end(signal.SIGTERM)
    rig.tgw("gateway", "remove")
    assert (rig.tunnel_process(), rig.compartments(), rig.legs()) == (None, {}, {})
    assert rig.left_over() == []
    rig.tgw("gateway", "remove")


def test_the_capabilities_of_the_unit_are_enough(rig: Rig) -> None:
    unit = (ROOT / "deploy/systemd/tenant-gateway.service").read_text()
    (line,) = (line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet="))
    kept = [f"+{name.removeprefix('CAP_').lower()}" for name in line.partition("=")[2].split()]
    rig.end(signal.SIGTERM)
    rig.start("setpriv", f"--bounding-set=-all,{','.join(kept)}", "--no-new-privs")
    rig.push(tunnelled(), probed(rdid=RED, name="red", vsid=5001))
    until(lambda: rig.tunnel_process() and len(rig.legs()) == 4, "all was set up")
    until(lambda: rig.domain()["tunnels"][0]["last_error"], "the tunnel was tried")
    assert rig.domain()["tunnels"][0]["last_error"]["code"] == "silent"
    assert [domain["services_fault"] for domain in rig.ask("GET", "/v1/status")["routing_domains"]] == [None, None]
    assert "next_hop_silent" in rig.log()
    assert "next_hop_not_asked" not in rig.log()
    rig.push(domain())
    until(lambda: not rig.compartments() and not rig.legs(), "all was gone")
    assert rig.ask("GET", "/v1/status")["faults"] == []
