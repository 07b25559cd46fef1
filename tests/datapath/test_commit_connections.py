"""What a commit means to flows that access lists have allowed."""

from dataclasses import replace
from socket import if_nametoindex

import numpy
import pytest
from scapy.layers.inet import IP, TCP, UDP

from gateway.datapath.model.world import World
from gateway.policy.model import AccessControlList, AccessRule, AppliesTo, Policy
from gateway.programming.encoding import mac_bytes
from gateway.underlay.network import Link
from tests.datapath.cases import Gateway
from tests.datapath.frames_meanwhile import frames_meanwhile
from tests.datapath.loader_support import needs_root
from tests.unit.model.support import BLUE, RECORDS, changed, external, tunnelled

pytestmark = needs_root
XDP_REDIRECT = 4


def guarded(*rules: AccessRule, inbound: str = "deny", outbound: str = "allow") -> Policy:
    """VSID 6002 behind a list that lets its machines ask and nobody ask them, but for `rules`."""
    access_list = AccessControlList("guard", (AppliesTo(6002),), inbound, outbound, rules)
    return changed(access_control_lists=(access_list,))


def rule(number: int) -> AccessRule:
    """A rule that matters to nobody here."""
    return AccessRule(number, "inbound", "allow", "tcp", "203.0.113.0/24")


NO_UDP = AccessRule(1, "outbound", "deny", "udp")


def question(port: int = 4000) -> tuple[str, bytes]:
    packet = IP(src="10.1.6.21", dst="157.1.0.9") / UDP(sport=port, dport=53)
    return "p0", tunnelled(packet, 6002, "192.168.6.4")


def reply(port: int = 4000) -> tuple[str, bytes]:
    return "x0", external(IP(src="157.1.0.9", dst="10.1.6.21") / UDP(sport=53, dport=port))


def restart(gateway: Gateway, world: World) -> None:
    programmer = gateway.programs.restarted(world.ports, world.router_mac, world.dscp)
    programmer.links_changed(
        {
            each.name: Link(each.name, if_nametoindex(each.name), mac_bytes(each.mac), each.mtu, True)
            for each in world.interfaces.values()
        }
    )
    gateway.programs.programmer = programmer


def test_a_flow_goes_on_over_a_commit_that_leaves_its_lists_alone(gateway: Gateway) -> None:
    gateway.hold(guarded())
    assert gateway.send(*question()).action == "forwarded"
    policies = (
        changed(lookup_records=(*RECORDS[:3], *RECORDS[3:8]), access_control_lists=lists(guarded())),
        guarded(),
    )
    with frames_meanwhile(gateway.programs, {"reply": reply()}) as seen:
        for number in range(100):
            assert gateway.programs.programmer.apply_domain(policies[number % 2], BLUE) == {}
    assert {action for action, _ in seen.results["reply"]} == {XDP_REDIRECT}
    assert gateway.drops(*reply(4001)) == "access_list_inbound"


def lists(policy: Policy) -> tuple[AccessControlList, ...]:
    return policy.routing_domains[0].access_control_lists


def test_a_flow_that_the_new_lists_deny_ends_with_its_next_packet(gateway: Gateway) -> None:
    gateway.hold(guarded())
    assert gateway.send(*question()).action == "forwarded"
    assert gateway.send(*reply()).action == "forwarded"
    assert gateway.programs.apply(guarded(NO_UDP)) == {}
    assert gateway.drops(*reply()) == "access_list_outbound"
    assert gateway.programs.apply(guarded()) == {}
    assert gateway.drops(*reply()) == "access_list_inbound"


def test_a_flow_that_the_new_lists_allow_too_goes_on_in_both_directions(gateway: Gateway) -> None:
    gateway.hold(guarded())
    assert gateway.send(*question()).action == "forwarded"
    assert gateway.programs.apply(guarded(rule(1))) == {}
    assert gateway.send(*reply()).action == "forwarded"
    assert gateway.send(*question()).action == "forwarded"


