"""Compartments with endpoints of ours, sites with plain strongSwan configured by hand, and an Internet between them.

What stands for the datapath is an Internet that routes and, by each inside, a VM: nothing here is encapsulated.
"""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.compartments.compartments import Compartments
from gateway.compartments.entering import run_in
from gateway.compartments.specification import Compartment, CompartmentSpecification
from gateway.policy.model import ConnectionRoute, IpsecConnection, PskAuthentication, TrafficSelectors
from gateway.policy.secret import Secret
from vpn.kernel import Backend
from vpn.service import VpnService
from vpn.specification import EndpointSpecification
from vpn.status import ConnectionStatus

PATIENCE = 20.0  # seconds until a test gives up; nothing waits this long when all is well
PREFIX = f"tgwv{os.getpid()}"
ROUTER_MAC = "00-1D-D8-B7-1C-00"
VM, SERVER = ("10.1.1.11", "fd00:1::11"), ("10.2.0.10", "fd00:2::10")
CLOUD, SITE = ("10.1.1.0/24", "fd00:1::/64"), ("10.2.0.0/24", "fd00:2::/64")
SECRET = "correct-horse-battery-staple"
_VM_NEXT_HOPS = ("169.254.7.7", "fe80::7")
_SETTINGS = """
charon {{
  block_threshold = 1000  # never: tests try again and again, from one address
  retransmit_tries = 3
  retransmit_timeout = 1.0
  retransmit_base = 1.4
  load_modular = no
  load = {plugins}
  plugins {{ vici {{ socket = unix://{directory}/vici }} }}
  filelog {{ log {{ path = {directory}/log
    default = 1
    flush_line = yes }} }}
  journal {{ default = -1 }}
}}
charon-systemd {{ journal {{ default = -1 }} }}
"""
_PLUGINS = "random nonce openssl aes gcm sha2 hmac kdf pem pkcs1 pkcs8 pubkey x509 constraints {} socket-default vici"


def run(command: str, check: bool = True) -> str:
    result = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, f"{command}: {result.stderr}{result.stdout}"
    return result.stdout


def until(holds: Callable[[], Any], why: str) -> Any:
    """Ask again and again, until it holds; give up after a while."""
    deadline = time.monotonic() + PATIENCE
    while not (held := holds()):
        assert time.monotonic() < deadline, why
        time.sleep(0.02)
    return held


