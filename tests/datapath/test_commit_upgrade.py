"""A new version of the datapath, or another size of it, takes over with the connections that there are."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from socket import if_nametoindex
from typing import Any

import numpy
import pytest

from gateway.adoption import Adopted, adopt
from gateway.configuration import Datapath as DatapathSettings
from gateway.configuration import GatewayConfiguration, Port
from gateway.datapath import build
from gateway.datapath.layout import Layout
from gateway.datapath.loader import Datapath
from gateway.datapath.pins import PinDirectory
from gateway.policy.balancing import BackendPool, BalancingRule, Frontend, LoadBalancer, PoolMember
from gateway.policy.model import Policy
from gateway.programming.encoding import mac_bytes
from gateway.programming.programmer import Programmer
from gateway.underlay.network import Link
from lb.pools import Choice, pool_states
from tests.datapath.loader_support import ip, mounted_bpffs, needs_root, own_network
from tests.unit.model.support import BLUE, BLUE_DOMAIN, PORTS, RED_DOMAIN, make_world

pytestmark = needs_root

INTERNET_PORT = Port(name="internet", role="external", interface="x1", vlan=40, addresses=("198.51.100.1/24",))
MEMBERS = ("10.1.6.21", "10.1.1.11", "10.1.1.12")
TCP, TRANSLATED, ANSWERED, IDLE = 6, 16 << 8, 2 << 8, 22 << 24
CHOICE = Choice("web", "web", None)


def balanced(*members: str) -> Policy:
    balancer = LoadBalancer(
        "web",
        frontends=(Frontend("public", "198.51.100.80", True),),
        backend_pools=(BackendPool("web", tuple(map(PoolMember, members))),),
        rules=(BalancingRule("www", "public", "web", "tcp", 80),),
    )
    return Policy(routing_domains=(RED_DOMAIN, replace(BLUE_DOMAIN, load_balancers=(balancer,))))


@dataclass
class Version:
    """A datapath and the programmer that feeds it."""

    datapath: Datapath
    programmer: Programmer

    def region(self, rdid: str, family: str, kind: str) -> Any:
        layout = self.datapath.maps["domains"].layout()
        row = self.datapath.maps["domains"].records(layout.struct("domain"))[self.programmer.numbers()[rdid]]
        first, lines = int(row[f"connections{family}"]), int(row[f"connections{family}_lines"])
        memory = self.datapath.maps["connections"].mmap()
        return memory[first * 64 : (first + lines) * 64].view(layout.struct(kind))

    def clients(self, rdid: str = BLUE) -> dict[int, tuple[int, int]]:
        """Rule and member of each translated IPv4 connection, by its client."""
        entries = self.region(rdid, "4", "connection")
        there = entries[entries["meta"] != 0]
        return {int(one["low"]): (int(one["high"]) >> 16, int(one["low_port"])) for one in there}

    def connect(self, client: int, member: int, rule: int = 1) -> None:
        """Write a connection of each family, as the programs do."""
        meta = TCP | TRANSLATED | ANSWERED | IDLE
        entries = self.region(BLUE, "4", "connection")
        entries[client] = (client, 1234 | rule << 16, member, 0, meta)
        six = self.region(BLUE, "6", "connection6")
        for field, value in (("low", client), ("high", 1234), ("low_port", member), ("meta", meta)):
            six[field][client] = value


class Machine:
    """The pinned datapath, and the daemons that follow one another."""

    def __init__(self, pins: PinDirectory) -> None:
        self._pins = pins
        self.adopted: list[Adopted] = []

    def start(self, policy: Policy, memory_mb: int = 8, object_path: Path | None = None) -> Version:
        """A daemon that has programmed everything; the version before forwards until it is promoted."""
        world, path = make_world(), object_path or build.build()
        settings = DatapathSettings.model_validate({"memory_mb": memory_mb})
        router_mac = "00-1D-D8-B7-1C-00"
        configuration = GatewayConfiguration(router_mac=router_mac, ports=(*PORTS, INTERNET_PORT), datapath=settings)
        adopted = adopt(self._pins, path, configuration)
        self.adopted.append(adopted)
        programmer = Programmer(adopted.datapath, Layout.of(path), configuration, adopted.predecessor)
        programmer.links_changed(
            {
                each.name: Link(each.name, if_nametoindex(each.name), mac_bytes(each.mac), each.mtu, True)
                for each in world.interfaces.values()
            }
        )
        assert programmer.apply(policy) == {}
        return Version(adopted.datapath, programmer)

    def promote(self) -> None:
        self.adopted[-1].promote()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with (
        own_network(),
        mounted_bpffs(tmp_path / "bpf") as bpffs,
        PinDirectory.hold(bpffs / "pins", tmp_path / "lock") as pins,
    ):
        for name in make_world().interfaces:
            ip(f"link add {name} type veth peer name {name}-peer")
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
            ip(f"link set {name} up")
        machine = Machine(pins)
        yield machine
        Datapath.adopt(pins).remove()


@pytest.fixture(scope="module")
def other_layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs with a field more in a domain's table and in connections."""
    directory = tmp_path_factory.mktemp("other")
    sources = directory / "bpf"
    shutil.copytree(build.SOURCE.parent, sources)
    for header, before, after in (
        ("tables.h", "\t__u32 generation; /*", "\t__u32 fresh;\n\t__u32 generation; /*"),
        ("tables.h", "\t__u32 padding[3];\n};\n\n/* Load", "\t__u32 padding[2];\n};\n\n/* Load"),
        ("types.h", "\t__u32 meta;\n\t__u8 padding[24];", "\t__u32 meta;\n\t__u64 fresh;\n\t__u8 padding[16];"),
    ):
        text = (sources / header).read_text()
        assert before in text
        (sources / header).write_text(text.replace(before, after))
    source = sources / build.SOURCE.name
    return build.build(source, directory / build.object_path().name)


