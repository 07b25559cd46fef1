"""Outbound NAT that lends some ports only: to some machines, and from an address that two domains share."""

from collections.abc import Collection
from dataclasses import replace
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.packet import Packet

from gateway.datapath.model.rewriting import End
from gateway.datapath.model.translation import ports_for
from gateway.policy.lending import blocks_of
from gateway.policy.model import Frontend, InboundNatRule, LoadBalancer, OutboundNat, Policy
from tests.unit.model.services import (
    BALANCER,
    BLUE_DOMAIN,
    CLIENT,
    CLIENT6,
    FAR,
    FRAGMENTS_LEGS,
    RED_DOMAIN,
    VIP,
    VM1,
    VM2,
    VM3,
    VM6,
    Balancing,
    ends,
    for_fragments,
    inner,
    inside,
    inside_red,
    outside,
    tcp,
    udp,
    with_balancer,
)
from tests.unit.model.test_model_balancing_errors import ROUTER_OUTSIDE, quoted, quoting, unreachable
from tests.unit.model.test_model_balancing_fragments import datagram, in_fragments, rejoined

TCP_NUMBER, UDP_NUMBER = 6, 17
SETS_AT_FIRST, WAYS = 64, 4  # of a domain's region for IPv4, in the programs
SHARED, SHARED6 = "198.51.100.85", "2001:db8:100::85"
BLUES, REDS = "4096-20479", "24576-32767"


def shared(blues: str = BLUES, reds: str | None = REDS, taken: Collection[int] = ()) -> Policy:
    """Blue's and Red's machines, which have the same addresses, reach the Internet from one; rules have taken ports."""
    lent = LoadBalancer("out", frontends=(Frontend("out", SHARED, public=True), Frontend("out6", SHARED6, public=True)))
    blue = replace(lent, outbound_nat=(OutboundNat("out", 6002, ports=blues), OutboundNat("out6", 6002, ports=blues)))
    blue = replace(blue, inbound_nat_rules=tuple(InboundNatRule(f"at{one}", "out", "udp", one, VM2) for one in taken))
    domain = replace(BLUE_DOMAIN, load_balancers=(replace(BALANCER, outbound_nat=BALANCER.outbound_nat[:1]), blue))
    if reds is None:
        return Policy(routing_domains=(domain, RED_DOMAIN))
    red = replace(lent, outbound_nat=(OutboundNat("out", 5001, ports=reds), OutboundNat("out6", 5001, ports=reds)))
    return Policy(routing_domains=(domain, replace(RED_DOMAIN, load_balancers=(*RED_DOMAIN.load_balancers, red))))


def lent_to(machine: str, port: int, protocol: int, ports: str) -> list[int]:
    """All ports that may stand for a machine's, the first choice first."""
    return list(ports_for(End(ip_address(machine), port), protocol, blocks_of(ports)))


def of_blue_and_red(gateway: Balancing, packet: Packet) -> tuple[Packet, Packet]:
    return gateway.forwards(*inside(packet)), gateway.forwards(*inside_red(packet))


def vsid(frame: Packet) -> int:
    """The virtual subnet of the machine that the frame is for: 10.1.6.20's hosts take NVGRE."""
    return int(frame["GRE"].key >> 8)


def test_equal_addresses_of_two_domains_leave_by_one_address_and_each_answer_finds_back(gateway: Balancing) -> None:
    gateway.hold(shared())
    left = of_blue_and_red(gateway, tcp(VM1, 4000, CLIENT, 443))
    blues, reds = (ends(one)[1] for one in left)
    assert [ends(one) for one in left] == [(SHARED, blues, CLIENT, 443), (SHARED, reds, CLIENT, 443)]
    assert (blues, reds) == tuple(lent_to(VM1, 4000, TCP_NUMBER, ports)[0] for ports in (BLUES, REDS))
    for port, subnet in ((blues, 6002), (reds, 5001)):
        answer = gateway.forwards(*outside(tcp(CLIENT, 443, SHARED, port, "SA")))
        assert (ends(answer), vsid(answer)) == ((CLIENT, 443, VM1, 4000), subnet)


def test_a_port_of_one_domain_never_leads_to_another(gateway: Balancing) -> None:
    gateway.hold(shared())
    port = ends(gateway.forwards(*inside(tcp(VM1, 4000, CLIENT, 443))))[1]
    for block in range(16):
        other = port & 0xFFF | block << 12
        if other != port:
            assert gateway.drops(*outside(tcp(CLIENT, 443, SHARED, other, "SA"))) == "vip_not_served"
    assert gateway.drops(*outside(tcp("203.0.113.8", 443, SHARED, port, "SA"))) == "vip_not_served"