class Namespace:
    """A network namespace of the rig."""

    def __init__(self, name: str) -> None:
        self.name = f"{PREFIX}-{name}"
        self.path = f"/run/netns/{self.name}"
        run(f"ip netns add {self.name}")
        self.ip("link set lo up")

    def ip(self, command: str) -> str:
        return run(f"ip -n {self.name} {command}")

    def run(self, command: str, check: bool = True) -> str:
        return run(f"ip netns exec {self.name} {command}", check)

    def start(self, command: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *command.split()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def forward(self) -> None:
        self.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")

    def replies(self, address: str, count: int = 3, source: str = "") -> int:
        """Ping; return how many came back."""
        option = f"-I {source}" if source else ""
        text = self.run(f"ping -n -c {count} -i 0.05 -W 1 {option} {address}", check=False)
        return text.count("bytes from")

    def remove(self) -> None:
        run(f"ip netns del {self.name}")


@dataclass
class Domain:
    """A routing domain: its compartment, and the namespace of its one VM."""

    name: str
    vm: Namespace
    compartment: Compartment
    outside: tuple[str, ...]
    connections: tuple[IpsecConnection, ...] = ()
    path_mtu: int = 1500

    def specification(self) -> EndpointSpecification:
        assert self.compartment.outside
        return EndpointSpecification(
            routing_domain=self.name,
            namespace=self.compartment.namespace,
            inside=self.compartment.inside.name,
            outside=self.compartment.outside.name,
            connections=self.connections,
            path_mtu=self.path_mtu,
            legs=(self.compartment.inside.index, self.compartment.outside.index),
        )

    def run(self, command: str, check: bool = True) -> str:
        """Run a command in the compartment."""
        return run(f"nsenter --net={self.compartment.namespace} -- {command}", check)


class Site:
    """A site with servers, behind a gateway that runs strongSwan as its manual says."""

    def __init__(self, name: str, namespace: Namespace, directory: Path, backend: Backend) -> None:
        self.namespace = namespace
        self._directory = directory / name
        self._directory.mkdir()
        kernel = "kernel-libipsec kernel-netlink" if backend.in_user_space else "kernel-netlink"
        settings = _SETTINGS.format(plugins=_PLUGINS.format(kernel), directory=self._directory)
        (self._directory / "strongswan.conf").write_text(settings)
        self._process: subprocess.Popen[str] | None = None

    def start(self, configuration: str, files: Mapping[str, str] | None = None) -> None:
        """Start strongSwan and load a swanctl.conf; `files` lie beside it."""
        (self._directory / "vici").unlink(missing_ok=True)
        environment = {**os.environ, "STRONGSWAN_CONF": f"{self._directory}/strongswan.conf"}
        self._process = run_in(
            self.namespace.path, lambda: subprocess.Popen(["charon-systemd"], env=environment, text=True)
        )
        until(self._listens, f"strongSwan of {self.namespace.name} never answered")
        self.load(configuration, files)

    def load(self, configuration: str, files: Mapping[str, str] | None = None) -> None:
        file = self._directory / "swanctl.conf"
        file.write_text(configuration)
        for name, text in (files or {}).items():
            (self._directory / name).parent.mkdir(exist_ok=True)
            (self._directory / name).write_text(text)
        self.control("--load-all --noprompt --clear")

    def control(self, command: str, check: bool = True) -> str:
        environment = {**os.environ, "SWANCTL_DIR": str(self._directory)}
        uri = f"unix://{self._directory}/vici"
        result = subprocess.run(
            ["swanctl", *command.split(), "--uri", uri], env=environment, capture_output=True, text=True, check=False
        )
        assert not check or result.returncode == 0, f"swanctl {command}: {result.stderr}{result.stdout}"
        return result.stdout + result.stderr

    def send(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        assert self._process
        self.send(number)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        if self._process:
            self.kill(signal.SIGTERM)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as vici:
            return vici.connect_ex(str(self._directory / "vici")) == 0


class Rig:
    """All of it. Addresses of the outside need not share a prefix: the Internet routes each by itself."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._namespaces: list[Namespace] = []
        self._compartments = Compartments(PREFIX, ROUTER_MAC)
        self._specifications: dict[str, CompartmentSpecification] = {}
        self.domains: dict[str, Domain] = {}
        self.sites: list[Site] = []
        self.internet = self._namespace("net")
        self.internet.forward()
        self.service = self.new_service()

    def new_service(self) -> VpnService:
        """Start a gateway's service; the one before is to be closed first."""
        return VpnService(self.directory / "vpn")

    def add_domain(self, name: str, *outside: str, only_peer: str | None = None) -> Domain:
        """Add a domain with these addresses; with `only_peer` what that one sends to them is for this domain."""
        specification = CompartmentSpecification(name, ("10.1.1.254", "fd00:1::fffe"), outside, CLOUD)
        self._specifications[name] = specification
        made = Compartments(f"{PREFIX}{name}", ROUTER_MAC)
        compartments = run_in(self.internet.path, lambda: made.reconcile({name: specification}))
        assert not made.faults, made.faults
        compartment = compartments[name]
        self._join_internet(compartment, outside, only_peer)
        domain = Domain(name, self._vm(name, compartment), compartment, outside)
        self.domains[name] = domain
        return domain

    def remove_domain(self, domain: Domain) -> None:
        """Take a domain's namespaces away, daemon or not."""
        made = Compartments(f"{PREFIX}{domain.name}", ROUTER_MAC)
        run_in(self.internet.path, lambda: made.reconcile({}))
        self._namespaces.remove(domain.vm)
        domain.vm.remove()

    def _join_internet(self, compartment: Compartment, outside: tuple[str, ...], only_peer: str | None = None) -> None:
        leg = compartment.outside
        assert leg
        mac, inner = ROUTER_MAC.replace("-", ":"), leg.mac.replace("-", ":")
        self.internet.ip(f"link set {leg.interface} address {mac}")
        for family in ("ipv4", "ipv6"):
            self.internet.run(f"sysctl -qw net.{family}.conf.{leg.interface}.forwarding=1")
        self.internet.run(f"sysctl -qw net.ipv6.conf.{leg.interface}.disable_ipv6=0")
        for address in outside:
            table = "main"
            if only_peer:
                table = str(500 + leg.index)
                self.internet.ip(f"rule add pref 500 from {only_peer} to {address} lookup {table}")
            self.internet.ip(f"route add {address} dev {leg.interface} table {table}")
            self.internet.ip(f"neigh add {address} lladdr {inner} nud permanent dev {leg.interface}")

    def _vm(self, name: str, compartment: Compartment) -> Namespace:
        """A VM as the datapath would join it to the inside: all it sends comes by the router's MAC."""
        vm = self._namespace(f"vm-{name}")
        leg = compartment.inside
        self.internet.ip(f"link set {leg.interface} netns {vm.name}")
        vm.ip(f"link set {leg.interface} name eth0 address {ROUTER_MAC.replace('-', ':')} up")
        for address in VM:
            vm.ip(f"addr add {address} dev eth0 nodad")
        for version, next_hop in zip((4, 6), _VM_NEXT_HOPS, strict=True):
            vm.ip(f"neigh add {next_hop} lladdr {leg.mac.replace('-', ':')} nud permanent dev eth0")
            vm.ip(f"-{version} route add default via {next_hop} dev eth0 onlink src {VM[version == 6]}")
        return vm

    def add_site(self, name: str, *outside: str, servers: tuple[str, ...] = SERVER) -> Site:
        namespace = self._namespace(f"site-{name}")
        namespace.forward()
        self.internet.ip(f"link add site-{name} type veth peer name eth0 netns {namespace.name}")
        self.internet.ip(f"link set site-{name} up")
        namespace.ip("link set eth0 up")
        next_hops = {4: "203.0.113.1", 6: "2001:db8:ffff::1"}
        for address in outside:
            version = 6 if ":" in address else 4
            self.internet.ip(f"addr add {next_hops[version]} dev site-{name} nodad")
            self.internet.ip(f"route add {address} dev site-{name}")
            namespace.ip(f"addr add {address} dev eth0 nodad")
            namespace.ip(f"-{version} route add default via {next_hops[version]} dev eth0 onlink")
        for address in servers:
            namespace.ip(f"addr add {address} dev lo nodad")
        site = Site(name, namespace, self.directory, self.service.backend)
        self.sites.append(site)
        return site

    def reconcile(self) -> None:
        self.service.reconcile({name: domain.specification() for name, domain in self.domains.items()})

    def status(self, domain: Domain, name: str = "site") -> ConnectionStatus:
        connections = self.service.status()[domain.name].connections
        return next(connection for connection in connections if connection.name == name)

    def connected(self, domain: Domain, name: str = "site") -> ConnectionStatus:
        """Await that a tunnel is up."""
        found: list[ConnectionStatus] = []

        def is_up() -> bool:
            found[:] = [self.status(domain, name)]
            return found[0].state == "connected"

        until(is_up, f"{domain.name}: not connected")
        return found[0]

    def _namespace(self, name: str) -> Namespace:
        namespace = Namespace(name)
        self._namespaces.append(namespace)
        return namespace

    def close(self) -> None:
        self.service.reconcile({})
        for site in self.sites:
            site.stop()
        self.service.close()
        for name in self.domains:
            made = Compartments(f"{PREFIX}{name}", ROUTER_MAC)
            run_in(self.internet.path, lambda made=made: made.reconcile({}))
        for namespace in reversed(self._namespaces):
            namespace.remove()


@contextmanager
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir="/run") as directory:
        built = Rig(Path(directory))
        try:
            yield built
        finally:
            built.close()


def connection(domain: Domain, peer: str, **changes: Any) -> IpsecConnection:
    """A connection of the name "site", as policy has it."""
    version = 6 if ":" in peer else 4
    local = next(address for address in domain.outside if (":" in address) == (version == 6))
    plain = IpsecConnection(
        name="site",
        local_address=local,
        remote_address=peer,
        local_id=f"{domain.name}.gateway.example",
        remote_id=f"site.{domain.name}.example",
        authentication=PskAuthentication(secret=Secret(SECRET)),
        traffic_selectors=TrafficSelectors(local=CLOUD, remote=SITE),
        routes=tuple(ConnectionRoute(prefix) for prefix in SITE),
    )
    return replace(plain, **changes)


def swanctl(wanted: IpsecConnection, **changes: str) -> str:
    """What the site's administrator writes for that connection."""
    words = {
        "proposals": "aes256-sha256-ecp256",
        "esp_proposals": "aes128gcm16",
        "local_ts": ", ".join(SITE),
        "remote_ts": ", ".join(CLOUD),
        "local_id": wanted.remote_id,
        "remote_id": wanted.local_id,
        "secret": SECRET,
        "authentication": "auth = psk",
        "certificates": "",
        "encap": "no",
        "our_address": str(wanted.local_address),
    } | changes
    return f"""
connections {{ site {{
  version = 2
  local_addrs = {wanted.remote_address}
  remote_addrs = {words["our_address"]}
  proposals = {words["proposals"]}
  encap = {words["encap"]}
  local {{ {words["authentication"]}
    {words["certificates"]}
    id = {words["local_id"]} }}
  remote {{ {words["authentication"]}
    id = {words["remote_id"]} }}
  children {{ site {{
    local_ts = {words["local_ts"]}
    remote_ts = {words["remote_ts"]}
    esp_proposals = {words["esp_proposals"]} }} }} }} }}
secrets {{ ike-site {{
  id-1 = {words["local_id"]}
  id-2 = {words["remote_id"]}
  secret = {words["secret"]} }} }}
"""
