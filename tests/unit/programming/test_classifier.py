"""Access lists as bit vectors: they say what going through the rules one by one says."""

from ipaddress import ip_address, ip_network
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.fields import port_ranges
from gateway.policy.model import AccessControlList, AccessRule, AppliesTo
from gateway.programming.block import CapacityError
from gateway.programming.classifier import RULES_MAX, compile_access_list
from tests.unit.programming.arena import TCP, UDP, Packet, allows, layout

PREFIXES = {
    4: ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.128/25", "10.1.1.7/32", "255.255.255.255/32"),
    6: ("::/0", "fd00::/8", "fd00:1:8000::/33", "fd00:1::/64", "fd00:1::/120", "fd00:1::7/128", "fd00:1::7:0/112"),
}
ADDRESSES = {
    4: ("10.1.1.7", "10.1.1.8", "10.1.1.200", "10.1.2.1", "10.9.9.9", "8.8.8.8", "255.255.255.255", "0.0.0.0"),
    6: ("fd00:1::7", "fd00:1::8", "fd00:1::7:1", "fd00:1:0:1::1", "fd99::1", "2001:db8::1", "::"),
}
PORTS = (None, "0", "80", "80,443", "1024-65535", "0-65535", "79-81,80-90", "65535", "255-256")
NUMBERS = (0, 1, 79, 80, 81, 90, 91, 255, 256, 443, 1023, 1024, 65535)
PROTOCOLS = (None, "tcp", "udp", "icmp", "icmpv6", 0, 132, 255)
Verdict = st.sampled_from(("allow", "deny"))


@st.composite
def rules(draw: st.DrawFn, priority: int) -> AccessRule:
    prefix = st.sampled_from((None, None, *PREFIXES[draw(st.sampled_from((4, 6)))]))
    protocol = draw(st.sampled_from(PROTOCOLS))
    ports = st.sampled_from(PORTS) if protocol in (None, "tcp", "udp") else st.none()
    direction = draw(st.sampled_from(("inbound", "outbound")))
    return AccessRule(
        priority, direction, draw(Verdict), protocol, draw(prefix), draw(prefix), draw(ports), draw(ports)
    )


@st.composite
def access_lists(draw: st.DrawFn) -> AccessControlList:
    priorities = draw(st.lists(st.integers(0, 65535), unique=True, max_size=20))
    own = tuple(draw(rules(each)) for each in priorities)
    return AccessControlList("list", (AppliesTo(6001),), draw(Verdict), draw(Verdict), own)


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    address = st.sampled_from(ADDRESSES[draw(st.sampled_from((4, 6)))]).map(lambda text: ip_address(text).packed)
    number = st.sampled_from(NUMBERS)
    protocol = draw(st.sampled_from((TCP, UDP, 1, 58, 0, 132, 255)))
    return Packet(draw(address), draw(address), protocol, draw(number), draw(number))


def one_by_one(access_list: AccessControlList, inbound: bool, packet: Packet) -> bool:
    direction = "inbound" if inbound else "outbound"
    for rule in sorted(access_list.rules, key=lambda each: each.priority):
        if rule.direction == direction and matches(rule, packet):
            return rule.action == "allow"
    return (access_list.default_inbound if inbound else access_list.default_outbound) == "allow"


def matches(rule: AccessRule, packet: Packet) -> bool:
    return (
        rule.protocol_number() in (None, packet.protocol)
        and lies_in(packet.source, rule.source_prefix)
        and lies_in(packet.destination, rule.destination_prefix)
        and is_among(packet, packet.source_port, rule.source_ports)
        and is_among(packet, packet.destination_port, rule.destination_ports)
    )


def lies_in(address: bytes, prefix: str | None) -> bool:
    return prefix is None or ip_address(address) in ip_network(prefix)


def is_among(packet: Packet, port: int, ports: str | None) -> bool:
    if ports is None:
        return True
    return packet.protocol in (TCP, UDP) and any(first <= port <= last for first, last in port_ranges(ports))


@settings(max_examples=150)
@given(access_lists(), st.lists(packets(), max_size=30))
def test_a_compiled_list_says_what_its_rules_say_one_by_one(access_list: AccessControlList, sent: list[Packet]) -> None:
    block = compile_access_list(access_list, layout())
    for packet in sent:
        for inbound in (False, True):
            assert allows(block, inbound, packet) == one_by_one(access_list, inbound, packet), packet


