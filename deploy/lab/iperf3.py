"""iperf3 on the nodes of a lab. A server serves one test at a time and turns away who comes during another."""

import json
import subprocess
from functools import partial
from typing import Any

from deploy.lab.errors import LabError
from deploy.lab.processes import Process, wait_until
from deploy.lab.running import RunningLab

PORT = 5201
LISTENS = f"Server listening on {PORT}"


def start_server(lab: RunningLab, node: str) -> Process:
    """Its log names each test by the client's cookie, and tells when the next may come."""
    command = ("iperf3", "--server", "--verbose", "--forceflush")
    return lab.processes.start(_log_name(node), lab.namespace(node), *command)


def start(lab: RunningLab, node: str, address: str, *options: str) -> "subprocess.Popen[str]":
    command = lab.inside(node, "iperf3", "--json", "--client", address, *options)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def report(lab: RunningLab, client: "subprocess.Popen[str]", seconds: float = 60) -> dict[str, Any]:
    """Return a client's report when it has ended and its server takes the next test.

    Errors: LabError in iperf3's own words, subprocess.TimeoutExpired when it has not ended in time.
    """
    with client:
        try:
            output, errors = client.communicate(timeout=seconds)
        finally:
            client.kill()
    told: dict[str, Any] = json.loads(output) if output else {"error": errors.strip()}
    if "error" in told:
        raise LabError(f"{subprocess.list2cmdline(client.args)}: {told['error']}")  # type: ignore[arg-type]
    cookie = told["start"]["cookie"]
    wait_until(partial(_is_served, lab, cookie), f"iperf3's server has ended the test {cookie}")
    return told


def run(lab: RunningLab, node: str, address: str, *options: str) -> dict[str, Any]:
    """Return the report of one test. Errors: as of `report`."""
    return report(lab, start(lab, node, address, *options))


def _is_served(lab: RunningLab, cookie: str) -> bool:
    logs = (lab.processes.log(_log_name(node)).read_text(errors="replace") for node in lab.topology.servers())
    return any(LISTENS in log.partition(cookie)[2] for log in logs)


def _log_name(node: str) -> str:
    return f"{node}-iperf3"
