"""The programs and the model agree on every packet to, from and through compartments of a small world."""

from collections.abc import Iterator
from itertools import count, product
from socket import AF_INET, AF_INET6, inet_pton

import pytest

from gateway.datapath.model.passage import ANSWERS
from gateway.datapath.model.world import World
from gateway.policy.model import AccessControlList, AccessRule, AppliesTo
from gateway.programming.encoding import mac_bytes as mac
from tests.datapath.loader_support import needs_root
from tests.datapath.programs_under_test import ProgramsUnderTest, programs_under_test
from tests.datapath.test_model_agreement import compare
from tests.unit.model import tunnels
from tests.unit.model.services import SERVICE_PORTS
from tests.unit.model.support import CORPNET, HOST, INTERNET, NEIGHBOUR, PROVIDER, ROUTER, make_world
from tests.worlds import wire

pytestmark = needs_root

ESP = 50
LISTS = (
    AccessControlList(
        "some",
        (AppliesTo(vsid=6001),),
        default_inbound="deny",
        default_outbound="deny",
        rules=(AccessRule(10, "inbound", "allow", protocol="udp"), AccessRule(20, "outbound", "allow", protocol="tcp")),
    ),
)
WORLDS = {
    "compartments": (tunnels.TUNNELS, tunnels.COMPARTMENTS),
    "lists": (tunnels.with_blue(access_control_lists=LISTS), tunnels.COMPARTMENTS),
    "closed": (tunnels.TUNNELS, {}),
}
INSIDE = {
    4: ("10.1.1.11", "10.1.1.200", tunnels.BEHIND_HEADQUARTERS, tunnels.BEHIND_BRANCH, tunnels.IN_SUBNET)
    + (tunnels.BEHIND_DISABLED, tunnels.SERVICE, "10.1.1.1", "157.1.0.9", "8.8.8.8"),
    6: ("fd00:1::11", tunnels.BEHIND_BRANCH6, tunnels.SERVICE6, "fd00:157::9", "2001:db8:1::1"),
}
OUTSIDE = {
    4: (tunnels.HEADQUARTERS, tunnels.BRANCH, tunnels.OF_RED, tunnels.STRANGER, "198.51.100.254")
    + (tunnels.OWN, tunnels.SHARED, "198.51.100.77"),
    6: (tunnels.BRANCH6, "2001:db8:9::99", "2001:db8:100::fe", tunnels.SHARED6, "2001:db8:100::1"),
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProgramsUnderTest]:
    with programs_under_test(tmp_path_factory.mktemp("programs"), make_world().interfaces) as under_test:
        yield under_test


@pytest.mark.parametrize("name", WORLDS)
def test_the_programs_agree_with_the_model_on_compartments(
    programs: ProgramsUnderTest, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, compartments = WORLDS[name]
    world = make_world(policy, ports=SERVICE_PORTS, compartments=compartments)
    world.clock = count(1000.0, 1 / ANSWERS.per_second).__next__  # each frame may be answered
    assert programs.place(world) == {}
    compared = compare(programs, world, frames(world))
    with capsys.disabled():
        print(f"\n{name}: {compared} frames compared, no difference")
    assert compared > 1_000


def frames(world: World) -> Iterator[tuple[str, bytes]]:
    for version in (4, 6):
        for source, destination in product(map(packed, INSIDE[version]), repeat=2):
            for packet in packets(source, destination):
                yield "p0", in_tunnel(source, packet)
                yield "x0", wire.ethernet(mac(CORPNET), mac(NEIGHBOUR), wire.kind_of(source), packet)
                for leg in ("gib", "gid"):
                    yield from by_leg(world, leg, packet)
        for source, destination in product(map(packed, OUTSIDE[version]), repeat=2):
            for packet in packets(source, destination):
                yield "i0", wire.ethernet(mac(INTERNET), mac(NEIGHBOUR), wire.kind_of(source), packet)
                for leg in ("gob", "god"):
                    yield from by_leg(world, leg, packet)


def by_leg(world: World, leg: str, packet: bytes) -> Iterator[tuple[str, bytes]]:
    if leg in world.interfaces:
        kind = wire.IPV4 if packet[0] >> 4 == 4 else wire.IPV6
        yield leg, wire.ethernet(mac(ROUTER), b"\2\0\0\0\1\1", kind, packet)


def in_tunnel(source: bytes, packet: bytes) -> bytes:
    inner = wire.ethernet(mac(ROUTER), mac("10-10-10-10-11-05"), wire.kind_of(source), packet)
    kind, outer = wire.tunnel("nvgre", packed("192.168.1.10"), packed("192.168.6.2"), 6001, inner, 3, 0)
    return wire.ethernet(mac(PROVIDER), mac(HOST), kind, outer)


def packets(source: bytes, destination: bytes) -> Iterator[bytes]:
    """One of each sort that compartments tell apart, and errors about those sent the other way."""
    ike = [wire.udp(port, port, bytes(28), 0xBEEF) for port in (500, 4500)]
    yield wire.ip(source, destination, *wire.echo(source, 7, b"abcd"))
    yield wire.ip(source, destination, wire.UDP, ike[0], ttl=1)
    yield wire.ip(source, destination, wire.UDP, wire.udp(500, 501, bytes(8), 0xBEEF))
    yield wire.ip(source, destination, wire.TCP, wire.tcp(4000, 80, 2, b"\2\4\x23\x28"))
    for length in (40, 1461, 1481):
        yield wire.ip(source, destination, ESP, bytes(length))
    for payload in ike:
        yield wire.ip(source, destination, wire.UDP, payload)
        yield from errors(source, destination, wire.UDP, payload)
    yield from errors(source, destination, ESP, bytes(24))
    yield from errors(source, destination, wire.TCP, wire.tcp(80, 4000, 16))
    for protocol, offset in product((wire.UDP, ESP, wire.TCP), (0, 9)):
        yield fragment(source, destination, protocol, offset)


def errors(source: bytes, destination: bytes, protocol: int, payload: bytes) -> Iterator[bytes]:
    """About a packet to the very source, and about one to somebody else."""
    four = len(source) == 4
    own, kind = (wire.ICMP, 3) if four else (wire.ICMPV6, 1)
    for quoted in (source, packed(tunnels.BRANCH if four else tunnels.BRANCH6)):
        quote = wire.ip(destination, quoted, protocol, payload)
        yield wire.ip(source, destination, own, wire.icmp(kind, 1, 0, quote))


def fragment(source: bytes, destination: bytes, protocol: int, offset: int) -> bytes:
    payload = wire.udp(500, 500, bytes(24), 0xBEEF)
    if len(source) == 4:
        return wire.ipv4(source, destination, protocol, payload, fragment=(not offset) << 13 | offset, identification=9)
    header = wire.fragment_header(protocol, offset << 3 | (not offset), 9)
    return wire.ipv6(source, destination, 44, header + payload)


def packed(text: str) -> bytes:
    return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
