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
from gateway.datapath.connections import WORDS_PER_LINE, Entries
from gateway.datapath.layout import Layout
from gateway.datapath.loader import Datapath
from gateway.datapath.pins import PinDirectory
from gateway.policy.balancing import BackendPool, BalancingRule, Frontend, LoadBalancer, PoolMember
from gateway.policy.model import Policy
from gateway.programming.connection_regions import SETS_AT_FIRST
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

    def row(self, rdid: str = BLUE) -> Any:
        """A domain's struct domain."""
        layout = self.datapath.maps["domains"].layout()
        rows = self.datapath.maps["domains"].records(layout.struct("domain"))
        return rows[self.programmer.numbers()[rdid]]

    def region(self, rdid: str, family: str) -> Entries:
        table = self.datapath.maps["connections"].mmap().view(numpy.uint64).reshape(-1, WORDS_PER_LINE)
        return Entries.of_domain(table, self.row(rdid), family)

    def clients(self, rdid: str = BLUE) -> dict[int, tuple[int, int]]:
        """Rule and member of each translated IPv4 connection, by its client."""
        entries = self.region(rdid, "4")
        there = entries.ends != 0
        found = zip(entries.addresses[there][:, 0].tolist(), entries.ends[there].tolist(), strict=True)
        return {address & 0xFFFFFFFF: (address >> 48, end & 0xFFFF) for address, end in found}

    def connect(self, client: int, member: int, rule: int = 1, grown: bool = False) -> None:
        """Write a connection of each family, as the programs do, into the set with the client's number.

        `grown`: into the set that is divided from that one when the regions double for the first time.
        """
        end = (TCP | TRANSLATED | ANSWERED | IDLE) << 32 | member
        four, six = self.region(BLUE, "4"), self.region(BLUE, "6")
        four.addresses[client + grown * SETS_AT_FIRST["4"], 0] = 1234 << 32 | rule << 48 | client
        four.ends[client + grown * SETS_AT_FIRST["4"], 0] = end
        six.addresses[client + grown * SETS_AT_FIRST["6"], 0, 0] = client
        six.ends[client + grown * SETS_AT_FIRST["6"], 0] = end

    def grow(self) -> None:
        """Double both regions, as the programs do; what is there stays where it is."""
        self.row()["connections4_used"] *= 2
        self.row()["connections6_used"] *= 2


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


def compiled(directory: Path, *changes: tuple[str, str, str]) -> Path:
    """The programs with changes to their headers: of which one, from what, to what."""
    sources = directory / "bpf"
    shutil.copytree(build.SOURCE.parent, sources)
    for header, before, after in changes:
        text = (sources / header).read_text()
        assert before in text
        (sources / header).write_text(text.replace(before, after))
    return build.build(sources / build.SOURCE.name, directory / build.object_path().name)


@pytest.fixture(scope="module")
def other_layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs with a field more in a domain's table, and in what a line beside the arena can be."""
    return compiled(
        tmp_path_factory.mktemp("other"),
        ("tables.h", "\t__u32 generation; /*", "\t__u32 fresh;\n\t__u32 generation; /*"),
        ("tables.h", "\t__u32 padding[3];\n};\n\n/* Load", "\t__u32 padding[2];\n};\n\n/* Load"),
        ("maps.h", "\tstruct neighbour6 neighbours6", "\t__u64 fresh[8];\n\tstruct neighbour6 neighbours6"),
    )


def both_families(version: Version) -> tuple[dict[int, tuple[int, int]], list[int]]:
    six = version.region(BLUE, "6")
    return version.clients(), sorted(six.addresses[six.ends != 0][:, 0].tolist())


def test_more_memory_keeps_connections_and_all_numbers(machine: Machine) -> None:
    old = machine.start(balanced(*MEMBERS))
    state = pool_states(balanced(*MEMBERS).routing_domains[1], {})[CHOICE]
    down = {CHOICE: replace(state, members=(*state.members[:2], replace(state.members[2], state="down")))}
    assert old.programmer.health_changed(BLUE, down) == {}
    for client in (5, 9, 14):
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


def test_a_connection_that_another_gave_its_place_to_is_kept_and_one_that_ended_is_not(machine: Machine) -> None:
    old = machine.start(balanced(*MEMBERS))
    for client in (5, 6):
        old.connect(client, 1)
    new = machine.start(balanced(*MEMBERS), memory_mb=16)
    for family in ("4", "6"):
        entries = old.region(BLUE, family)
        entries.addresses[5, 0, 0] += 100
        entries.ends[6, 0] = 0
    machine.promote()
    assert both_families(new) == ({105: (1, 1)}, [105])


def test_connections_are_kept_whose_region_grew_before_the_switch(machine: Machine) -> None:
    old = machine.start(balanced(*MEMBERS))
    for client in (5, 6):
        old.connect(client, 1)
    new = machine.start(balanced(*MEMBERS), memory_mb=16)
    old.grow()
    old.connect(6, 1, grown=True)  # there and at its place before, as for a moment while a region grows
    for client in (5, 7):
        old.connect(client, 2, grown=True)
    for family in ("4", "6"):
        old.region(BLUE, family).ends[5] = 0
    machine.promote()
    assert both_families(new) == ({5: (1, 2), 6: (1, 1), 7: (1, 2)}, [5, 6, 7])
    assert {int(entries.ends[5:8, 0].all()) for entries in (new.region(BLUE, "4"), new.region(BLUE, "6"))} == {1}


def test_what_the_new_version_knows_of_a_connection_is_not_undone(machine: Machine) -> None:
    old = machine.start(balanced(*MEMBERS))
    old.connect(5, 1)
    new = machine.start(balanced(*MEMBERS), memory_mb=16)
    old.connect(6, 2)
    for client in (5, 6):
        new.connect(client, 3)
    machine.promote()
    assert new.clients() == {5: (1, 3), 6: (1, 3)}


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
    for client in (5, 9, 14):
        old.connect(client, 1 + client % 3)
    before = both_families(old)
    new = machine.start(balanced(*MEMBERS), object_path=other_layouts)
    old.connect(6, 2)
    machine.promote()
    assert new.programmer.numbers() == old.programmer.numbers()
    assert both_families(new) == (before[0] | {6: (1, 2)}, sorted([*before[1], 6]))
    assert "fresh" in (Layout.of(other_layouts).struct("learned_line").names or ())


def test_connections_begin_anew_where_their_entries_are_others(machine: Machine, tmp_path: Path) -> None:
    old = machine.start(balanced(*MEMBERS))
    old.connect(5, 1)
    others = compiled(tmp_path / "other", ("types.h", "\t__u32 low[4], high[4];", "\t__u32 high[4], low[4];"))
    new = machine.start(balanced(*MEMBERS), object_path=others)
    old.connect(6, 2)
    machine.promote()
    assert new.programmer.numbers() == old.programmer.numbers()
    assert both_families(new) == ({}, [])
    assert new.programmer.verify() == {}


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
