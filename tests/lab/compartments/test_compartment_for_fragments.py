"""A compartment for fragments: what goes in comes back in order, and nothing else comes out."""

import os
import time
from pathlib import Path

import pytest
from compartment_rig import (
    BLUE,
    GATEWAY,
    PROBER,
    ROUTER_MAC,
    Wire,
    colons,
    internet,
    reconcile,
    run,
    state,
    to_compartment,
    wires,
)
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from gateway.compartments import entering
from gateway.compartments.compartments import Compartments
from gateway.compartments.specification import Compartment, CompartmentSpecification

ORDERING = CompartmentSpecification(BLUE, (), mtu=9216, for_fragments=True)
FAMILIES = pytest.mark.parametrize(
    ("client", "frontend"),
    [("203.0.113.7", "198.51.100.80"), ("2001:db8:7::7", "2001:db8:100::80")],
    ids=["IPv4", "IPv6"],
)
LENGTHS = [1000, 4000, 30000]
WAITING_S = 1


@pytest.fixture
def ordering(compartments: Compartments) -> Compartment:
    made = reconcile(compartments, ORDERING)
    assert compartments.faults == {}
    return made[ORDERING.key]


def parts(client: str, frontend: str, length: int, most: int = 1280) -> list[Packet]:
    """The fragments of a datagram, in order; `length` and `most` in bytes."""
    transport = UDP(sport=4000, dport=53) / Raw(os.urandom(length))
    number = int.from_bytes(os.urandom(2))
    if ":" in client:
        return list(fragment6(IPv6(src=client, dst=frontend) / IPv6ExtHdrFragment(id=number) / transport, most))
    return list(fragment(IP(src=client, dst=frontend, id=number) / transport, most))


def built(packet: Packet) -> Packet:
    """The packet with all its fields."""
    return type(packet)(bytes(packet))


def place(packet: Packet) -> int:
    return int(packet[IPv6ExtHdrFragment].offset if IPv6 in packet else packet[IP].frag)


def content(packet: Packet) -> bytes:
    return bytes(packet[IPv6ExtHdrFragment].payload if IPv6 in packet else packet[IP].payload)


def send(wire: Wire, compartment: Compartment, *packets: Packet) -> None:
    for packet in packets:
        wire.send(to_compartment(compartment.inside, packet))


@FAMILIES
@pytest.mark.parametrize("length", LENGTHS)
def test_fragments_in_reverse_order_come_back_in_order(
    ordering: Compartment, client: str, frontend: str, length: int
) -> None:
    sent = parts(client, frontend, length, most=600)
    with wires(ordering.inside) as (wire,):
        send(wire, ordering, *reversed(sent))
        came = [wire.received() for _ in sent]
    assert [place(one) for one in came] == [place(built(one)) for one in sent]
    assert b"".join(map(content, came)) == b"".join(content(built(one)) for one in sent)
    assert {(one.src, one.dst) for one in came} == {(colons(ordering.inside.mac), colons(ROUTER_MAC))}
    ends = {(one[1].src, one[1].dst, one[1].ttl if IP in one else one[1].hlim) for one in came}
    assert ends == {(client, frontend, 63)}


@FAMILIES
def test_fragments_of_ipv4_come_back_small_enough_for_tunnels_those_of_ipv6_as_they_were(
    ordering: Compartment, client: str, frontend: str
) -> None:
    sent, came = parts(client, frontend, 20000, most=9000), []
    wanted = b"".join(content(built(one)) for one in sent)
    with wires(ordering.inside) as (wire,):
        send(wire, ordering, *reversed(sent))
        while sum(map(len, came)) < len(wanted):
            came.append(content(wire.received()))
    assert b"".join(came) == wanted
    most = max(len(content(built(one))) for one in sent) if ":" in client else 1280 - 20
    assert most - 8 < max(map(len, came)) <= most


@FAMILIES
def test_nothing_is_answered_and_nothing_is_said(ordering: Compartment, client: str, frontend: str) -> None:
    """Neither ARP nor ping, nor errors about what waited in vain or has no hop left."""
    ping = ICMPv6EchoRequest() if ":" in client else ICMP()
    dying = internet(client, frontend, ttl=1) / UDP(sport=4000, dport=53)
    mark = parts(client, frontend, 2000)
    with wires(ordering.inside) as (wire,):
        wire.send(Ether(src=colons(ROUTER_MAC), dst="ff:ff:ff:ff:ff:ff") / ARP(psrc="10.0.0.1", pdst="10.0.0.2"))
        send(wire, ordering, internet(client, "127.0.0.1" if IP in mark[0] else "::1") / ping, dying)
        send(wire, ordering, parts(client, frontend, 2000)[0])
        time.sleep(WAITING_S + 0.5)  # Linux gives up
        send(wire, ordering, *mark)
        assert place(wire.received()) == 0
        assert place(wire.received()) > 0


@FAMILIES
def test_what_waits_is_bounded_and_is_given_up_after_a_second(
    ordering: Compartment, client: str, frontend: str
) -> None:
    later = [parts(client, frontend, 2000)[1] for _ in range(300)]

    def memory() -> int:
        name = "FRAG6" if ":" in client else "FRAG"
        text = run(ordering.namespace, f"cat /proc/net/sockstat{'6' if ':' in client else ''}")
        return next(int(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name}:"))

    bounds = [
        f"/proc/sys/net/{name}" for name in ("ipv4/ipfrag_high_thresh", "netfilter/nf_conntrack_frag6_high_thresh")
    ]
    read = entering.run_in(ordering.namespace, lambda: [int(Path(bound).read_text()) for bound in bounds])
    assert read == [4 << 20] * 2
    with wires(ordering.inside) as (wire,):
        send(wire, ordering, *later)
        wanted = parts(client, frontend, 2000)
        send(wire, ordering, *reversed(wanted))
        assert place(wire.received()) == 0
        assert memory() <= 4 << 20
        assert run(ordering.namespace, "cat /proc/sys/net/netfilter/nf_conntrack_count").strip() == "0"


def test_it_lives_beside_the_one_for_probes_and_is_found_again(compartments: Compartments) -> None:
    prober = CompartmentSpecification(BLUE, PROBER.inside_addresses, (), PROBER.inside_prefixes)
    wanted = {one.key: one for one in (prober, ORDERING)}
    made = entering.run_in(GATEWAY, lambda: compartments.reconcile(wanted))
    assert made.keys() == {BLUE, ORDERING.key}
    assert made[BLUE].namespace != made[ORDERING.key].namespace
    before = [state(one) for one in made.values()]
    again = Compartments(compartments._gateway, ROUTER_MAC)
    assert entering.run_in(GATEWAY, lambda: again.left_behind(wanted)) == made
    assert entering.run_in(GATEWAY, lambda: again.reconcile(wanted)) == made
    assert [state(one) for one in made.values()] == before
    assert entering.run_in(GATEWAY, lambda: again.reconcile({BLUE: prober})).keys() == {BLUE}
    assert not Path(made[ORDERING.key].namespace).exists()
