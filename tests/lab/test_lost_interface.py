"""An interface of the gateway disappears under a running daemon and returns."""

from collections.abc import Callable

from deploy.lab import network, probes
from deploy.lab.processes import wait_until
from deploy.lab.running import RunningLab
from deploy.lab.topology import Site


def port_is(lab: RunningLab, name: str, attached: bool) -> Callable[[], bool]:
    def condition() -> bool:
        port = next(port for port in probes.status(lab)["ports"] if port["name"] == name)
        return bool(port["state"] == "attached") is attached

    return condition


def test_a_corpnet_port_that_disappears_and_returns_forwards_again(blue_red: RunningLab) -> None:
    site: Site = next(site for site in blue_red.topology.sites if site.name == "blue-corpnet")
    blue_red.configure("gateway", f"link del {blue_red.topology.external_ports()[site.port]}")
    wait_until(port_is(blue_red, site.port, attached=False), "the gateway names the lost port")
    assert probes.page(blue_red, "RedVM1", "157.1.0.10") == "red red-corpnet"
    assert probes.page(blue_red, "BlueVM1", "157.1.0.10", seconds=1) is None
    network.plug_site(blue_red, site)
    wait_until(port_is(blue_red, site.port, attached=True), "the gateway has its port again")
    assert probes.page(blue_red, "BlueVM1", "157.1.0.10") == "blue blue-corpnet"
    assert probes.page(blue_red, "blue-corpnet", "10.1.1.11") == "blue BlueVM1"
