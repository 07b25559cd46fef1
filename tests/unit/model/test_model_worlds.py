"""Random and small worlds: valid policies, every verdict, and no packet that ever crosses between domains."""

import time
from collections import Counter
from ipaddress import ip_address
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.datapath.model.ethernet import mac_bytes
from gateway.datapath.model.verdict import Action, DropReason, Verdict
from gateway.datapath.model.world import World
from gateway.policy.model import RoutingDomain
from gateway.policy.validation import faults
from tests.unit.model.services import OF_SERVICES
from tests.worlds import places, random_frame, random_world, small_frames, small_worlds

# They take a thousand frames in one second, or services.
UNREACHED_BY_FRAMES = {DropReason.ANSWER_LIMITED, Action.ORDERED, *OF_SERVICES}


def standing_clock(world: World) -> World:
    """The world with a clock that goes on by ten milliseconds at every look, so that answers do not run out."""
    ticks = iter(range(1 << 62))
    world.clock = lambda: next(ticks) / 100
    return world


def valid(world: World) -> bool:
    return not list(faults(world.policy, {port.name: port for port in world.ports}))


EVERY_VERDICT = (
    {str(one) for one in (*DropReason, *Action)} - {str(Action.DROPPED)} - {str(one) for one in UNREACHED_BY_FRAMES}
)


def test_the_small_universe_reaches_every_verdict() -> None:
    seen: Counter[str] = Counter()
    for world in small_worlds():
        assert valid(world)
        standing_clock(world)
        seen.update((v := world.process(*sent)).reason or v.action for sent in small_frames(world))
    assert set(seen) == EVERY_VERDICT


def test_random_frames_reach_every_verdict() -> None:
    random = Random(7)
    seen: Counter[str] = Counter()
    for _ in range(60):
        world = standing_clock(random_world(random))
        for _ in range(250):
            verdict = world.process(*random_frame(random, world))
            seen[verdict.reason or verdict.action] += 1
    assert set(seen) == EVERY_VERDICT


def test_random_policies_are_valid() -> None:
    assert all(valid(random_world(Random(seed))) for seed in range(200))


def test_the_same_seed_makes_the_same_world_and_frames() -> None:
    def made(seed: int) -> tuple[object, list[object]]:
        random = Random(seed)
        world = random_world(random)
        return world.policy, [random_frame(random, world) for _ in range(50)]

    assert made(3) == made(3)
    assert made(3) != made(4)


def test_frames_are_made_and_judged_fast_enough_for_a_hundred_thousand() -> None:
    random = Random(1)
    worlds = [random_world(random) for _ in range(10)]
    sent = [(world, random_frame(random, world)) for world in worlds for _ in range(10)]
    start = time.process_time()
    sent = [(world, random_frame(random, world)) for world in worlds for _ in range(100)]
    made = time.process_time()
    for world, frame in sent:
        world.process(*frame)
    assert (made - start) / len(sent) < 300e-6
    assert (time.process_time() - made) / len(sent) < 900e-6


class Belongings:
    """What a frame of one domain may carry when it leaves."""

    def __init__(self, world: World, domain: RoutingDomain) -> None:
        ports = {port.name: port for port in world.ports}
        records = domain.lookup_records
        self.vsids = {subnet.vsid for subnet in domain.virtual_subnets}
        self.attachments = {
            (ports[one.port].interface, one.vlan or ports[one.port].vlan) for one in domain.network_connections
        }
        self.macs = {mac_bytes(record.mac) for record in records}
        self.provider_addresses = {ip_address(record.provider_address).packed for record in records}
        self.rewritten = {
            ip_address(record.provider_address).packed for record in records if record.encapsulation == "rewrite"
        }


def outer(frame: bytes) -> tuple[int, int, bytes, bytes, bytes]:
    """VLAN, protocol, source, destination and what follows the first IP header of a frame."""
    vlan, at = (int.from_bytes(frame[14:16]) & 0xFFF, 16) if frame[12:14] == b"\x81\x00" else (0, 12)
    kind, data = frame[at : at + 2], frame[at + 2 :]
    if kind == b"\x08\x00":
        return vlan, data[9], data[12:16], data[16:20], data[20:]
    if kind == b"\x86\xdd":
        return vlan, data[6], data[8:24], data[24:40], data[40:]
    return vlan, -1, b"", b"", data


OWN_ADDRESSES = {ip_address(text).packed for text in (*places.OWN_ADDRESSES, *places.OWN_REWRITTEN)}


def tunnel_of(protocol: int, end: bytes, data: bytes) -> tuple[int, bytes] | None:
    """VSID and inner frame, if this is a tunnel packet; `end` is its source or destination, which must be ours."""
    if end not in OWN_ADDRESSES:
        return None  # a customer may send to port 4789 too
    if protocol == 47 and data[:4] == b"\x20\x00\x65\x58":
        return int.from_bytes(data[4:7]), data[8:]
    if protocol == 17 and data[2:4] == b"\x12\xb5":
        return int.from_bytes(data[12:15]), data[16:]
    return None


def assert_stays_inside(world: World, came: bytes, verdict: Verdict) -> None:
    """The frame that leaves carries nothing but its own domain's VSIDs, attachments, MACs and provider addresses."""
    domain = next(one for one in world.policy.routing_domains if one.id == verdict.domain)
    own = Belongings(world, domain)
    assert verdict.frame is not None
    vlan, protocol, source, destination, data = outer(verdict.frame)
    _, came_protocol, came_source, came_destination, came_data = outer(came)
    tunnel = tunnel_of(protocol, source, data)
    came_tunnel = tunnel_of(came_protocol, came_destination, came_data)
    if tunnel is None:
        by_rewrite = {source, destination} <= own.rewritten
        assert by_rewrite or (verdict.interface, vlan) in own.attachments
        return
    vsid, inner = tunnel
    assert vsid in own.vsids
    assert int.from_bytes(inner[12:14]) in (0x0800, 0x0806, 0x86DD)
    if verdict.action == Action.FORWARDED:
        assert inner[:6] in own.macs
        assert destination in own.provider_addresses
    else:
        assert came_tunnel is not None
        assert (vsid, inner[:6], destination) == (came_tunnel[0], came_tunnel[1][6:12], came_source)


@settings(max_examples=60)
@given(seed=st.integers(min_value=0, max_value=1 << 40))
def test_no_frame_leaves_with_anything_of_another_domain(seed: int) -> None:
    random = Random(seed)
    world = standing_clock(random_world(random))
    for _ in range(60):
        interface, frame = random_frame(random, world)
        verdict = world.process(interface, frame)
        if verdict.frame is not None:
            assert_stays_inside(world, frame, verdict)


def test_nothing_leaves_the_small_universe_with_anything_of_the_other_domain() -> None:
    for world in small_worlds():
        for interface, frame in small_frames(standing_clock(world)):
            verdict = world.process(interface, frame)
            if verdict.frame is not None:
                assert_stays_inside(world, frame, verdict)
