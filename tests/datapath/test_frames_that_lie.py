"""Frames that are cut off, lie about lengths, or are noise: each has a named verdict, none reaches another domain."""

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from gateway.policy.model import AccessControlList, AppliesTo
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.datapath.programs_under_test import Outcome
from tests.datapath.seeds import seeded
from tests.unit.model.support import (
    BLUE,
    BLUE_DOMAIN,
    CORPNET,
    NEIGHBOUR,
    OWN_REWRITTEN,
    PROVIDER,
    RED,
    RED_DOMAIN,
    external,
    tunnelled,
    with_lists,
)
from tests.worlds import random_frame

pytestmark = needs_root

RANDOM_FRAMES = 20_000
CHANGED_FRAMES = 20_000
FRAMES_BETWEEN_REFILLS = 400
ETHERNET_HEADER = 14  # BPF_PROG_TEST_RUN takes nothing shorter
VSIDS = {domain.id: {subnet.vsid for subnet in domain.virtual_subnets} for domain in (BLUE_DOMAIN, RED_DOMAIN)}
VLANS = {("x0", 0): BLUE, ("x0", 10): RED, ("x1", 30): BLUE}
REWRITTEN = {"192.168.50.1", "192.168.50.2"}  # blue's; so is OWN_REWRITTEN, where tunnels end too
NVGRE, VXLAN_PORT = bytes.fromhex("20006558"), (4789).to_bytes(2)
Sent = tuple[str, bytes]


def good_frames() -> dict[str, Sent]:
    """One of each sort that goes somewhere."""
    syn = IP(src="10.1.1.11", dst="157.1.0.9") / TCP(flags="S", options=[("NOP", None), ("MSS", 8960), ("EOL", None)])
    six = IPv6(src="fd00:1::11", dst="fd00:6::21") / UDP(sport=7, dport=8) / Raw(b"abc")
    solicitation = (
        IPv6(src="fd00:1::11", dst="ff02::1:ff00:1", hlim=255)
        / ICMPv6ND_NS(tgt="fd00:1::1")
        / ICMPv6NDOptSrcLLAddr(lladdr="10:10:10:10:11:05")
    )
    outside = (
        IPv6(src="fd00:157::55", dst="fd00:157::fe", hlim=255)
        / ICMPv6ND_NS(tgt="fd00:157::fe")
        / ICMPv6NDOptSrcLLAddr(lladdr=NEIGHBOUR)
    )
    mac = "02:00:00:00:dd:55"
    whom = "ff:ff:ff:ff:ff:ff"
    error = ICMP(type=3, code=3) / IP(src="157.1.0.9", dst="10.1.1.11") / UDP(sport=8, dport=7)
    return {
        "nvgre": ("p0", tunnelled(syn)),
        "vxlan": ("p0", tunnelled(syn, encapsulation="vxlan")),
        "in IPv6": ("p0", tunnelled(syn, source="fd00:99::10", encapsulation="vxlan")),
        "IPv6 inside": ("p0", tunnelled(six)),
        "an ICMP error": ("p0", tunnelled(IP(src="10.1.1.11", dst="157.1.0.9") / error)),
        "ARP inside": ("p0", tunnelled(ARP(psrc="10.1.1.11", pdst="10.1.1.1", hwsrc=mac), router=whom)),
        "ND inside": ("p0", tunnelled(solicitation, router=whom)),
        "ping": ("p0", tunnelled(IP(src="10.1.1.11", dst="10.1.1.1") / ICMP(id=1))),
        "red's": ("p0", tunnelled(IP(src="10.1.1.11", dst="10.1.1.12") / UDP(), 5001, "192.168.3.30")),
        "from outside": ("x0", external(IP(src="157.1.0.9", dst="10.1.6.21") / TCP(flags="S", options=[("MSS", 9)]))),
        "from outside, red's": ("x0", external(IP(src="157.1.0.9", dst="10.1.1.12") / UDP(), vlan=10)),
        "IPv6 from outside": ("x0", external(IPv6(src="fd00:157::9", dst="fd00:1::11") / UDP())),
        "ARP outside": ("x0", bytes(Ether(dst=whom, src=mac) / ARP(psrc="157.1.0.55", pdst="157.1.0.254", hwsrc=mac))),
        "ND outside": ("x0", external(outside)),
        "rewritten": ("p0", bytes(Ether(dst=PROVIDER) / IP(src="192.168.50.1", dst=OWN_REWRITTEN) / TCP())),
    }


