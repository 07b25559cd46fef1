"""Stateful access lists: what they let through, what they remember, and what one tenant's flows do to another's."""

from dataclasses import replace
from random import Random
from socket import if_nametoindex

import numpy
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from gateway.datapath.connections import LINES_OF_SET
from gateway.datapath.test_run import run
from gateway.policy.model import AccessControlList, AccessRule, AppliesTo, Policy
from tests.datapath.cases import Gateway
from tests.datapath.evictions import Evictions
from tests.datapath.loader_support import needs_root
from tests.datapath.programs_under_test import Outcome
from tests.datapath.seeds import seeded
from tests.unit.model.support import (
    BLUE,
    BLUE_DOMAIN,
    POLICY,
    RED_DOMAIN,
    external,
    tunnelled,
    with_lists,
)
from tests.worlds import wire

pytestmark = needs_root

RANDOM_PACKETS = 3000
EVER_SEEN = numpy.uint64(1 << 32 + 13 + 10)  # another time, half of all that an entry can have been seen at away
PACKETS_A_SECOND = 500  # fewer than a domain may answer
ONLY_ASKED = AccessControlList("only-asked", (AppliesTo(6002),), default_inbound="deny")
OUTSIDE, MACHINE = "157.1.0.9", "10.1.6.21"
OUTSIDE6, MACHINE6 = "fd00:157::9", "fd00:6::21"


def out(packet: Packet) -> tuple[str, bytes]:
    """From the machine in VSID 6002."""
    return "p0", tunnelled(packet, 6002, "192.168.6.4", mac="10:10:10:10:16:21")


def back(packet: Packet) -> tuple[str, bytes]:
    return "x0", external(packet)


def asked(payload: Packet) -> Packet:
    return IP(src=MACHINE, dst=OUTSIDE) / payload


def told(payload: Packet) -> Packet:
    return IP(src=OUTSIDE, dst=MACHINE) / payload


@pytest.mark.parametrize(
    ("question", "answer", "other"),
    [
        (UDP(sport=4000, dport=53), UDP(sport=53, dport=4000), UDP(sport=53, dport=4001)),
        (TCP(sport=4000, dport=80, flags="S"), TCP(sport=80, dport=4000, flags="SA"), TCP(sport=81, dport=4000)),
        (ICMP(id=7), ICMP(type=0, id=7), ICMP(type=0, id=8)),
    ],
    ids=["udp", "tcp", "ping"],
)
def test_an_answer_passes_where_only_the_question_was_allowed(
    gateway: Gateway, question: Packet, answer: Packet, other: Packet
) -> None:
    gateway.hold(with_lists(ONLY_ASKED))
    assert gateway.drops(*back(told(answer))) == "access_list_inbound"
    assert gateway.send(*out(asked(question))).action == "forwarded"
    assert gateway.send(*back(told(answer))).action == "forwarded"
    assert gateway.drops(*back(told(other))) == "access_list_inbound"


def test_an_ipv6_answer_passes_too(gateway: Gateway) -> None:
    gateway.hold(with_lists(ONLY_ASKED))
    answer = IPv6(src="fd00:157::9", dst="fd00:6::21") / UDP(sport=53, dport=4000)
    assert gateway.drops(*back(answer)) == "access_list_inbound"
    assert gateway.send(*out(IPv6(src="fd00:6::21", dst="fd00:157::9") / UDP(sport=4000, dport=53))).action
    assert gateway.send(*back(answer)).action == "forwarded"


def test_an_icmp_error_about_an_allowed_flow_passes_and_one_about_no_flow_does_not(gateway: Gateway) -> None:
    gateway.hold(with_lists(ONLY_ASKED))
    assert gateway.send(*out(asked(UDP(sport=4000, dport=53)))).action == "forwarded"

    def error(sport: int) -> Packet:
        return IP(src="157.1.0.1", dst=MACHINE) / ICMP(type=3, code=3) / asked(UDP(sport=sport, dport=53))

    assert gateway.send(*back(error(4000))).action == "forwarded"
    assert gateway.drops(*back(error(4001))) == "access_list_inbound"
    assert gateway.drops(*back(told(UDP(sport=53, dport=4001)))) == "access_list_inbound"