@pytest.mark.parametrize("count", [63, 64, 65, 128, 1000])
def test_of_many_rules_the_one_with_the_lowest_number_decides(count: int) -> None:
    """Rule n is the first one for port n and matches all below it too; the order of the document does not count."""
    random = Random(count)
    verdicts = [random.choice(("allow", "deny")) for _ in range(count)]
    own = [
        AccessRule(count - port, "inbound", verdicts[port], "tcp", destination_ports=f"{port}-65535")
        for port in range(count)
    ]
    random.shuffle(own)
    block = compile_access_list(AccessControlList("long", (AppliesTo(6001),), rules=tuple(own)), layout())
    for port in range(count):
        assert allows(block, True, Packet(bytes(4), bytes(4), TCP, 9, port)) == (verdicts[port] == "allow")


def test_many_rules_that_overlap_say_what_they_say_one_by_one() -> None:
    """On both sides of every edge of prefixes in prefixes, with ports on neither side, on one and on both."""
    random = Random(6)
    bases = {32: int(ip_address("10.1.1.7")), 128: int(ip_address("fd00:1::7"))}

    def prefix(bits: int) -> str:
        length = random.randrange(bits + 1)
        network = bases[bits] ^ random.choice((0, 0, 1 << random.randrange(bits)))
        return str(ip_network((network.to_bytes(bits // 8), length), strict=False))

    def rule(priority: int) -> AccessRule:
        bits = random.choice(tuple(bases))
        prefixes = [random.choice((None, prefix(bits), prefix(bits))) for _ in range(2)]
        ports = [random.choice((None, "80", "1024-2047", "53,443,8000-8080")) for _ in range(2)]
        protocol = random.choice((None, "udp", "tcp"))
        return AccessRule(priority, "inbound", random.choice(("allow", "deny")), protocol, *prefixes, *ports)

    def edge(bits: int) -> bytes:
        network = ip_network(prefix(bits))
        at = random.choice((int(network[0]), int(network[0]) - 1, int(network[-1]), int(network[-1]) + 1))
        return (at % (1 << bits)).to_bytes(bits // 8)

    for count in (9, 30, 300):
        access_list = AccessControlList("dense", (AppliesTo(6001),), rules=tuple(rule(each) for each in range(count)))
        block = compile_access_list(access_list, layout())
        for _ in range(150):
            bits = random.choice(tuple(bases))
            ports = [random.choice((52, 53, 80, 443, 1024, 2047, 2048, 8080)) for _ in range(2)]
            packet = Packet(edge(bits), edge(bits), random.choice((TCP, UDP, 1)), *ports)
            assert allows(block, True, packet) == one_by_one(access_list, True, packet), packet


def test_rules_that_do_not_overlap_take_little_memory() -> None:
    own = tuple(
        AccessRule(
            number, "outbound", "allow", "udp", f"10.1.{number // 4}.0/24", f"20.{number % 250}.0.0/16", None, "53"
        )
        for number in range(1000)
    )
    block = compile_access_list(AccessControlList("sparse", (AppliesTo(6001),), rules=own), layout())
    assert len(block) <= 20 * len(own)


def test_as_many_rules_as_fit_are_all_there_and_one_more_is_refused_by_name() -> None:
    def of(count: int) -> AccessControlList:
        own = tuple(
            AccessRule(number, "outbound", "deny", 132, f"10.{number >> 8}.{number & 255}.0/24")
            for number in range(count)
        )
        return AccessControlList("long", (AppliesTo(6001),), rules=own)

    block = compile_access_list(of(RULES_MAX), layout())
    for third in (0, 1, 63, 64, 255):
        for second in (0, 7, 15):
            assert not allows(block, False, Packet(bytes((10, second, third, 9)), bytes(4), 132, 0, 0))
    assert allows(block, False, Packet(bytes((10, 16, 0, 9)), bytes(4), 132, 0, 0))
    with pytest.raises(CapacityError, match="access list long has 4097 outbound rules"):
        compile_access_list(of(RULES_MAX + 1), layout())


def test_a_list_without_rules_says_its_default() -> None:
    packet = Packet(bytes(4), bytes(4), TCP, 1, 2)
    for inbound, outbound in (("allow", "deny"), ("deny", "allow")):
        block = compile_access_list(AccessControlList("none", (AppliesTo(6001),), inbound, outbound), layout())
        assert (allows(block, True, packet), allows(block, False, packet)) == (inbound == "allow", outbound == "allow")