def test_a_port_that_no_domain_lends_is_told_to_be_unreachable(gateway: Balancing) -> None:
    gateway.hold(shared())
    for port in (80, 4095, 20480, 40000):
        reason, told = gateway.objects(*outside(udp(CLIENT, 53, SHARED, port)))
        assert (reason, told[IP].src, told[ICMP].type, told[ICMP].code) == ("vip_not_served", SHARED, 3, 3)
    assert gateway.drops(*outside(IP(src=CLIENT, dst=SHARED, proto=132) / bytes(12))) == "vip_not_served"


def test_the_gateway_answers_pings_to_a_shared_address_and_gives_answers_to_pings_back(gateway: Balancing) -> None:
    gateway.hold(shared())
    reply = gateway.answers(*outside(IP(src=CLIENT, dst=SHARED) / ICMP(id=5000, seq=1) / b"abc"))
    assert (reply[IP].src, reply[ICMP].type, reply[ICMP].id) == (SHARED, 0, 5000)
    left = of_blue_and_red(gateway, IP(src=VM1, dst=CLIENT) / ICMP(id=7, seq=3) / b"abc")
    for one, ports, subnet in zip(left, (BLUES, REDS), (6002, 5001), strict=True):
        assert one[ICMP].id == lent_to(VM1, 7, 1, ports)[0]
        answer = gateway.forwards(*outside(IP(src=CLIENT, dst=SHARED) / ICMP(type=0, id=one[ICMP].id) / b"abc"))
        assert (inner(answer).dst, inner(answer)[ICMP].id, vsid(answer)) == (VM1, 7, subnet)


def test_an_error_about_a_packet_of_one_domain_reaches_its_machine_and_no_other(gateway: Balancing) -> None:
    gateway.hold(shared())
    left = of_blue_and_red(gateway, udp(VM1, 4000, CLIENT, 53))
    for one, subnet in zip(left, (6002, 5001), strict=True):
        error = gateway.forwards(*outside(unreachable(ROUTER_OUTSIDE, SHARED, quoting(one[IP]))))
        assert (inner(error).dst, quoted(error), vsid(error)) == (VM1, (VM1, 4000, CLIENT, 53), subnet)
    stray = quoting(udp(SHARED, 50000, CLIENT, 53))
    assert gateway.drops(*outside(unreachable(ROUTER_OUTSIDE, SHARED, stray))) == "vip_not_served"
    assert gateway.drops(*outside(unreachable(ROUTER_OUTSIDE, SHARED, stray[:20]))) == "vip_not_served"


def test_fragments_of_an_answer_follow_their_first_into_its_domain(gateway: Balancing) -> None:
    gateway.hold(shared())
    left = of_blue_and_red(gateway, udp(VM1, 4000, CLIENT, 53))
    for number, one in enumerate(left):
        first, later = in_fragments(datagram(CLIENT, 53, SHARED, ends(one)[1]), 7 + number)
        frames = gateway.forwards(*outside(first)), gateway.forwards(*outside(later))
        assert bytes(rejoined(*frames).payload) == bytes(IP(bytes(datagram(CLIENT, 53, VM1, 4000))).payload)
        assert [vsid(frame) for frame in frames] == [(6002, 5001)[number]] * 2


def test_a_fragment_that_may_be_of_two_domains_reaches_none(gateway: Balancing) -> None:
    gateway.hold(shared())
    left = of_blue_and_red(gateway, udp(VM1, 4000, CLIENT, 53))
    (blues, later), (reds, _) = (in_fragments(datagram(CLIENT, 53, SHARED, ends(one)[1]), 7) for one in left)
    gateway.forwards(*outside(blues))
    gateway.forwards(*outside(later))
    gateway.forwards(*outside(reds))
    assert gateway.drops(*outside(later)) == "fragment_unmatched"


def test_a_fragment_that_overtakes_its_first_waits_in_nobodys_compartment(gateway: Balancing) -> None:
    gateway.hold(shared(), compartments=for_fragments(FRAGMENTS_LEGS))
    left = gateway.forwards(*inside(udp(VM1, 4000, CLIENT, 53)))
    first, later = in_fragments(datagram(CLIENT, 53, SHARED, ends(left)[1]), 7)
    assert gateway.drops(*outside(later)) == "fragment_unmatched"
    gateway.forwards(*outside(first))
    gateway.forwards(*outside(later))