def test_later_fragments_follow_the_first_one_and_none_other(gateway: Gateway) -> None:
    gateway.hold(with_lists(AccessControlList("dns", (AppliesTo(6002),), "deny", rules=(allow("udp", "53"),))))

    def fragments(identification: int, port: int) -> tuple[Packet, Packet]:
        first = IP(src=OUTSIDE, dst=MACHINE, id=identification, flags="MF") / UDP(sport=9, dport=port) / Raw(bytes(64))
        later = IP(src=OUTSIDE, dst=MACHINE, id=identification, frag=9, proto=17) / Raw(bytes(64))
        return first, later

    first, later = fragments(1, 53)
    assert gateway.drops(*back(later)) == "fragment_unmatched"
    assert gateway.send(*back(first)).action == "forwarded"
    assert gateway.send(*back(later)).action == "forwarded"
    refused, of_the_refused = fragments(2, 54)
    assert gateway.drops(*back(refused)) == "access_list_inbound"
    assert gateway.drops(*back(of_the_refused)) == "fragment_unmatched"


def allow(protocol: str, ports: str | None = None) -> AccessRule:
    return AccessRule(10, "inbound", "allow", protocol, destination_ports=ports)


def test_every_list_that_applies_must_allow(gateway: Gateway) -> None:
    subnets = AccessControlList("subnet", (AppliesTo(6002),), "deny", rules=(allow("udp"), allow("tcp")))
    machines = AccessControlList("machine", (AppliesTo(customer_address=MACHINE),), "deny", rules=(allow("tcp"),))
    gateway.hold(with_lists(subnets, machines))
    assert gateway.send(*back(told(TCP(flags="S")))).action == "forwarded"
    assert gateway.drops(*back(told(UDP()))) == "access_list_inbound"
    assert gateway.drops(*back(told(ICMP()))) == "access_list_inbound"
    assert gateway.send(*back(IP(src=OUTSIDE, dst="10.1.6.22") / UDP())).action == "forwarded"


def test_between_two_subnets_the_senders_list_is_asked_before_the_receivers(gateway: Gateway) -> None:
    sender = AccessControlList("sender", (AppliesTo(6001),), default_outbound="deny")
    receiver = AccessControlList("receiver", (AppliesTo(6002),), default_inbound="deny")
    packet = tunnelled(IP(src="10.1.1.11", dst=MACHINE) / UDP(sport=7, dport=8))
    for lists, reason in (
        ((sender, receiver), "access_list_outbound"),
        ((sender,), "access_list_outbound"),
        ((receiver,), "access_list_inbound"),
    ):
        gateway.hold(with_lists(*lists))
        assert gateway.drops("p0", packet) == reason


@pytest.mark.parametrize("port", [79, 80, 81, 442, 443, 444, 8079, 8080, 8089, 8090, 65535])
def test_ports_and_ranges_mean_what_they_say(gateway: Gateway, port: int) -> None:
    rules = (AccessRule(5, "inbound", "allow", "tcp", destination_ports="80,443,8080-8089"),)
    gateway.hold(with_lists(AccessControlList("web", (AppliesTo(6002),), "deny", rules=rules)))
    allowed = port in (80, 443, *range(8080, 8090))
    assert (gateway.send(*back(told(TCP(dport=port, flags="S")))).action == "forwarded") == allowed
    assert gateway.drops(*back(told(UDP(dport=port)))) == "access_list_inbound"


def thousand_rules(random: Random) -> tuple[AccessRule, ...]:
    prefixes4 = ["157.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0"]
    prefixes4 += [f"157.1.{random.randrange(4)}.{random.randrange(0, 256, 16)}/28" for _ in range(120)]
    prefixes4 += [f"157.1.0.{n}/32" for n in range(0, 256, 5)] + ["10.1.6.16/28", "10.1.6.21/32", "10.1.6.22/32"]
    prefixes6 = ["fd00:157::/64", "::/0", "fd00:157::9/128", "fd00:6::/64", "fd00:157::8/125", "fd00:6::20/124"]
    found = []
    for priority in random.sample(range(65_536), 1000):
        prefixes = prefixes4 if random.random() < 0.8 else prefixes6
        protocol = random.choice((None, "tcp", "udp", "tcp", "udp", 132, "icmp" if prefixes is prefixes4 else "icmpv6"))
        ports = protocol in (None, "tcp", "udp")
        first = random.randrange(2000)
        found.append(
            AccessRule(
                priority,
                random.choice(("inbound", "outbound")),
                random.choice(("allow", "deny")),
                protocol,
                random.choice((None, *random.sample(prefixes, 3))),
                random.choice((None, *random.sample(prefixes, 3))),
                random.choice((None, f"{first}-{first + random.randrange(500)}")) if ports else None,
                random.choice((None, f"{first},{first + 7}-{first + random.randrange(7, 300)}")) if ports else None,
            )
        )
    return tuple(found)


