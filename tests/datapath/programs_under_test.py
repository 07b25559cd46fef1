"""The real programs in a network namespace of their own, fed by the real programmer, one frame at a time."""

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy

from gateway.compartments.specification import Compartment
from gateway.configuration import Datapath as DatapathSettings
from gateway.configuration import GatewayConfiguration, Port
from gateway.datapath import test_run
from gateway.datapath.build import build
from gateway.datapath.layout import Layout
from gateway.datapath.loader import Datapath
from gateway.datapath.model.verdict import Verdict
from gateway.datapath.model.world import Interface, UnderlayHop, World
from gateway.datapath.pins import PinDirectory
from gateway.datapath.ring_buffer import RingBuffer
from gateway.policy.model import Policy
from gateway.programming.encoding import mac_bytes, words_of
from gateway.programming.ports import neighbour_line
from gateway.programming.programmer import Programmer
from gateway.underlay.hop import Hop
from gateway.underlay.network import Link
from tests.datapath.loader_support import index, ip, mounted_bpffs, own_network

CAPTURE_ON = 1
SIZES = {"arena": 1, "connections": 1 << 18, "captured": 1 << 20}
XDP_ACTIONS = {1: "dropped", 2: "passed", 3: "sent back", 4: "redirected"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the programs did with a frame, in the words of the model's Verdict."""

    action: str
    reason: str | None
    domain: str | None
    interface: str | None
    frame: bytes | None

    @classmethod
    def of(cls, verdict: Verdict) -> "Outcome":
        """What they should have done."""
        reason = str(verdict.reason) if verdict.reason else None
        return cls(str(verdict.action), reason, verdict.domain, verdict.interface, verdict.frame)


class ProgramsUnderTest:
    """One loaded datapath whose policy, ports and surroundings are set from a world of the model's."""

    def __init__(self, datapath: Datapath, interfaces: Mapping[str, Interface]) -> None:
        self.datapath = datapath
        self.layout = Layout.of(build())
        self.verdicts = {value: name for name, value in self.layout.enum("verdict").items()}
        self._record = self.layout.struct("capture_record")
        self._captured = RingBuffer(datapath.maps["captured"])
        self._indexes: dict[str, int] = {}
        self.set_interfaces(interfaces)

    def set_interfaces(self, interfaces: Mapping[str, Interface]) -> None:
        for interface in interfaces.values():
            if interface.name not in self._indexes:
                ip(f"link add {interface.name} type veth peer name {interface.name}-peer")
                Path(f"/proc/sys/net/ipv6/conf/{interface.name}/disable_ipv6").write_text("1")
                ip(f"link set {interface.name} address {interface.mac.replace('-', ':')} up")
                self._indexes[interface.name] = index(interface.name)
        self._names = {number: name for name, number in self._indexes.items()}

    def place(self, world: World) -> dict[str, str]:
        """Make the datapath what the world is; everything learned before is forgotten."""
        for name in (
            "arena",
            "root",
            "tables",
            "choices",
            "domains",
            "endpoints",
            "ports",
            "connections",
            "neighbours",
        ):
            self.datapath.maps[name].mmap()[:] = 0
        self.set_interfaces(world.interfaces)
        self.programmer = self.restarted(world.ports, world.router_mac, world.dscp)
        self.programmer.links_changed(
            {
                each.name: Link(each.name, self._indexes[each.name], mac_bytes(each.mac), each.mtu, True)
                for each in world.interfaces.values()
            }
        )
        errors = self.programmer.apply(world.policy)
        errors |= self.programmer.compartments_changed(
            {rdid: self._with_indexes(each) for rdid, each in world.compartments.items()}
        )
        self.programmer.hops_changed({address: self._hop(hop) for address, hop in world.underlay.items()})
        self._learn(world)
        self.numbers = {number: rdid for rdid, number in self.programmer.numbers().items()}
        self.datapath.maps["root"].records(self.layout.struct("root"))["capture"] = CAPTURE_ON
        self.refill_answers()
        return errors

    def restarted(self, ports: tuple[Port, ...], router_mac: str, dscp: str) -> Programmer:
        """A programmer that finds what another one left."""
        settings = DatapathSettings.model_validate({"dscp": dscp})
        configuration = GatewayConfiguration(router_mac=router_mac, ports=ports, datapath=settings)
        return Programmer(self.datapath, self.layout, configuration)

    def apply(self, policy: Policy) -> dict[str, str]:
        errors = self.programmer.apply(policy)
        self.numbers = {number: rdid for rdid, number in self.programmer.numbers().items()}
        return errors

    def refill_answers(self) -> None:
        for name in ("answer_budgets", "fragment_budgets"):
            budgets = self.datapath.maps[name]
            for number in range(16):
                budgets.update(number.to_bytes(4, "little"), bytes(budgets.value_size))

    def process(self, interface: str, frame: bytes) -> Outcome:
        """Run a frame of at least 14 bytes through the programs."""
        action, after = test_run.run(self.datapath.programs["gateway"], frame, self._indexes[interface])
        records = self._captured.consume()
        assert records, f"no verdict was captured for {frame.hex()}"
        record = numpy.frombuffer(records[-1], self._record)[0]
        assert action in XDP_ACTIONS, f"XDP action {action}"
        return self._outcome(int(record["verdict"]), int(record["domain"]), int(record["egress"]), after)

    def flood(self, interface: str, frame: bytes, times: int) -> None:
        """Run a frame many times; nobody looks at what becomes of it."""
        program, index = self.datapath.programs["gateway"], self._indexes[interface]
        for _ in range(times):
            test_run.run(program, frame, index)

    def captured_domains(self) -> list[str | None]:
        """Whose the frames were that have been captured and not looked at."""
        records = (numpy.frombuffer(one, self._record)[0] for one in self._captured.consume())
        return [self.numbers.get(int(record["domain"])) for record in records]

    def _outcome(self, number: int, domain: int, egress: int, frame: bytes) -> Outcome:
        name = self.verdicts[number]
        rdid = self.numbers.get(domain) if name != "VERDICT_PASSED" else None
        out = self._names[egress] if egress else None
        if name.startswith("DROP_"):
            return Outcome("dropped", name.removeprefix("DROP_").lower(), rdid, out, frame if out else None)
        action = name.removeprefix("VERDICT_").lower()
        return Outcome(action, None, rdid, out, frame if out else None)

    def _hop(self, hop: UnderlayHop | None) -> Hop | None:
        if hop is None:
            return None
        number = self._indexes[hop.interface]
        return Hop(hop.interface, number, hop.vlan, hop.source, b"", mac_bytes(hop.destination_mac), hop.mtu)

    def _with_indexes(self, compartment: Compartment) -> Compartment:
        inside, outside = (
            replace(leg, index=self._indexes[leg.interface]) if leg else None
            for leg in (compartment.inside, compartment.outside)
        )
        assert inside
        return replace(compartment, inside=inside, outside=outside)

    def _learn(self, world: World) -> None:
        """Write the neighbours that the world knows, as the programs would have, where a port is some domain's."""
        ports = self.datapath.maps["ports"].records(self.layout.struct("port"))
        places = {(int(row["interface"]), int(row["vlan"])): row for row in ports if row["interface"]}
        memory = self.datapath.maps["neighbours"].mmap().reshape(-1, 64)
        for (interface, vlan, address), mac in world.neighbours.items():
            row = places.get((self._indexes[interface], vlan))
            if row is not None:
                _write_neighbour(memory, row, address, mac_bytes(mac), self.layout)


def _write_neighbour(memory: numpy.ndarray, port: numpy.void, address: str, mac: bytes, layout: Layout) -> None:
    six = ":" in address
    entries = memory[neighbour_line(port, address)].view(layout.struct("neighbour6" if six else "neighbour"))
    entry = next(each for each in entries if not each["address"].any())
    entry["mac"], entry["seen"] = list(mac), int(time.monotonic())
    entry["address"] = words_of(address) if six else words_of(address)[3]


@contextmanager
def programs_under_test(directory: Path, interfaces: Mapping[str, Interface]) -> Iterator[ProgramsUnderTest]:
    """Load the datapath in a namespace of its own."""
    with (
        own_network(),
        mounted_bpffs(directory / "bpf") as bpffs,
        PinDirectory.hold(bpffs / "pins", directory / "lock") as pins,
    ):
        datapath = Datapath.create(pins, build(), SIZES)
        try:
            yield ProgramsUnderTest(datapath, interfaces)
        finally:
            datapath.remove()


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