def test_a_reply_is_judged_as_its_question_was(gateway: Gateway) -> None:
    """After a change the initiator's direction is asked about, whoever sends first."""
    gateway.hold(guarded())
    assert gateway.send(*question()).action == "forwarded"
    only_dns = AccessRule(1, "outbound", "allow", "udp", destination_ports="53")
    assert gateway.programs.apply(guarded(only_dns, outbound="deny")) == {}
    assert gateway.send(*reply()).action == "forwarded"


@pytest.mark.parametrize("commits", [254, 255, 256])
def test_lists_of_the_same_number_255_changes_ago_vouch_for_no_flow(gateway: Gateway, commits: int) -> None:
    gateway.hold(guarded())
    assert gateway.send(*question()).action == "forwarded"
    before = generations(gateway)
    programmer = gateway.programs.programmer
    for number in range(commits - 1):
        assert programmer.apply_domain(guarded(rule(number)), BLUE) == {}
    assert programmer.apply_domain(guarded(NO_UDP), BLUE) == {}
    assert (generations(gateway) == before) == (commits == 255)
    assert gateway.send(*reply()).reason in ("access_list_outbound", "access_list_inbound")
    assert gateway.send(*question()).reason == "access_list_outbound"


def generations(gateway: Gateway) -> int:
    """The generation of the access lists in blue's table."""
    maps, layout = gateway.programs.datapath.maps, gateway.programs.layout
    number = gateway.programs.programmer.numbers()[BLUE]
    line = int(maps["tables"].records(layout.struct("table_word"))[number]["line"]) + 1
    more = maps["arena"].mmap()[line * 64 : line * 64 + 64].view(layout.struct("table_more"))
    return int(numpy.asarray(more["generation"])[0])


def test_a_restart_keeps_the_flows(gateway: Gateway) -> None:
    world = gateway.hold(guarded())
    assert gateway.send(*question()).action == "forwarded"
    restart(gateway, world)
    assert gateway.send(*reply()).action == "forwarded"
    assert gateway.programs.programmer.apply(guarded()) == {}
    assert gateway.send(*reply()).action == "forwarded"


def test_lists_that_changed_while_no_daemon_ran_are_asked_again(gateway: Gateway) -> None:
    world = gateway.hold(guarded())
    assert gateway.send(*question()).action == "forwarded"
    restart(gateway, world)
    assert gateway.programs.programmer.apply(guarded(NO_UDP)) == {}
    assert gateway.drops(*reply()) == "access_list_outbound"


def test_a_domain_that_is_given_anothers_number_finds_none_of_its_flows(gateway: Gateway) -> None:
    gateway.hold(guarded())
    number = gateway.programs.programmer.numbers()[BLUE]
    assert gateway.send(*question()).action == "forwarded"
    other = "11111111-2222-3333-4444-000000000003"
    policy = guarded()
    renamed = replace(
        policy, routing_domains=(replace(policy.routing_domains[0], id=other), *policy.routing_domains[1:])
    )
    assert gateway.programs.apply(replace(policy, routing_domains=policy.routing_domains[1:])) == {}
    assert gateway.programs.apply(renamed) == {}
    assert gateway.programs.programmer.numbers()[other] == number
    assert gateway.drops(*reply()) == "access_list_inbound"


def test_the_flow_stays_with_a_machine_that_moves(gateway: Gateway) -> None:
    gateway.hold(guarded())
    syn = IP(src="10.1.6.21", dst="157.1.0.9") / TCP(sport=9, dport=80, flags="S")
    answer = external(IP(src="157.1.0.9", dst="10.1.6.21") / TCP(sport=80, dport=9, flags="SA"))
    assert gateway.send("p0", tunnelled(syn, 6002, "192.168.6.4")).action == "forwarded"
    moved = tuple(
        replace(record, provider_address="192.168.2.20") if record.customer_address == "10.1.6.21" else record
        for record in RECORDS
    )
    assert gateway.programs.apply(changed(lookup_records=moved, access_control_lists=lists(guarded()))) == {}
    assert gateway.forwards("x0", answer)[IP].dst == "192.168.2.20"