def judge(gateway: Gateway, sent: Sent, verdicts: Counter[str]) -> Outcome:
    """Every frame has a verdict of its own name, and what leaves is of the domain that it came from."""
    if sum(verdicts.values()) % FRAMES_BETWEEN_REFILLS == 0:
        gateway.programs.refill_answers()
    interface, frame = sent
    outcome = gateway.send(interface, frame)
    assert outcome.action in ("forwarded", "answered", "consumed", "passed", "dropped"), frame.hex()
    assert outcome.reason not in ("internal", "reasons", "no_headroom"), f"{interface} {frame.hex()}"
    assert (outcome.reason is not None) == (outcome.action == "dropped"), frame.hex()
    if outcome.action == "passed":
        assert outcome.frame is None
    if outcome.frame is not None:
        owner = owner_of(outcome.interface, outcome.frame)
        assert owner == outcome.domain == owner_of(interface, frame), f"{interface} {frame.hex()}"
    verdicts[outcome.reason or outcome.action] += 1
    return outcome


def owner_of(interface: str | None, frame: bytes) -> str | None:
    """Whose packet this is on the wire: by its VSID, its VLAN on an external port, or a rewritten address."""
    vlan, kind, at = 0, int.from_bytes(frame[12:14]), 14
    if kind == 0x8100:
        vlan, kind, at = int.from_bytes(frame[14:16]) & 0xFFF, int.from_bytes(frame[16:18]), 18
    if (interface, vlan) in VLANS:
        return VLANS[interface, vlan]
    addresses = [".".join(map(str, frame[first : first + 4])) for first in (at + 12, at + 16)]
    if kind == 0x0800 and not REWRITTEN.isdisjoint(addresses):
        return BLUE
    vsid = vsid_of(frame[at:])
    if vsid is None:
        return BLUE if addresses[0] == OWN_REWRITTEN else None
    return next((domain for domain, vsids in VSIDS.items() if vsid in vsids), None)


def vsid_of(packet: bytes) -> int | None:
    """That of a tunnel's outer IP packet; None if it is none, nor if it is a fragment or has options."""
    six = packet[0] >> 4 == 6
    if not six and (packet[0] != 0x45 or int.from_bytes(packet[6:8]) & 0x3FFF):
        return None
    protocol, payload = (packet[6], packet[40:]) if six else (packet[9], packet[20:])
    if protocol == 47 and payload[:4] == NVGRE:
        return int.from_bytes(payload[4:7])
    if protocol == 17 and payload[2:4] == VXLAN_PORT:
        return int.from_bytes(payload[12:15])
    return None


def cut_off(frame: bytes) -> Iterator[bytes]:
    return (frame[:length] for length in range(ETHERNET_HEADER, len(frame)))


def with_every_length(frame: bytes) -> Iterator[bytes]:
    """Every two bytes of the headers in turn say what a length that lies would say."""
    for at in range(ETHERNET_HEADER, min(len(frame) - 1, 120)):
        for value in (0, 1, 7, 19, 20, 39, 41, len(frame) - at, len(frame), 0x7FFF, 0xFFFF):
            yield frame[:at] + (value & 0xFFFF).to_bytes(2) + frame[at + 2 :]


@pytest.fixture(params=["without_lists", "with_lists"])
def held(gateway: Gateway, request: pytest.FixtureRequest) -> Gateway:
    lists = [AccessControlList("all", (AppliesTo(6001), AppliesTo(6002)))] if request.param == "with_lists" else []
    gateway.hold(with_lists(*lists))
    return gateway


