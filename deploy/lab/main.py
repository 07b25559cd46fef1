"""Labs up and down: `tgw lab up|down NAME`, the demo and the tests call this."""

import os
import shutil
from collections.abc import Callable
from functools import partial

from deploy.lab import credentials, far_end, faults, gateway, hosts, iperf3, namespaces, network, offices, probes
from deploy.lab.catalogue import LABS
from deploy.lab.errors import LabError
from deploy.lab.processes import Process, listens
from deploy.lab.running import RunningLab
from deploy.lab.topology import Lab

HTTP_PORT = 80


def titles() -> dict[str, str]:
    return {name: lab.title for name, lab in LABS.items()}


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
        running.directory.mkdir(mode=0o700, parents=True)
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
        namespaces.remove(running.namespace(node))
    gateway.remove_compartments(lab)
    for path in (gateway.pins_of(lab), gateway.tunnels_of(lab), running.directory):
        if path.exists():
            shutil.rmtree(path)
    progress(f"{name}: down")


def running(name: str) -> RunningLab:
    """Return a lab that is up. Errors: LabError."""
    found = RunningLab(find(name))
    if not found.directory.exists():
        raise LabError(f"lab {name} is not up: tgw lab up {name}")
    return found


def fault(name: str, what: str, office: str = "", undo: bool = False) -> None:
    """Do something to an office of a lab, or undo it; without a name it is the first one. Errors: LabError."""
    lab, found = running(name), faults.find(what)
    offices_of = {one.name: one for one in lab.topology.offices}
    chosen = offices_of.get(office) if office else next(iter(offices_of.values()), None)
    if chosen is None:
        known = ", ".join(offices_of)
        raise LabError(f"{name} has no office {office!r}: it has {known}" if known else f"{name} has no offices")
    (found.undo if undo else found.do)(offices.Router(lab, chosen))


def command(name: str, node: str, *words: str) -> list[str]:
    """Give the command line that runs a command on a node of a lab that is up. Errors: LabError."""
    lab = running(name)
    if node not in lab.topology.nodes():
        raise LabError(f"{name} has no node {node!r}: it has {', '.join(lab.topology.nodes())}")
    return lab.inside(node, *words)


def _build(running: RunningLab, progress: Callable[[str], None]) -> None:
    lab = running.topology
    progress(f"{lab.name}: {lab.title}")
    far_end.compile_program(running)
    network.build_provider_network(running)
    network.build_gateway_links(running)
    for host in lab.hosts:
        progress(f"{lab.name}: {host.name} with {', '.join(machine.name for machine in host.machines)}")
        network.build_host_links(running, host)
        hosts.build(running, host)
    for site in lab.sites:
        progress(f"{lab.name}: {site.name}{f' on VLAN {site.vlan}' if site.vlan else ''}")
        network.build_site(running, site)
    made = credentials.make(lab)
    for office in lab.offices:
        progress(f"{lab.name}: {office.name}, with strongSwan")
        offices.build(running, office)
        router = offices.Router(running, office)
        router.write(made)
        router.start()
    progress(f"{lab.name}: servers")
    _start_servers(running)
    progress(f"{lab.name}: gateway")
    gateway.start(running)
    progress(f"{lab.name}: policy")
    gateway.apply(running, credentials.fill_in(lab.policy_path.read_text(), made))
    if lab.offices:
        progress(f"{lab.name}: tunnels")
        probes.await_tunnels(running)


def start_web_server(running: RunningLab, node: str) -> Process:
    """Start Python's HTTP server, whose page tells whose it is; it keeps connections."""
    pages = running.directory / "pages" / node
    pages.mkdir(parents=True, exist_ok=True)
    (pages / "index.html").write_text(f"{running.topology.servers()[node]} {node}\n")
    options = ("--bind", "::", "--protocol", "HTTP/1.1", "--directory", str(pages))
    command = ("/usr/bin/python3", "-m", "http.server", str(HTTP_PORT), *options)
    return running.processes.start(f"{node}-http", running.namespace(node), *command)


def _start_servers(running: RunningLab) -> None:
    """On every node that serves a web server and iperf3, in offices also what they have besides."""
    processes = running.processes
    started = []
    for node in running.topology.servers():
        started.append((start_web_server(running, node), HTTP_PORT))
        started.append((iperf3.start_server(running, node), iperf3.PORT))
    for process, port in started:
        processes.wait(process, partial(listens, process, port), f"listened on {port}")
    for office in running.topology.offices:
        offices.start_servers(running, office)