def test_an_ipv6_address_is_shared_like_any(gateway: Balancing) -> None:
    gateway.hold(shared())
    left = gateway.forwards(*inside(udp(VM6, 4000, CLIENT6, 443)))
    port = lent_to(VM6, 4000, UDP_NUMBER, BLUES)[0]
    assert ends(left) == (SHARED6, port, CLIENT6, 443)
    assert ends(gateway.forwards(*outside(udp(CLIENT6, 443, SHARED6, port)))) == (CLIENT6, 443, VM6, 4000)
    assert gateway.objects(*outside(udp(CLIENT6, 443, SHARED6, port ^ 0x8000)))[0] == "vip_not_served"


def test_connections_stay_while_a_second_domain_joins_and_goes(gateway: Balancing) -> None:
    gateway.hold(shared(reds=None))
    port = ends(gateway.forwards(*inside(tcp(VM1, 4000, CLIENT, 443))))[1]
    for policy in (shared(), shared(reds=None)):
        gateway.change(policy)
        answer = gateway.forwards(*outside(tcp(CLIENT, 443, SHARED, port, "SA")))
        assert (ends(answer)[2:], vsid(answer)) == ((VM1, 4000), 6002)
        assert ends(gateway.forwards(*inside(tcp(VM1, 4000, CLIENT, 443, "A"))))[1] == port


def test_a_connection_keeps_its_port_as_long_as_that_is_lent_and_no_longer(gateway: Balancing) -> None:
    gateway.hold(shared())
    port = ends(gateway.forwards(*inside(tcp(VM1, 4000, CLIENT, 443))))[1]
    block = port >> 12 << 12
    gateway.change(shared(blues=f"{block}-{block + 4095}"))
    assert ends(gateway.forwards(*inside(tcp(VM1, 4000, CLIENT, 443, "A"))))[1] == port
    gateway.change(shared(blues="36864-65535"))
    assert gateway.drops(*outside(tcp(CLIENT, 443, SHARED, port, "A"))) == "vip_not_served"
    later = ends(gateway.forwards(*inside(tcp(VM1, 4000, CLIENT, 443, "A"))))[1]
    assert later == lent_to(VM1, 4000, TCP_NUMBER, "36864-65535")[0]
    assert ends(gateway.forwards(*outside(tcp(CLIENT, 443, SHARED, later, "A"))))[2:] == (VM1, 4000)
    gateway.change(shared(blues=BLUES, reds="36864-65535"))
    assert gateway.drops(*outside(tcp(CLIENT, 443, SHARED, later, "A"))) == "vip_not_served"


def test_the_rest_of_an_answer_does_not_come_by_a_port_that_is_lent_no_more(gateway: Balancing) -> None:
    gateway.hold(shared())
    left = gateway.forwards(*inside(udp(VM1, 4000, CLIENT, 53)))
    first, later = in_fragments(datagram(CLIENT, 53, SHARED, ends(left)[1]), 7)
    gateway.forwards(*outside(first))
    gateway.change(shared(blues="36864-65535"))
    assert gateway.drops(*outside(later)) == "fragment_unmatched"


def with_own_ports() -> Policy:
    """One machine and a few others have ports of their own; the rest of the virtual subnet has what is left."""
    return with_balancer(
        outbound_nat=(
            OutboundNat("public", 6002),
            OutboundNat("public", 6002, customer_prefixes=(f"{VM1}/32",), ports="8192-12287"),
            OutboundNat("public", 6002, customer_prefixes=("10.1.6.20/30", "10.1.6.64/26"), ports="16384-24575"),
            OutboundNat("public", 6003, customer_prefixes=("10.1.7.0/28",)),
        )
    )


