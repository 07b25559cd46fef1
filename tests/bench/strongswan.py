"""Plain strongSwan: the far side of tunnels, and the near side of what ours is compared with."""

import re
from dataclasses import dataclass
from datetime import datetime

from deploy.lab.processes import Process, Processes
from deploy.lab.strongswan import StrongSwan
from tests.bench.tunnel_plan import SECRET, SITE_ADDRESS, Tunnel
from vpn.kernel import probe

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


def started(strongswan: StrongSwan, processes: Processes, connections: list[Connection]) -> Process:
    """Return the daemon with all connections loaded; it waits for the other side to initiate them."""
    strongswan.write("".join(each.swanctl() for each in connections), probe().in_user_space)
    process = strongswan.start(processes, strongswan.directory.name)
    strongswan.control("--load-all", "--noprompt")
    return process


def negotiated_ms(strongswan: StrongSwan, tunnel: Tunnel) -> float:
    """Return the time from the first message of a tunnel to its established CHILD_SA."""
    lines = _LINE.findall((strongswan.directory / "charon.log").read_text())
    ended, association = next(
        (when, number)
        for when, name, number, what in lines
        if name == tunnel.name and what.startswith("CHILD_SA") and "established" in what
    )
    began = next(when for when, _, number, _ in lines if number == association)
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds() * 1000
