"""The gateway of a lab: a real daemon with its own configuration, state and pins, in a namespace of its own."""

import sys
from pathlib import Path

from deploy.lab.network import namespace_of
from deploy.lab.processes import Process, Processes, Readiness
from deploy.lab.topology import Lab

ROUTER_MAC = "00-1d-d8-b7-1c-00"
API_PORT = 8443
COMMAND = str(Path(sys.executable).parent / "tgw")


def pins_of(lab: Lab) -> Path:
    return Path(f"/sys/fs/bpf/tgw-lab-{lab.name}")


def configuration_path(directory: Path) -> Path:
    return directory / "gateway.toml"


def configuration(lab: Lab, directory: Path) -> str:
    """Return the text of gateway.toml."""
    head = f"""\
name = "{lab.name}"
state_dir = "{directory / "state"}"
router_mac = "{ROUTER_MAC}"

[api]
listen = "127.0.0.1:{API_PORT}"

[plugins]
enabled = ["policy"]

[datapath]
pin_dir = "{pins_of(lab)}"
"""
    provider = _port("provider", "provider", "eth1", f'addresses = ["{lab.gateway_address}"]\n')
    external = [_port(site.name, "external", lab.site_interface(site)) for site in lab.external_sites]
    return "\n".join([head, provider, *external])


def _port(name: str, role: str, interface: str, more: str = "") -> str:
    return f'[[ports]]\nname = "{name}"\nrole = "{role}"\ninterface = "{interface}"\n{more}'


def start(lab: Lab, directory: Path, processes: Processes) -> Process:
    """Start the daemon and return when it says that it is ready (sd_notify). Errors: ProcessError."""
    file = configuration_path(directory)
    file.write_text(configuration(lab, directory))
    with Readiness(directory / "notify.sock") as readiness:
        environment = {"NOTIFY_SOCKET": str(readiness.address)}
        command = (COMMAND, "gateway", "run", "--config", str(file))
        daemon = processes.start("gateway", namespace_of(lab, "gateway"), *command, environment=environment)
        processes.wait(daemon, readiness.said, "said that it is ready", seconds=60)
    return daemon