@pytest.mark.parametrize("name", good_frames())
def test_a_frame_that_is_whole_goes_somewhere(held: Gateway, name: str) -> None:
    outcome = judge(held, good_frames()[name], Counter())
    assert outcome.action in ("forwarded", "answered"), outcome


@pytest.mark.parametrize("name", good_frames())
def test_a_frame_cut_off_anywhere_has_a_named_verdict(held: Gateway, name: str) -> None:
    interface, frame = good_frames()[name]
    verdicts: Counter[str] = Counter()
    for short in cut_off(frame):
        judge(held, (interface, short), verdicts)
    assert verdicts["forwarded"] == 0, verdicts


@pytest.mark.parametrize("name", good_frames())
def test_a_frame_that_lies_about_its_lengths_has_a_named_verdict(held: Gateway, name: str) -> None:
    interface, frame = good_frames()[name]
    verdicts: Counter[str] = Counter()
    for lying in with_every_length(frame):
        judge(held, (interface, lying), verdicts)
    assert len(verdicts) > 1


def test_noise_has_a_named_verdict_and_reaches_nobody(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    random = seeded("noise", capsys)
    gateway.hold()
    verdicts: Counter[str] = Counter()
    macs = {name: bytes.fromhex(mac.replace(":", "")) for name, mac in (("p0", PROVIDER), ("x0", CORPNET))}
    for _ in range(RANDOM_FRAMES):
        interface = random.choice(("p0", "p1", "x0", "x1"))
        frame = bytearray(random.randbytes(random.randint(ETHERNET_HEADER, 300)))
        if random.random() < 0.8:  # or it would stay Linux's
            frame[:6] = macs.get(interface, frame[:6])
            frame[12:14] = random.choice((b"\x08\x00", b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00"))
        judge(gateway, (interface, bytes(frame)), verdicts)
    report("noise", verdicts, capsys)
    assert sum(verdicts.values()) == RANDOM_FRAMES


def test_good_frames_with_bytes_changed_stay_in_their_domain(held: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    random = seeded("changed frames", capsys)
    frames = list(good_frames().values())
    verdicts: Counter[str] = Counter()
    for _ in range(CHANGED_FRAMES):
        interface, frame = random.choice(frames)
        changed = bytearray(frame)
        for _ in range(random.randint(1, 4)):
            changed[random.randrange(12, min(len(changed), 110))] = random.randrange(256)
        if random.random() < 0.3:
            changed = changed[: random.randint(ETHERNET_HEADER, len(changed))]
        judge(held, (interface, bytes(changed)), verdicts)
    report("changed frames", verdicts, capsys)
    assert len(verdicts) > 15


def test_what_a_random_world_would_send_stays_in_its_domain(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    random = seeded("random traffic", capsys)
    world = gateway.hold()
    verdicts: Counter[str] = Counter()
    for _ in range(RANDOM_FRAMES):
        interface, frame = random_frame(random, world)
        if len(frame) >= ETHERNET_HEADER:
            judge(gateway, (interface, frame), verdicts)
    report("random traffic", verdicts, capsys)
    assert len(verdicts) > 15


def test_after_all_that_every_good_frame_still_goes_where_it_went(gateway: Gateway) -> None:
    gateway.hold()
    before = [gateway.send(*sent) for sent in good_frames().values()]
    random = Random(1)
    for _ in range(5000):
        gateway.send(random.choice(("p0", "x0")), random.randbytes(random.randint(ETHERNET_HEADER, 300)))
    gateway.programs.refill_answers()
    assert [gateway.send(*sent) for sent in good_frames().values()] == before
    assert gateway.programs.programmer.verify() == {}


def report(what: str, verdicts: Counter[str], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"{what}: {sum(verdicts.values())} frames, {len(verdicts)} kinds of verdict, none in another domain")
