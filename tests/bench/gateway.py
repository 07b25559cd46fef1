"""The gateway under test for packet rates: the real programs and the real programmer, in this process."""

import shutil
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy

from gateway.configuration import load
from gateway.datapath.build import build
from gateway.datapath.connections import WORDS_PER_LINE, Entries
from gateway.datapath.layout import Layout
from gateway.datapath.loader import Datapath
from gateway.datapath.pins import PinDirectory
from gateway.policy.document import parse_json
from gateway.policy.model import Policy
from gateway.programming.block import LINE_BYTES
from gateway.programming.choices import States
from gateway.programming.programmer import Programmer
from gateway.underlay.hop import Hop
from gateway.underlay.network import Link
from gateway.underlay.underlay import Underlay
from tests.bench import plan, policies
from tests.bench.daemon import External, as_body, configuration
from tests.bench.namespaces import inside
from tests.bench.plan import Plan
from tests.bench.policies import Direction, Document
from tests.bench.rig import CORPNET_MAC, OUTSIDE, Rig, Router, address_provider_side

_DOMAINS = Plan(1_000).domains
_SIZES = {"arena": 64, "connections": 1 << 20}  # chunks of 4 MB; lines of 64 bytes
_PATIENCE = 30  # seconds


class GatewayUnderTest:
    """A gateway between two wires; gone with its pins after `close`."""

    def __init__(self, rig: Rig, directory: Path, external: External = "corpnet") -> None:
        self._lifetime = rig.lifetime.enter_context(ExitStack())
        self._external = external
        self.router: Router = rig.add("gateway" if external == "corpnet" else "balancer")
        address_provider_side(self.router, Plan(1_000))
        self._hops_changed = threading.Event()
        with inside(self.router.namespace):
            self._programmer = self._start(directory)
        with inside(OUTSIDE):
            self._outside = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._outside.bind((self.router.far_end("external"), 0))
        self._lifetime.enter_context(self._outside)

    def program(self, policy: Plan, encapsulation: str, listed: Direction | None = None) -> None:
        """Make it forward by a new policy, without any connection from before. Errors: RuntimeError."""
        self.apply(policies.document(policy, encapsulation, listed))

    def apply(self, document: Document) -> None:
        """Make it forward by a new policy, without any connection from before. Errors: RuntimeError."""
        with inside(self.router.namespace):
            self._programmer.apply(Policy((), ()))
            errors = self._programmer.apply(parse_json(as_body(document)))
        if errors:
            raise RuntimeError(f"{len(errors)} domains could not be programmed: {next(iter(errors.values()))}")
        while unresolved := self._programmer.unresolved():
            if not self._hops_changed.wait(_PATIENCE):
                raise RuntimeError(f"no way to {', '.join(unresolved)} within {_PATIENCE} s")
            self._hops_changed.clear()

    def introduce_outside(self) -> None:
        """Ask for the gateway's address as the router outside: CorpNet's on every VLAN, or the Internet's."""
        if self._external == "internet":
            self._outside.send(_arp_request(plan.INTERNET_NEXT_HOP, plan.INTERNET_LOCAL))
            return
        for domain in range(_DOMAINS):
            tag = struct.pack(">HH", 0x8100, domain + 1)
            self._outside.send(_arp_request(plan.CORPNET_NEXT_HOP, plan.CORPNET_LOCAL, tag))

    def used_bytes(self) -> int:
        """Return how much of the table memory holds something."""
        return self._programmer.used_lines()[0] * LINE_BYTES

    def take_states(self, domain_id: str, states: States) -> None:
        """Let members count as these states say from here on. Errors: RuntimeError."""
        if errors := self._programmer.health_changed(domain_id, states):
            raise RuntimeError(f"the states could not be programmed: {errors[domain_id]}")

    def connections_in_use(self, family: Literal["IPv4", "IPv6"]) -> tuple[int, int]:
        """Return how many connections there are, and the bytes of the table that are in use for them."""
        domains = self._datapath.maps["domains"].records(self._layout.struct("domain"))
        table = self._datapath.maps["connections"].mmap().view(numpy.uint64).reshape(-1, WORDS_PER_LINE)
        number = family.removeprefix("IPv")
        regions = [Entries.in_use(table, row, number) for row in domains[domains[f"connections{number}_lines"] > 0]]
        connections = sum(int(numpy.count_nonzero(region.ends)) for region in regions)
        return connections, sum(region.ends.nbytes + region.addresses.nbytes for region in regions)

    def close(self) -> None:
        self._lifetime.close()

    def _start(self, directory: Path) -> Programmer:
        directory.mkdir()
        pin_directory = Path(f"/sys/fs/bpf/{self.router.namespace}")
        shutil.rmtree(pin_directory, ignore_errors=True)
        self._lifetime.callback(shutil.rmtree, pin_directory, ignore_errors=True)
        file = directory / "gateway.toml"
        file.write_text(configuration(directory, pin_directory, self._external))
        settings = load(file)
        pins = self._lifetime.enter_context(PinDirectory.hold(pin_directory, directory / "lock"))
        self._layout = Layout.of(build())
        self._datapath = Datapath.create(pins, build(), sizes=_SIZES)
        self._lifetime.callback(self._datapath.close)
        programmer = Programmer(self._datapath, self._layout, settings)

        def hops_changed(changes: Mapping[str, Hop | None]) -> None:
            programmer.hops_changed(changes)
            self._hops_changed.set()

        def links_changed(changes: Mapping[str, Link | None]) -> None:
            programmer.links_changed(changes)

        underlay = Underlay(settings.provider_addresses(), hops_changed, links_changed)
        self._lifetime.callback(underlay.close)
        programmer.follow(underlay)
        return programmer


def _arp_request(asker: str, wanted: str, tag: bytes = b"") -> bytes:
    """RFC 826."""
    sender, broadcast = bytes.fromhex(CORPNET_MAC.replace(":", "")), b"\xff" * 6
    ethernet = broadcast + sender + tag + struct.pack(">H", 0x0806)
    request = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1)
    return ethernet + request + sender + socket.inet_aton(asker) + bytes(6) + socket.inet_aton(wanted)
