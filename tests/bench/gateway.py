"""The gateway under test: its daemon, fed over HTTPS."""

import socket
import struct
from contextlib import ExitStack
from pathlib import Path

from tests.bench import plan, policies
from tests.bench.control import MEMORY_MB
from tests.bench.daemon import Daemon, as_body
from tests.bench.namespaces import inside
from tests.bench.plan import Plan
from tests.bench.policies import Direction
from tests.bench.rig import CORPNET_MAC, OUTSIDE, Rig, Router, address_provider_side

_DOMAINS = Plan(1_000).domains


class DaemonGateway:
    """A gateway whose policy is pushed whole before each group of rows."""

    def __init__(self, rig: Rig, directory: Path) -> None:
        self._lifetime = rig.lifetime.enter_context(ExitStack())
        self.router: Router = rig.add("gateway")
        address_provider_side(self.router, Plan(1_000))
        self._daemon = Daemon(self.router, directory, MEMORY_MB, self._lifetime)
        with inside(OUTSIDE):
            self._corpnet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._corpnet.bind((self.router.far_end("external"), 0))
        self._lifetime.enter_context(self._corpnet)

    def program(self, policy: Plan, encapsulation: str, listed: Direction | None = None) -> None:
        self._daemon.put("/v1/policy", as_body(policies.document(policy, encapsulation, listed)))

    def introduce_corpnet(self) -> None:
        """Ask for the gateway's address on every VLAN, as CorpNet's router."""
        for domain in range(_DOMAINS):
            self._corpnet.send(_arp_request(vlan=domain + 1))

    def close(self) -> None:
        self._lifetime.close()


def _arp_request(vlan: int) -> bytes:
    """RFC 826."""
    sender, broadcast = bytes.fromhex(CORPNET_MAC.replace(":", "")), b"\xff" * 6
    next_hop, local = (socket.inet_aton(address) for address in (plan.CORPNET_NEXT_HOP, plan.CORPNET_LOCAL))
    ethernet = broadcast + sender + struct.pack(">HHH", 0x8100, vlan, 0x0806)
    return ethernet + struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + sender + next_hop + bytes(6) + local
