"""Tenants' premises, which are not our code: a router with plain strongSwan, and a server behind it.

The router answers ARP for what moved to the cloud (proxy ARP), and sends nothing of its networks out in clear.
"""

import ipaddress
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploy.lab import namespaces
from deploy.lab.errors import CommandError
from deploy.lab.network import FORWARDING
from deploy.lab.processes import listens
from deploy.lab.running import RunningLab
from deploy.lab.strongswan import StrongSwan
from deploy.lab.topology import Office, router_of

INTERNET = "internet"
CONNECTION = "cloud"  # in every office's swanctl.conf
NONE_THERE = "no matching SAs"  # as swanctl says it
DNS_PORT = 53
DATABASE_PORT = 5432
PRIVATE_NETWORKS = "10.0.0.0/8"
STATE = "src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1000 mode tunnel aead rfc4106(gcm(aes))"


def build(lab: RunningLab, office: Office) -> None:
    """Needs the Internet's node."""
    network = ipaddress.ip_interface(office.address).network
    router = router_of(str(network))
    for node in office.name, office.server:
        namespaces.create(lab.namespace(node))
    lab.connect(office.name, "eth0", INTERNET, office.name)
    lab.connect(office.server, "eth0", office.name, "eth1")
    for node in INTERNET, office.name:
        namespaces.set_sysctls(lab.namespace(node), **FORWARDING)
    proxy = {"ipv4__conf__eth1__proxy_arp": 1, "ipv4__neigh__eth1__proxy_delay": 0}
    namespaces.set_sysctls(lab.namespace(office.name), **proxy)
    lab.configure(INTERNET, f"addr add {router}/{network.prefixlen} dev {office.name}")
    lab.configure(
        office.name,
        f"addr add {office.address} dev eth0",
        *(f"addr add {address} dev eth1" for address in office.networks),
        f"route add default via {router}",
        f"route add unreachable {PRIVATE_NETWORKS}",
    )
    inside, _, _ = office.networks[0].partition("/")
    addresses = (f"addr add {address} dev eth0" for address in office.server_addresses)
    lab.configure(office.server, *addresses, f"route add default via {inside}")


def start_servers(lab: RunningLab, office: Office) -> None:
    """Start the server's database and, where it answers for names, its DNS server."""
    namespace = lab.namespace(office.server)
    database = (sys.executable, "-m", "deploy.lab.database", office.domain, str(DATABASE_PORT))
    started = [(lab.processes.start(f"{office.server}-database", namespace, *database), DATABASE_PORT)]
    if office.dns:
        entries = (f"--host-record={name},{address}" for name, address in office.dns)
        alone = ("--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--no-resolv", "--no-hosts")
        dns = ("dnsmasq", *alone, "--user=root", *entries)
        started.append((lab.processes.start(f"{office.server}-dns", namespace, *dns), DNS_PORT))
    for process, port in started:
        lab.processes.wait(process, partial(listens, process, port), f"listened on {port}")


@dataclass(frozen=True, slots=True)
class Router:
    """The strongSwan of an office, and the directory with what its administrator wrote."""

    lab: RunningLab
    office: Office

    @property
    def directory(self) -> Path:
        return self.lab.directory / self.office.name

    @property
    def _strongswan(self) -> StrongSwan:
        return StrongSwan(self.lab.namespace(self.office.name), self.directory)

    @property
    def process_name(self) -> str:
        return f"{self.office.name}-charon"

    def write(self, credentials: dict[str, str]) -> None:
        """Lay strongSwan's files out as swanctl(8) wants them."""
        self._strongswan.write(self.office.configuration_path.read_text(), in_user_space=not self._kernel_has_esp())
        if self.office.certified:
            for place, word in (
                ("x509ca/authority.pem", "authority"),
                ("x509/office.pem", "office-certificate"),
                ("private/office.pem", "office-key"),
            ):
                (self.directory / place).parent.mkdir()
                (self.directory / place).write_text(credentials[f"{self.office.name}-{word}"])

    def start(self) -> None:
        self._strongswan.start(self.lab.processes, self.process_name)
        self.load()

    def load(self) -> None:
        """Let strongSwan read its swanctl.conf."""
        self.control("--load-all", "--noprompt", "--clear")

    def close_tunnels(self) -> None:
        """End all tunnels, if there are any; the gateway is told so, and not waited for."""
        try:
            self.control("--terminate", "--ike", CONNECTION, "--force")
        except CommandError as error:
            if NONE_THERE not in str(error):
                raise

    def begin_anew(self) -> None:
        """Connect from the office's side, as one with a new address must: the gateway may only notice in a while."""
        self.close_tunnels()
        self.connect()

    def connect(self) -> None:
        """Connect, unless the gateway was faster: strongSwan refuses a second tunnel like the first."""
        try:
            self.control("--initiate", "--child", CONNECTION)
        except CommandError:
            if not self.connected():
                raise

    def connected(self) -> bool:
        """Tell whether a tunnel carries traffic, as far as this end knows."""
        return "INSTALLED" in self.control("--list-sas")

    def control(self, *arguments: str) -> str:
        """Return the output of swanctl. Errors: CommandError."""
        return self._strongswan.control(*arguments)

    def _kernel_has_esp(self) -> bool:
        """Tell whether the kernel takes an ESP state, in the office's namespace; it is removed at once."""
        try:
            self.lab.run(self.office.name, "ip", "xfrm", "state", "add", *STATE.split(), f"0x{'00' * 20}", "128")
        except CommandError:
            return False
        self.lab.run(self.office.name, "ip", "xfrm", "state", "flush")
        return True
