"""Plain strongSwan, configured by hand: the far side of tunnels, and the near side of what ours is compared with."""

import re
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from deploy.lab.namespaces import enter, execute
from deploy.lab.processes import Process, Processes
from tests.bench.tunnel_plan import SECRET, SITE_ADDRESS, Tunnel
from vpn.kernel import probe

_SETTINGS = """\
charon {{
  load_modular = no
  load = {plugins}
  threads = 16
  retransmit_tries = 3
  retransmit_timeout = 1.0
  retransmit_base = 1.4
  plugins {{ vici {{ socket = unix://{directory}/vici }} }}
  filelog {{ log {{
    path = {directory}/charon.log
    time_format = %Y-%m-%dT%H:%M:%S
    time_add_ms = yes
    ike_name = yes
    flush_line = yes
    default = 1
  }} }}
}}
charon-systemd {{ journal {{ default = -1 }} }}
"""
_PLUGINS = "random nonce openssl aes gcm sha2 hmac kdf pem pkcs1 pkcs8 pubkey x509 {kernel} socket-default vici"
_LINE = re.compile(r"^(\S+) \d+\[\w+\] <(?:(\w+)\|)?(\d+)> (.*)$", re.MULTILINE)  # when, whose, which IKE_SA, what


@dataclass(frozen=True, slots=True)
class Connection:
    """A tunnel as one of its ends sees it."""

    tunnel: Tunnel
    at_site: bool

    def swanctl(self) -> str:
        """Return it in the words of swanctl.conf."""
        cloud = (self.tunnel.outside, self.tunnel.identities[0], self.tunnel.cloud)
        site = (SITE_ADDRESS, self.tunnel.identities[1], self.tunnel.site)
        ours, theirs = (site, cloud) if self.at_site else (cloud, site)
        name = self.tunnel.name
        return f"""
connections {{ {name} {{
  version = 2
  local_addrs = {ours[0]}
  remote_addrs = {theirs[0]}
  proposals = aes256-sha256-ecp256
  local {{ auth = psk
    id = {ours[1]} }}
  remote {{ auth = psk
    id = {theirs[1]} }}
  children {{ {name} {{
    local_ts = {ours[2]}
    remote_ts = {theirs[2]}
    esp_proposals = aes128gcm16 }} }} }} }}
secrets {{ ike-{name} {{
  id-1 = {ours[1]}
  id-2 = {theirs[1]}
  secret = {SECRET} }} }}
"""


@dataclass(frozen=True, slots=True)
class StrongSwan:
    """One daemon in a namespace; its files lie in `directory`."""

    namespace: str
    directory: Path

    def start(self, processes: Processes, connections: list[Connection]) -> Process:
        """Return when all connections are loaded; it waits for the other side to initiate them."""
        self.directory.mkdir()
        kernel = "kernel-libipsec kernel-netlink" if probe().in_user_space else "kernel-netlink"
        settings = _SETTINGS.format(plugins=_PLUGINS.format(kernel=kernel), directory=self.directory)
        (self.directory / "strongswan.conf").write_text(settings)
        (self.directory / "swanctl.conf").write_text("".join(each.swanctl() for each in connections))
        told = {"STRONGSWAN_CONF": str(self.directory / "strongswan.conf")}
        process = processes.start(self.directory.name, self.namespace, "charon-systemd", environment=told)
        processes.wait(process, self._answers, "took commands")
        self.control("--load-all", "--noprompt")
        return process

    def control(self, *arguments: str) -> str:
        """Return the output of swanctl."""
        told = ("env", f"SWANCTL_DIR={self.directory}")
        uri = ("--uri", f"unix://{self.directory}/vici")
        return execute(enter(self.namespace, *told, "swanctl", *arguments, *uri))

    def negotiated_ms(self, tunnel: Tunnel) -> float:
        """Return the time from the first message of a tunnel to its established CHILD_SA."""
        lines = _LINE.findall((self.directory / "charon.log").read_text())
        ended, association = next(
            (when, number)
            for when, name, number, what in lines
            if name == tunnel.name and what.startswith("CHILD_SA") and "established" in what
        )
        began = next(when for when, _, number, _ in lines if number == association)
        return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds() * 1000

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as vici:
            return vici.connect_ex(str(self.directory / "vici")) == 0
