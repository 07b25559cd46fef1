"""Labs up and down: `tgw lab up|down NAME`, the demo and the tests call this."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploy.lab import gateway, hosts, namespaces, network
from deploy.lab.catalogue import LABS
from deploy.lab.processes import Process, Processes, end, listens
from deploy.lab.topology import Lab

DIRECTORY = Path("/run/tgw-lab")
HTTP_PORT = 80
IPERF_PORT = 5201


class LabError(RuntimeError):
    """A lab that cannot be built as asked; says how to mend it."""


@dataclass(frozen=True, slots=True)
class RunningLab:
    """A lab that is up; nodes are named as in `topology.nodes()`."""

    topology: Lab

    @property
    def directory(self) -> Path:
        return DIRECTORY / self.topology.name

    @property
    def processes(self) -> Processes:
        return Processes(self.directory)

    def inside(self, node: str, *command: str) -> list[str]:
        """Give the command line that runs a command on a node."""
        return namespaces.enter(network.namespace_of(self.topology, node), *command)

    def run(self, node: str, *command: str, seconds: float = 30) -> str:
        """Return the output of a command on a node that must succeed. Errors: CommandError."""
        return namespaces.execute(self.inside(node, *command), seconds=seconds)

    def tgw(self, *arguments: str, seconds: float = 60) -> str:
        """Return the output of the command `tgw` beside the gateway. Errors: CommandError."""
        configuration = gateway.configuration_path(self.directory)
        return self.run("gateway", "env", f"TGW_CONFIG={configuration}", gateway.COMMAND, *arguments, seconds=seconds)

    def start_gateway(self) -> Process:
        return gateway.start(self.topology, self.directory, self.processes)

    def kill_gateway(self) -> None:
        """End the daemon by SIGKILL, as a crash would."""
        end(self.processes.find("gateway"), signal.SIGKILL)

    def stop_gateway(self) -> None:
        end(self.processes.find("gateway"))


def names() -> tuple[str, ...]:
    return tuple(LABS)


def find(name: str) -> Lab:
    if name not in LABS:
        raise LabError(f"there is no lab {name!r}; the labs are {', '.join(LABS)}")
    return LABS[name]


def up(name: str, progress: Callable[[str], None] = print) -> RunningLab:
    """Build the lab whole or not at all. Errors: LabError, CommandError, ProcessError."""
    lab = find(name)
    if os.geteuid():
        raise LabError("a lab needs root for its namespaces: run it with sudo")
    running = RunningLab(lab)
    try:
        running.directory.mkdir(parents=True)
    except FileExistsError:
        raise LabError(f"lab {name} is up already, or was left half built: tgw lab down {name}") from None
    try:
        _build(running, progress)
    except BaseException:
        down(name, progress)
        raise
    progress(f"{name}: up")
    return running


def down(name: str, progress: Callable[[str], None] = print) -> None:
    """Remove all that `up` made, also after a failure; what is not there is no fault."""
    lab = find(name)
    running = RunningLab(lab)
    running.processes.end_all()
    for node in lab.nodes():
        namespaces.remove(network.namespace_of(lab, node))
    for path in (gateway.pins_of(lab), running.directory):
        if path.exists():
            shutil.rmtree(path)
    progress(f"{name}: down")


def _build(running: RunningLab, progress: Callable[[str], None]) -> None:
    lab = running.topology
    progress(f"{lab.name}: {lab.title}")
    network.build_provider_network(lab)
    network.build_gateway_links(lab)
    for host in lab.hosts:
        progress(f"{lab.name}: {host.name} with {', '.join(machine.name for machine in host.machines)}")
        network.build_host_links(lab, host)
        hosts.build(lab, host, network.namespace_of(lab, host.name), running.processes, running.directory)
    for site in lab.sites:
        progress(f"{lab.name}: site {site.name}")
        network.build_site(lab, site)
    progress(f"{lab.name}: servers")
    _start_servers(running)
    progress(f"{lab.name}: gateway")
    running.start_gateway()
    progress(running.tgw("policy", "apply", str(lab.policy_path)).strip())


def _start_servers(running: RunningLab) -> None:
    """On every machine and site Python's HTTP server, whose page tells whose it is, and iperf3."""
    lab, processes = running.topology, running.processes
    owners = {node.name: node.domain for node in lab.machines} | {site.name: site.domain for site in lab.sites}
    started = []
    for name, domain in owners.items():
        namespace = network.namespace_of(lab, name)
        pages = running.directory / "pages" / name
        pages.mkdir(parents=True)
        (pages / "index.html").write_text(f"{domain} {name}\n")
        http = ("/usr/bin/python3", "-m", "http.server", str(HTTP_PORT), "--directory", str(pages))
        started.append((processes.start(f"{name}-http", namespace, *http), HTTP_PORT))
        started.append((processes.start(f"{name}-iperf3", namespace, "iperf3", "-s"), IPERF_PORT))
    for process, port in started:
        processes.wait(process, partial(listens, process, port), f"listened on {port}")
