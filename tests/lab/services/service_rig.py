"""A gateway's daemon in a namespace of its own, with nobody at the other ends of its wires."""

import os
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx

from deploy.lab import namespaces
from deploy.lab.processes import Process, Processes, Readiness, end, wait_until
from gateway.compartments.entering import run_in

NAME = f"tgs{os.getpid()}"
BLUE, RED = "11111111-2222-3333-4444-000000000001", "11111111-2222-3333-4444-000000000002"
TGW = str(Path(sys.executable).parent / "tgw")
_PORT = 8443
_PINS = Path(f"/sys/fs/bpf/{NAME}")
_TUNNELS = Path(f"/run/tenant-gateway/vpn-{NAME}")
_CONFIGURATION = f"""\
name = "{NAME}"
state_dir = "{{directory}}/state"
[api]
listen = "127.0.0.1:{_PORT}"
[datapath]
pin_dir = "{_PINS}"
memory_mb = 8
[[ports]]
name = "provider"
role = "provider"
interface = "eth1"
addresses = ["192.168.6.2/24"]
[[ports]]
name = "internet"
role = "external"
interface = "eth2"
addresses = ["203.0.113.1/24"]
gateways = ["203.0.113.254"]
"""


class Rig:
    """`tgw gateway run`, as a service manager would start it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes = Processes(directory)
        self._configuration = directory / "gateway.toml"
        self._configuration.write_text(_CONFIGURATION.format(directory=directory))
        namespaces.create(NAME)
        for interface in ("eth1", "eth2"):
            commands = [f"link add {interface} type veth peer name {interface}-far"]
            commands += [f"link set {interface} up", f"link set {interface}-far up"]
            namespaces.configure(NAME, commands)
        namespaces.configure(NAME, ["address add 192.168.6.2/24 dev eth1"])

    def start(self, *prefix: str) -> None:
        """Start the daemon, by a command that runs another one if need be, and return when it is ready."""
        with Readiness(self.directory / "notify") as readiness:
            told = {"NOTIFY_SOCKET": str(readiness.address)}
            command = (*prefix, TGW, "gateway", "run", "--config", str(self._configuration))
            daemon = self._processes.start("gateway", NAME, *command, environment=told)
            self._processes.wait(daemon, readiness.said, "said that it is ready", seconds=60)

    def end(self, how: signal.Signals) -> None:
        end(self._processes.find("gateway"), how)

    def tgw(self, *arguments: str, code: int = 0) -> str:
        command = namespaces.enter(NAME, TGW, "--config", str(self._configuration), *arguments)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout

    def ask(self, method: str, path: str, **arguments: Any) -> Any:
        """Return the answer of the API, which must be a good one."""
        state = self.directory / "state"
        trust = ssl.create_default_context(cafile=str(state / "tls" / "ca.pem"))
        headers = {"Authorization": f"Bearer {(state / 'admin.token').read_text().strip()}"}

        def send() -> httpx.Response:
            url = f"https://127.0.0.1:{_PORT}{path}"
            return httpx.request(method, url, headers=headers, verify=trust, timeout=60, trust_env=False, **arguments)

        response = run_in(str(namespaces.NAMESPACES / NAME), send)
        assert response.is_success, response.text
        return response.json() if "json" in response.headers["content-type"] else response.text

    def push(self, *domains: dict[str, Any]) -> None:
        """Return when the datapath holds these domains; what serves them may come later."""
        parameters = {"wait": "programmed", "timeout": 30}
        answer = self.ask("PUT", "/v1/policy", params=parameters, json={"routing_domains": list(domains)})
        assert answer["programmed"], answer

    def back_up_policy(self) -> None:
        with closing(sqlite3.connect(self._store())) as store:
            store.execute("VACUUM INTO ?", (str(self.directory / "policy.backup"),))

    def restore_policy(self) -> None:
        self.lose_policy()
        shutil.copy(self.directory / "policy.backup", self._store())

    def lose_policy(self) -> None:
        for file in self._store().parent.glob("policy.sqlite*"):
            file.unlink()

    def _store(self) -> Path:
        return self.directory / "state" / "policy.sqlite"

    def domain(self, rdid: str = BLUE) -> dict[str, Any]:
        status = self.ask("GET", "/v1/status")
        return next(domain for domain in status["routing_domains"] if domain["id"] == rdid)

    def tunnel_process(self, rdid: str = BLUE) -> int | None:
        """Return the pid of the daemon in a domain's compartment."""
        for namespace in self.compartments():
            inside = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
            for pid in map(int, inside.stdout.split()):  # none where the namespace has gone meanwhile
                with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                    if f"/{rdid}/" in Path(f"/proc/{pid}/environ").read_text():
                        return pid
        return None

    def compartments(self) -> dict[str, int]:
        """Return the names of the compartments, and the inodes of their namespaces."""
        inodes = {}
        for path in namespaces.NAMESPACES.glob(f"tgw-{NAME}-*"):
            with suppress(FileNotFoundError):  # it has gone meanwhile
                inodes[path.name] = path.stat().st_ino
        return inodes

    def legs(self) -> dict[str, int]:
        """Return the gateway's ends of all compartments' interfaces, with their indexes."""
        text = namespaces.execute(namespaces.enter(NAME, "ip", "-o", "link", "show"))
        links = (line.split(": ") for line in text.splitlines())
        return {name.partition("@")[0]: int(index) for index, name, *_ in links if name.startswith(("tgi-", "tgo-"))}

    def lose_leg(self) -> None:
        """Delete the inside leg of the only compartment."""
        (leg,) = (name for name in self.legs() if name.startswith("tgi-"))
        namespaces.configure(NAME, [f"link del {leg}"])

    def left_over(self) -> list[str]:
        """Return what else there is still of the gateway outside its state directory."""
        found = [str(path) for path in (_PINS, _TUNNELS) if path.exists()]
        links = namespaces.execute(namespaces.enter(NAME, "ip", "-d", "link", "show"))
        tables = namespaces.execute(namespaces.enter(NAME, "nft", "list", "tables"))
        return found + [
            line for line in (*links.splitlines(), *tables.splitlines()) if "xdp" in line or "table" in line
        ]

    def log(self) -> str:
        """Return what the daemon has said."""
        return self._processes.log("gateway").read_text()

    def remove(self) -> None:
        self._processes.end_all()
        for compartment in self.compartments():
            for pid in namespaces.execute(["ip", "netns", "pids", compartment]).split():
                end(Process.of(compartment, int(pid)))
            namespaces.remove(compartment)
        namespaces.remove(NAME)
        for path in (_PINS, _TUNNELS):
            shutil.rmtree(path, ignore_errors=True)