def test_a_machine_has_the_ports_of_the_longest_prefix_around_it(gateway: Balancing) -> None:
    gateway.hold(with_own_ports())
    rest = "4096-8191,12288-16383,24576-65535"
    own = {VM1: "8192-12287", VM2: "16384-24575", VM3: "16384-24575"}
    for machine, ports in own.items():
        left = gateway.forwards(*inside(udp(machine, 4000, CLIENT, 53)))
        assert ends(left)[:2] == (VIP, lent_to(machine, 4000, UDP_NUMBER, ports)[0])
        assert ends(gateway.forwards(*outside(udp(CLIENT, 53, *ends(left)[:2]))))[2:] == (machine, 4000)
    other = IP(src="10.1.6.99", dst=CLIENT) / udp("10.1.6.99", 4000, CLIENT, 53).payload
    own_others = lent_to("10.1.6.99", 4000, UDP_NUMBER, "16384-24575")
    assert ends(gateway.forwards(*inside(other, VM1)))[1] == own_others[0]
    other = IP(src="172.16.0.1", dst=CLIENT) / udp("172.16.0.1", 4000, CLIENT, 53).payload
    assert ends(gateway.forwards(*inside(other, VM1)))[1] == lent_to("172.16.0.1", 4000, UDP_NUMBER, rest)[0]


def test_machines_that_no_outbound_nat_is_for_do_not_reach_the_internet(gateway: Balancing) -> None:
    gateway.hold(with_own_ports())
    assert gateway.objects(*inside(udp(FAR, 4000, CLIENT, 53)))[0] == "no_route"


def test_an_error_of_a_machine_leaves_with_the_port_that_is_its_own(gateway: Balancing) -> None:
    gateway.hold(with_own_ports())
    port = ends(gateway.forwards(*inside(udp(VM1, 4000, CLIENT, 53))))[1]
    question = quoting(udp(CLIENT, 53, VM1, 4000))
    error = gateway.forwards(*inside(unreachable(VM1, CLIENT, question, code=3)))
    assert (error[IP].src, quoted(error)) == (VIP, (CLIENT, 53, VIP, port))


def test_one_block_has_32_ports_for_a_clients_own_and_then_none(gateway: Balancing) -> None:
    ports = lent_to(VM1, 4000, UDP_NUMBER, "8192-12287")
    assert len(set(ports)) == 32
    both = {ports[5], ports[-1]}
    gateway.hold(shared("8192-12287", None, set(ports) - both))
    given = {ends(gateway.forwards(*inside(udp(VM1, 4000, f"203.0.113.{n}", 53))))[1] for n in (7, 8)}
    assert given == both
    assert gateway.drops(*inside(udp(VM1, 4000, "203.0.113.9", 53))) == "nat_exhausted"
    for port in both:
        remotes = (f"203.0.113.{n}" for n in (7, 8))
        answers = [gateway.send(*outside(udp(remote, 53, SHARED, port))).action for remote in remotes]
        assert sorted(answers) == ["dropped", "forwarded"]


@pytest.mark.parametrize("count", [40])
def test_many_connections_of_one_block_all_have_their_answers(gateway: Balancing, count: int) -> None:
    gateway.hold(shared(blues="61440-65535"))
    given = {}
    for port in range(1000, 1000 + count):
        given[port] = ends(gateway.forwards(*inside(udp(VM1, port, CLIENT, 53))))[1]
    assert len(set(given.values())) == count
    assert min(given.values()) >= 61440
    for port, lent in given.items():
        assert ends(gateway.forwards(*outside(udp(CLIENT, 53, SHARED, lent))))[2:] == (VM1, port)


def test_a_port_of_a_connections_other_set_leads_there_after_the_table_has_grown(gateway: Balancing) -> None:
    """Both its sets are the same at first; the bit by which they differ later is that of the port."""
    choices = {port: lent_to(VM1, port, UDP_NUMBER, "4096-8191") for port in range(1024, 65536)}
    taker, wanted = next(
        (other, port)
        for port, (first, second) in ((port, (ports[0], ports[16])) for port, ports in choices.items())
        if (first ^ second) & (2 * SETS_AT_FIRST - 1) == SETS_AT_FIRST
        for other in choices
        if other != port and choices[other][0] == first
    )
    gateway.hold(shared("4096-8191", None, choices[wanted][1:16]))
    lent = [ends(gateway.forwards(*inside(udp(VM1, port, CLIENT, 53))))[1] for port in (taker, wanted)]
    assert lent == [choices[wanted][0], choices[wanted][16]]
    for number in range(3 * SETS_AT_FIRST * WAYS):
        gateway.forwards(*outside(udp(CLIENT, 1024 + number, VIP, 53)))
    answers = [gateway.forwards(*outside(udp(CLIENT, 53, SHARED, port))) for port in lent]
    assert [ends(one) for one in answers] == [(CLIENT, 53, VM1, port) for port in (taker, wanted)]