def both_families(version: Version) -> tuple[dict[int, tuple[int, int]], list[int]]:
    six = version.region(BLUE, "6", "connection6")
    return version.clients(), six["low"][:, 0][six["meta"] != 0].tolist()


def test_more_memory_keeps_connections_and_all_numbers(machine: Machine) -> None:
    old = machine.start(balanced(*MEMBERS))
    state = pool_states(balanced(*MEMBERS).routing_domains[1], {})[CHOICE]
    down = {CHOICE: replace(state, members=(*state.members[:2], replace(state.members[2], state="down")))}
    assert old.programmer.health_changed(BLUE, down) == {}
    for client in (5, 70, 2000):
        old.connect(client, 1 + client % 3)
    before = both_families(old)
    new = machine.start(balanced(*MEMBERS), memory_mb=16)
    assert new.datapath is not old.datapath
    assert new.programmer.numbers() == old.programmer.numbers()
    assert both_families(new) == before
    assert new.programmer.members_down()[BLUE] == {CHOICE: {MEMBERS[2]}}
    machine.promote()
    assert both_families(new) == before
    assert new.programmer.verify() == {}


def test_a_connection_that_came_before_the_switch_is_kept_too(machine: Machine) -> None:
    old = machine.start(balanced(*MEMBERS))
    old.connect(5, 1)
    new = machine.start(balanced(*MEMBERS), memory_mb=16)
    old.connect(6, 2)
    assert new.clients() == {5: (1, 1)}
    machine.promote()
    assert both_families(new) == ({5: (1, 1), 6: (1, 2)}, [5, 6])


def test_less_memory_keeps_the_numbers_of_domains(machine: Machine) -> None:
    old = machine.start(balanced(*MEMBERS), memory_mb=16)
    old.connect(5, 1)
    new = machine.start(balanced(*MEMBERS), memory_mb=8)
    machine.promote()
    assert new.programmer.numbers().keys() == old.programmer.numbers().keys()
    assert new.programmer.verify() == {}


def test_a_policy_that_changed_meanwhile_gives_no_connection_to_another_machine(machine: Machine) -> None:
    old = machine.start(balanced(*MEMBERS))
    for client, member in ((5, 1), (6, 2)):
        old.connect(client, member)
    new = machine.start(balanced(MEMBERS[0], MEMBERS[2], "10.1.6.22"), memory_mb=16)
    numbers = new.programmer._committing.programmed[BLUE].numbers.members[CHOICE]
    assert numbers == {MEMBERS[0]: 1, MEMBERS[2]: 3, "10.1.6.22": 4}
    machine.promote()
    assert new.clients() == {5: (1, 1), 6: (1, 2)}  # who had the second finds nobody of that number
    assert new.programmer.apply(balanced(MEMBERS[0], MEMBERS[2], "10.1.6.22", "10.1.6.23")) == {}
    assert new.clients() == {5: (1, 1)}


def test_another_layout_of_tables_and_connections_keeps_connections(machine: Machine, other_layouts: Path) -> None:
    old = machine.start(balanced(*MEMBERS))
    for client in (5, 70, 2000):
        old.connect(client, 1 + client % 3)
    before = both_families(old)
    new = machine.start(balanced(*MEMBERS), object_path=other_layouts)
    old.connect(6, 2)
    machine.promote()
    assert new.programmer.numbers() == old.programmer.numbers()
    assert both_families(new) == (before[0] | {6: (1, 2)}, sorted([*before[1], 6]))
    assert "fresh" in (Layout.of(other_layouts).struct("connection6").names or ())


def test_a_domain_that_went_meanwhile_leaves_no_number_and_no_connections(machine: Machine) -> None:
    old = machine.start(balanced(*MEMBERS))
    old.connect(5, 1)
    number = old.programmer.numbers()[BLUE]
    new = machine.start(Policy(routing_domains=(RED_DOMAIN,)), memory_mb=16)
    layout = new.datapath.maps["domains"].layout()
    row = new.datapath.maps["domains"].records(layout.struct("domain"))[number]
    assert not numpy.asarray(row["id"]).any()
    assert row["connections4_lines"] == 0
    machine.promote()
    assert BLUE not in new.programmer.numbers()