def until(holds: Callable[[], Any], what: str) -> None:
    wait_until(lambda: bool(holds()), what, seconds=20)


def domain(rdid: str = BLUE, name: str = "blue", vsid: int = 6001, **more: Any) -> dict[str, Any]:
    record = {"customer_address": "10.1.1.11", "mac": "10-10-10-10-11-05", "provider_address": "192.168.6.4"}
    return {
        "id": rdid,
        "name": name,
        "virtual_subnets": [{"vsid": vsid, "prefixes": ["10.1.1.0/24"]}],
        "lookup_records": [{"vsid": vsid, **record}],
    } | more


def probed(**more: Any) -> dict[str, Any]:
    """A domain with one pool, whose only member never answers."""
    balancer = {
        "name": "web",
        "frontends": [{"name": "www", "address": "203.0.113.80", "public": True}],
        "backend_pools": [{"name": "vms", "members": [{"customer_address": "10.1.1.11"}]}],
        "probes": [{"name": "tcp", "protocol": "tcp", "port": 80, "interval_s": 1, "timeout_s": 1, "fall": 1}],
        "rules": [{"name": "http", "frontend": "www", "pool": "vms", "probe": "tcp", "protocol": "tcp", "port": 80}],
    }
    return domain(load_balancers=[balancer], **more)


def tunnelled(rdid: str = BLUE, name: str = "blue", vsid: int = 6001, **more: Any) -> dict[str, Any]:
    """A domain with a tunnel to a site that never answers."""
    connection = {
        "name": "headquarters",
        "type": "ipsec",
        "remote_address": f"198.51.100.{vsid % 250 + 1}",
        "authentication": {"method": "psk", "secret": "correct-horse-battery-staple"},
        "routes": [{"prefix": "10.2.0.0/24"}],
    } | more
    return domain(rdid, name, vsid, network_connections=[connection])