def random_payload(random: Random) -> tuple[int, bytes]:
    kind = random.choice(("tcp", "udp", "other", "ping"))
    source, destination = random.randrange(2600), random.randrange(2600)
    if kind == "tcp":
        return wire.TCP, wire.tcp(source, destination, 2)
    if kind == "udp":
        return wire.UDP, wire.udp(source, destination, b"")
    return (132, bytes(12)) if kind == "other" else (wire.ICMP, wire.icmp(8, 0, source << 16))


def random_packet(random: Random) -> tuple[str, bytes]:
    """From or to one of the machines that a list guards, by an address that some rules know."""
    protocol, payload = random_payload(random)
    if random.random() < 0.7:
        inside = bytes((10, 1, 6, random.choice((21, 22, 23))))
        outside = bytes((157, 1, random.randrange(4), random.randrange(1, 254)))
    else:
        inside = bytes.fromhex("fd000006000000000000000000000021")
        outside = bytes.fromhex("fd0001570000000000000000000000") + bytes((random.randrange(1, 32),))
        protocol = wire.ICMPV6 if protocol == wire.ICMP else protocol
        payload = wire.icmp(128, 0, 7 << 16) if protocol == wire.ICMPV6 else payload
    inward = random.random() < 0.5
    packet = wire.ip(*((outside, inside) if inward else (inside, outside)), protocol, payload)
    if inward:
        frame = wire.ethernet(
            wire.mac("02-00-00-00-0E-00"), wire.mac("02-00-00-00-DD-01"), wire.kind_of(inside), packet
        )
        return "x0", frame
    inner = wire.ethernet(wire.mac("00-1D-D8-B7-1C-00"), wire.mac("10-10-10-10-16-21"), wire.kind_of(inside), packet)
    kind, outer = wire.tunnel("vxlan", bytes((192, 168, 6, 4)), bytes((192, 168, 6, 2)), 6002, inner)
    return "p0", wire.ethernet(wire.mac("02-00-00-00-0A-00"), wire.mac("02-00-00-00-0F-0F"), kind, outer)


