"""The gateway's daemon, as an administrator would run it, and an orchestrator's connection to it."""

import json
import shutil
import ssl
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import httpx

from deploy.lab.namespaces import enter, execute
from deploy.lab.processes import Process, Processes, Readiness, end
from tests.bench import plan
from tests.bench.namespaces import inside
from tests.bench.rig import Router

External = Literal["corpnet", "internet"]

NAME = "bench"
_API_PORT = 8443
_COMMAND = str(Path(sys.executable).parent / "tgw")
_PATIENCE = 300  # seconds


_EXTERNAL = {
    "corpnet": "",
    "internet": f'''\
addresses = [
    "{plan.INTERNET_LOCAL}/{plan.INTERNET_PREFIX_LENGTH}",
    "{plan.INTERNET_LOCAL6}/{plan.INTERNET_PREFIX_LENGTH6}",
]
gateways = ["{plan.INTERNET_NEXT_HOP}", "{plan.INTERNET_NEXT_HOP6}"]
''',
}


def configuration(directory: Path, pins: Path, external: External = "corpnet") -> str:
    """Return the text of gateway.toml; `external` is what lies behind the external port, and the port's name."""
    return f"""\
name = "{NAME}"
state_dir = "{directory / "state"}"
router_mac = "{plan.ROUTER_MAC}"

[api]
listen = "127.0.0.1:{_API_PORT}"

[datapath]
memory_mb = 128
pin_dir = "{pins}"

[[ports]]
name = "provider"
role = "provider"
interface = "provider"
addresses = ["{plan.GATEWAY_PA}/{plan.PROVIDER_NETWORK.prefixlen}"]

[[ports]]
name = "{external}"
role = "external"
interface = "external"
{_EXTERNAL[external]}"""


class Daemon:
    """A running daemon with an empty policy; gone with its state and pins when `lifetime` ends."""

    def __init__(self, router: Router, directory: Path, lifetime: ExitStack, external: External = "corpnet") -> None:
        directory.mkdir()
        pins = Path(f"/sys/fs/bpf/{router.namespace}")
        shutil.rmtree(pins, ignore_errors=True)
        file = directory / "gateway.toml"
        file.write_text(configuration(directory, pins, external))
        removal = enter(router.namespace, _COMMAND, "--config", str(file), "gateway", "remove")
        lifetime.callback(execute, removal, seconds=60)
        self._process = _start(router.namespace, directory, file, lifetime)
        self._client = self._connect(router.namespace, directory / "state", lifetime)

    def put(self, path: str, body: bytes, kind: str = "application/json") -> float:
        """Write and wait until it is programmed; return the seconds from request to answer. Errors: RuntimeError."""
        began = time.perf_counter()
        answer = self._client.put(
            path, content=body, params={"wait": "programmed", "timeout": _PATIENCE}, headers={"Content-Type": kind}
        )
        elapsed = time.perf_counter() - began
        if answer.is_error or not answer.json()["programmed"]:
            raise RuntimeError(f"PUT {path} was answered {answer.status_code}: {answer.text[:1000]}")
        return elapsed

    def status(self) -> Any:
        return self._client.get("/v1/status").raise_for_status().json()

    def resident_mb(self) -> float:
        """Return its resident memory, in units of 10^6 bytes; the maps that it has mapped are part of it."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in text.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024 / 1e6

    def _connect(self, namespace: str, state: Path, lifetime: ExitStack) -> httpx.Client:
        """Connect once: a socket stays in the namespace that it was made in."""
        token = (state / "admin.token").read_text().strip()
        trust = ssl.create_default_context(cafile=str(state / "tls" / "ca.pem"))
        base = f"https://127.0.0.1:{_API_PORT}"
        headers = {"Authorization": f"Bearer {token}"}
        client = httpx.Client(base_url=base, verify=trust, headers=headers, timeout=_PATIENCE, trust_env=False)
        lifetime.enter_context(client)
        with inside(namespace):
            client.get("/v1/status").raise_for_status()
        return client


def _start(namespace: str, directory: Path, file: Path, lifetime: ExitStack) -> Process:
    processes = Processes(directory)
    with Readiness(directory / "notify.sock") as readiness:
        environment = {"NOTIFY_SOCKET": str(readiness.address)}
        command = (_COMMAND, "gateway", "run", "--config", str(file))
        process = processes.start("gateway", namespace, *command, environment=environment)
        lifetime.callback(end, process)
        processes.wait(process, readiness.said, "said that it is ready", seconds=60)
    return process


def as_body(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()
