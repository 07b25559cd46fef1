"""A strongSwan that is not the gateway's: one daemon in a namespace, configured by hand."""

import socket
from dataclasses import dataclass
from pathlib import Path

from deploy.lab.namespaces import enter, execute
from deploy.lab.processes import Process, Processes

PLUGINS = "random nonce openssl aes gcm sha2 hmac kdf pem pkcs1 pkcs8 pubkey x509 constraints"
SETTINGS = """\
charon {{
  load_modular = no
  load = {plugins} {kernel} socket-default updown vici
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


@dataclass(frozen=True, slots=True)
class StrongSwan:
    """`directory` has its settings, what swanctl(8) loads, its log and its socket."""

    namespace: str
    directory: Path

    def write(self, connections: str, in_user_space: bool) -> None:
        """Make the directory, with a swanctl.conf of this text; `in_user_space`: the kernel has no ESP."""
        self.directory.mkdir()
        kernel = "kernel-libipsec kernel-netlink" if in_user_space else "kernel-netlink"
        settings = SETTINGS.format(plugins=PLUGINS, kernel=kernel, directory=self.directory)
        (self.directory / "strongswan.conf").write_text(settings)
        (self.directory / "swanctl.conf").write_text(connections)

    def start(self, processes: Processes, name: str) -> Process:
        """Start it as the process of this name, and return when it takes commands."""
        (self.directory / "vici").unlink(missing_ok=True)
        told = {"STRONGSWAN_CONF": str(self.directory / "strongswan.conf")}
        process = processes.start(name, self.namespace, "charon-systemd", environment=told)
        processes.wait(process, self._answers, "took commands")
        return process

    def control(self, *arguments: str) -> str:
        """Return the output of swanctl. Errors: CommandError."""
        told = ("env", f"SWANCTL_DIR={self.directory}")
        uri = ("--uri", f"unix://{self.directory}/vici")
        return execute(enter(self.namespace, *told, "swanctl", *arguments, *uri))

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as vici:
            return vici.connect_ex(str(self.directory / "vici")) == 0