def test_a_thousand_rules_decide_as_the_model_says(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    random = seeded(f"a thousand rules, {RANDOM_PACKETS} packets", capsys)
    rules = with_lists(AccessControlList("rules", (AppliesTo(6002),), "deny", "allow", thousand_rules(random)))
    world, evictions = gateway.hold(rules), Evictions(gateway.programs)
    reasons = set()
    for number in range(RANDOM_PACKETS):
        if evictions.happened(BLUE):
            world = gateway.hold(rules)
            evictions.forget()
        if number % PACKETS_A_SECOND == 0:
            gateway.programs.refill_answers()
            world.clock = lambda now=1000.0 + number / PACKETS_A_SECOND: now
        interface, frame = random_packet(random)
        wanted = world.process(interface, frame)
        got = gateway.send(interface, frame)
        assert got == Outcome.of(wanted), frame.hex()
        reasons.add(got.reason)
    assert reasons >= {"access_list_inbound", "access_list_outbound"}


def both_guarded() -> Policy:
    reds = AccessControlList("only-asked", (AppliesTo(5001),), default_inbound="deny")
    blue = replace(BLUE_DOMAIN, access_control_lists=(ONLY_ASKED,))
    return replace(POLICY, routing_domains=(blue, replace(RED_DOMAIN, access_control_lists=(reds,))))


def flood(gateway: Gateway, flows: int) -> None:
    """Questions of so many flows from blue's machine, none of them answered, and none captured."""
    root = gateway.programs.datapath.maps["root"].records(gateway.programs.layout.struct("root"))
    root["capture"] = 0
    program, index = gateway.programs.datapath.programs["gateway"], if_nametoindex("p0")
    _, frame = out(asked(UDP(sport=0, dport=0, chksum=0)))
    ports = len(frame) - 8
    for number in range(flows):
        run(program, frame[:ports] + (number + (1 << 16)).to_bytes(4) + frame[ports + 4 :], index)
    root["capture"] = 1


def used_lines(gateway: Gateway) -> numpy.typing.NDArray[numpy.uint64]:
    """The part of blue's IPv4 connections that is in use."""
    maps, layout = gateway.programs.datapath.maps, gateway.programs.layout
    row = maps["domains"].records(layout.struct("domain"))[gateway.programs.programmer.numbers()[BLUE]]
    lines = maps["connections"].mmap().view(numpy.uint64).reshape(-1, 8)
    return lines[int(row["connections4"]) : int(row["connections4"]) + int(row["connections4_used"])]


def used_entries(gateway: Gateway) -> int:
    """IPv4 connections of blue."""
    return int(numpy.count_nonzero(used_lines(gateway)[:, 1::2]))


def test_a_full_connection_table_of_one_tenant_leaves_anothers_alone(gateway: Gateway) -> None:
    gateway.hold(both_guarded())
    question = tunnelled(IP(src="10.1.1.11", dst=OUTSIDE) / UDP(sport=4000, dport=53), 5001, "192.168.3.30")
    answer = external(IP(src=OUTSIDE, dst="10.1.1.11") / UDP(sport=53, dport=4000), vlan=10)
    assert gateway.send("p0", question).action == "forwarded"
    flood(gateway, 60_000)
    assert used_entries(gateway) > 16_000
    assert gateway.send("x0", answer).action == "forwarded"
    another = tunnelled(IP(src="10.1.1.11", dst=OUTSIDE) / UDP(sport=4001, dport=53), 5001, "192.168.3.30")
    assert gateway.send("p0", another).action == "forwarded"
    assert gateway.send("x0", external(IP(src=OUTSIDE, dst="10.1.1.11") / UDP(sport=53, dport=4001), 10)).reason is None


def test_a_flood_of_questions_does_not_end_a_tenants_own_answered_flows(gateway: Gateway) -> None:
    gateway.hold(both_guarded())
    questions = [out(asked(TCP(sport=port, dport=80, flags="S"))) for port in range(5000, 5100)]
    answers = [back(told(TCP(sport=80, dport=port, flags="SA"))) for port in range(5000, 5100)]
    for frame in (*questions, *answers):
        assert gateway.send(*frame).action == "forwarded"
    flood(gateway, 60_000)
    assert {gateway.send(*answer).action for answer in answers} == {"forwarded"}


def test_a_flow_that_goes_for_another_is_noticed(gateway: Gateway) -> None:
    gateway.hold(both_guarded())
    maps, layout = gateway.programs.datapath.maps, gateway.programs.layout
    row = maps["domains"].records(layout.struct("domain"))[gateway.programs.programmer.numbers()[BLUE]]
    row["connections6_lines"] = row["connections6_used"] * LINES_OF_SET["6"]
    evictions, ports, gone = Evictions(gateway.programs), range(1624, 1764), []
    for port in ports:
        assert gateway.send(*out(IPv6(src=MACHINE6, dst=OUTSIDE6) / UDP(sport=port, dport=53))).action == "forwarded"
        if evictions.happened(BLUE):
            gone.append(port)
    answers = [back(IPv6(src=OUTSIDE6, dst=MACHINE6) / UDP(sport=53, dport=port)) for port in ports]
    assert gone
    assert [gateway.send(*answer).reason for answer in answers].count("access_list_inbound") == len(gone)


def test_in_a_full_table_new_flows_are_still_asked_about_and_let_through(gateway: Gateway) -> None:
    gateway.hold(both_guarded())
    flood(gateway, 60_000)
    for port in range(100, 200):
        assert gateway.send(*out(asked(UDP(sport=port, dport=53)))).action == "forwarded"
        assert gateway.drops(*back(told(UDP(sport=54, dport=port)))) == "access_list_inbound"


def test_a_flow_that_comes_back_after_it_expired_is_answered(gateway: Gateway) -> None:
    gateway.hold(both_guarded())
    question, answer = out(asked(UDP(sport=4000, dport=53))), back(told(UDP(sport=53, dport=4000)))
    assert gateway.send(*question).action == "forwarded"
    words = used_lines(gateway)[:, 1::2]
    words[words > 0] ^= EVER_SEEN
    assert gateway.drops(*answer) == "access_list_inbound"
    assert gateway.send(*question).action == "forwarded"
    assert gateway.send(*answer).action == "forwarded"


def test_a_domain_without_lists_keeps_no_connections(gateway: Gateway) -> None:
    gateway.hold()
    assert gateway.send(*out(asked(UDP(sport=4000, dport=53)))).action == "forwarded"
    assert not gateway.programs.datapath.maps["connections"].mmap().any()
