"""The gateway of a lab: a real daemon with its own configuration, state and pins, in a namespace of its own."""

import json
import signal
import sys
from pathlib import Path

from deploy.lab import namespaces
from deploy.lab.processes import Process, Readiness, end
from deploy.lab.running import RunningLab
from deploy.lab.topology import Lab, Site
from gateway.compartments.names import is_ours

ROUTER_MAC = "00-1d-d8-b7-1c-00"
API_PORT = 8443
COMMAND = str(Path(sys.executable).parent / "tgw")


def pins_of(lab: Lab) -> Path:
    return Path(f"/sys/fs/bpf/tgw-lab-{lab.name}")


def tunnels_of(lab: Lab) -> Path:
    """Where a gateway of this name keeps what it finds the tunnels' daemons by."""
    return Path(f"/run/tenant-gateway/vpn-{lab.name}")


def remove_compartments(lab: Lab) -> None:
    """Remove the compartments, and the daemons in them, which outlive a gateway."""
    for name in sorted(path.name for path in namespaces.NAMESPACES.glob("*") if is_ours(lab.name, path.name)):
        for pid in namespaces.execute(["ip", "netns", "pids", name]).split():
            end(Process.of(name, int(pid)))
        namespaces.remove(name)


def configuration_path(lab: RunningLab) -> Path:
    return lab.directory / "gateway.toml"


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
    own = f'vlan = {lab.provider_vlan}\naddresses = ["{lab.gateway_address}"]\n'
    provider = _port("provider", "provider", "eth1", own)
    outside = {site.port: _outside(site) for site in lab.sites}
    external = [_port(port, "external", interface, outside[port]) for port, interface in lab.external_ports().items()]
    return "\n".join([head, provider, *external])


def _outside(site: Site) -> str:
    if not site.port_addresses:
        return ""
    return f"addresses = {json.dumps(site.port_addresses)}\ngateways = {json.dumps(site.gateways())}\n"


def _port(name: str, role: str, interface: str, more: str = "") -> str:
    return f'[[ports]]\nname = "{name}"\nrole = "{role}"\ninterface = "{interface}"\n{more}'


def start(lab: RunningLab, **environment: str) -> Process:
    """Start the daemon and return when it says that it is ready (sd_notify). Errors: ProcessError."""
    file = configuration_path(lab)
    file.write_text(configuration(lab.topology, lab.directory))
    with Readiness(lab.directory / "notify.sock") as readiness:
        command = (COMMAND, "gateway", "run", "--config", str(file))
        told = {**environment, "NOTIFY_SOCKET": str(readiness.address)}
        daemon = lab.processes.start("gateway", lab.namespace("gateway"), *command, environment=told)
        lab.processes.wait(daemon, readiness.said, "said that it is ready", seconds=60)
    return daemon


def stop(lab: RunningLab) -> None:
    end(lab.processes.find("gateway"))


def kill(lab: RunningLab) -> None:
    """End the daemon by SIGKILL, as a crash would."""
    end(lab.processes.find("gateway"), signal.SIGKILL)


def commit(lab: RunningLab, domain: str, count: int) -> int:
    """Commit a routing domain so many times, in two versions by turns; return how many were programmed."""
    arguments = (str(configuration_path(lab)), str(lab.topology.policy_path), domain, str(count))
    return int(lab.run("gateway", sys.executable, "-m", "deploy.lab.committer", *arguments, seconds=240))


def apply(lab: RunningLab, policy: str) -> None:
    """Give the gateway a whole policy, as text, and return when it is programmed. Errors: CommandError."""
    file = lab.directory / "policy.yaml"
    file.write_text(policy)
    tgw(lab, "policy", "apply", str(file))


def tgw(lab: RunningLab, *arguments: str, seconds: float = 60) -> str:
    """Return the output of the command `tgw` beside the gateway. Errors: CommandError."""
    configured = f"TGW_CONFIG={configuration_path(lab)}"
    return lab.run("gateway", "env", configured, COMMAND, *arguments, seconds=seconds)
