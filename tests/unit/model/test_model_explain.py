"""Packets described in words, and what the gateway says it would do with them."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.datapath.model.compartments import TunnelState
from gateway.datapath.model.explain import REASONS, Question, QuestionError, explain, to_json
from gateway.datapath.model.verdict import DropReason, Verdict
from gateway.datapath.model.world import World
from gateway.policy.connections import TrafficSelectors
from gateway.policy.model import AccessControlList, AccessRule, AppliesTo, Policy
from tests.unit.model import tunnels
from tests.unit.model.services import SERVICE_PORTS
from tests.unit.model.support import BLUE, make_world, with_lists

OUT = Question(source="10.1.1.11", destination="157.1.0.9", vsid=6001)


def layers(verdict: Verdict) -> list[str]:
    return [step.layer for step in verdict.steps]


def test_each_layer_names_the_entry_that_decided() -> None:
    verdict = explain(make_world(), Question(source="157.1.0.9", destination="10.1.6.21", origin="corpnet"))
    assert verdict.action == "forwarded"
    assert layers(verdict) == ["port", "admit", "route", "encapsulate", "leave", "verdict"]
    assert verdict.steps[2].entry == "/routing_domains/0/lookup_records/3"
    assert "6002" in verdict.steps[2].words


def test_the_host_and_the_encapsulation_are_those_of_the_sources_record() -> None:
    words = explain(make_world(), OUT).steps[1].words
    assert words == "NVGRE from 192.168.1.10 to 192.168.6.2 with VSID 6001."


def test_a_packet_may_be_said_to_come_from_another_host() -> None:
    question = Question(
        source="10.1.1.11", destination="157.1.0.9", vsid=6001, outer_source="192.168.3.30", encapsulation="vxlan"
    )
    assert explain(make_world(), question).reason == "source_not_admitted"


@pytest.mark.parametrize(
    ("source", "destination", "vsid"),
    [("fd00:1::11", "fd00:157::9", 6001), ("10.1.6.22", "10.1.1.11", 6002), ("10.1.6.31", "10.1.6.99", 6002)],
)
def test_packets_of_every_encapsulation_can_be_asked_about(source: str, destination: str, vsid: int) -> None:
    verdict = explain(make_world(), Question(source=source, destination=destination, vsid=vsid))
    assert verdict.action == "forwarded", verdict


def test_an_unknown_neighbour_is_taken_as_resolved_and_said_so() -> None:
    world = make_world()
    verdict = explain(world, Question(source="10.1.1.11", destination="157.1.8.8", vsid=6001))
    assert verdict.action == "forwarded"
    assert any("stands for it here" in step.words for step in verdict.steps if step.layer == "neighbours")
    assert world.process("x0", b"").action == "passed"
    assert ("x0", 0, "157.1.8.8") not in world.neighbours


def test_asking_leaves_no_connection_behind() -> None:
    rules = (AccessRule(1, "inbound", "deny"),)
    world = make_world(with_lists(AccessControlList("a", (AppliesTo(vsid=6001),), rules=rules)))
    forth = Question(source="10.1.1.11", destination="157.1.0.9", vsid=6001, protocol="udp", port=53)
    back = Question(
        source="157.1.0.9", destination="10.1.1.11", origin="corpnet", protocol="udp", source_port=53, port=49152
    )
    assert explain(world, forth).action == "forwarded"
    denied = explain(world, back)
    assert denied.reason == "access_list_inbound"
    assert [step.entry for step in denied.steps if step.layer == "access lists"] == [
        "/routing_domains/0/access_control_lists/0/rules/0"
    ]


@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp", "icmpv6", 132, "50"])
def test_every_protocol_can_be_asked_about(protocol: str | int) -> None:
    question = Question(source="10.1.1.11", destination="157.1.0.9", vsid=6001, protocol=protocol, port=80)
    assert explain(make_world(), question).action == "forwarded"


def test_a_length_and_a_ttl_can_be_asked_about() -> None:
    long = Question(source="157.1.0.9", destination="10.1.6.21", origin="corpnet", length=1551)
    assert explain(make_world(external_mtu=9000), long).reason == "too_big"
    aged = Question(source="157.1.0.9", destination="10.1.6.21", origin="corpnet", ttl=1)
    assert explain(make_world(), aged).reason == "ttl_exceeded"


def test_a_vlan_can_be_asked_about() -> None:
    question = Question(source="157.1.0.9", destination="10.1.1.11", origin="corpnet", vlan=10)
    verdict = explain(make_world(), question)
    assert verdict.domain == "11111111-2222-3333-4444-000000000002"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"source": "10.1.1"}, "source"),
        ({"destination": "fd00::1"}, "destination"),
        ({"vsid": None}, "vsid"),
        ({"vsid": 1 << 24}, "vsid"),
        ({"origin": "nowhere"}, "from"),
        ({"source": "10.9.9.9"}, "outer_source"),
        ({"outer_source": "x"}, "outer_source"),
        ({"encapsulation": "gre"}, "encapsulation"),
        ({"encapsulation": "rewrite"}, "destination"),
        ({"protocol": "sctp"}, "protocol"),
        ({"protocol": 256}, "protocol"),
        ({"port": 65536}, "port"),
        ({"source_port": -1}, "source_port"),
        ({"ttl": 256}, "ttl"),
        ({"length": 70000}, "length"),
    ],
)
def test_a_faulty_question_is_refused_by_the_name_of_its_field(fields: dict[str, object], field: str) -> None:
    good: dict[str, object] = {"source": "10.1.1.11", "destination": "157.1.0.9", "vsid": 6001}
    with pytest.raises(QuestionError, match=f"^{field}: "):
        explain(make_world(), Question(**(good | fields)))  # type: ignore[arg-type]


CARRIES = TunnelState(True, "The tunnel is connected since noon; packets of up to 1422 bytes fit.")
TO_SITE = Question(source="10.1.1.11", destination=tunnels.BEHIND_HEADQUARTERS, vsid=6001)


def tunnelled_world(
    state: TunnelState = CARRIES, policy: Policy = tunnels.TUNNELS, second: TunnelState = CARRIES, **more: Any
) -> World:
    states = {(BLUE, "headquarters"): state, (BLUE, "second"): second}
    return make_world(policy, ports=SERVICE_PORTS, tunnels=states, **({"compartments": tunnels.COMPARTMENTS} | more))


def words(verdict: Verdict, layer: str) -> list[str]:
    return [step.words for step in verdict.steps if step.layer == layer]


def test_what_is_behind_a_tunnel_is_said_to_go_to_the_compartment_by_its_connection() -> None:
    verdict = explain(tunnelled_world(), TO_SITE)
    assert (verdict.action, verdict.interface) == ("forwarded", "gib")
    assert words(verdict, "route") == [
        "10.2.0.10 lies in 10.2.0.0/16, behind the tunnel headquarters: to the compartment of blue."
    ]
    assert verdict.steps[3].entry == "/routing_domains/0/network_connections/2/routes/0"
    assert words(verdict, "tunnel") == [CARRIES.words]
    assert words(verdict, "verdict") == ["It is forwarded."]


def test_a_tunnel_that_is_down_is_said_to_fail_closed() -> None:
    verdict = explain(tunnelled_world(TunnelState(False, "The tunnel carries nothing: not connected.")), TO_SITE)
    assert verdict.interface == "gib"
    assert words(verdict, "tunnel")[1] == (
        "The compartment drops what comes for it meanwhile: nothing leaves in clear."
    )
    assert words(verdict, "verdict") == ["It is forwarded to the compartment, which drops it."]


def test_where_two_tunnels_lead_the_connected_one_of_the_lower_metric_is_named() -> None:
    second = tunnels.tunnel("second", tunnels.STRANGER, None, "10.2.0.0/16", metric=5)
    policy = tunnels.with_blue(network_connections=(second, *tunnels.BLUE_DOMAIN.network_connections))
    down = TunnelState(False, "The tunnel carries nothing: not connected.")
    for state, told in ((CARRIES, [CARRIES.words]), (down, [down.words, CARRIES.words])):
        verdict = explain(tunnelled_world(state, policy), TO_SITE)
        assert words(verdict, "tunnel") == told
        assert words(verdict, "verdict") == ["It is forwarded."]


def test_only_tunnels_whose_local_selectors_hold_the_source_are_named() -> None:
    for_others = TrafficSelectors(("10.1.6.0/24",), ("10.2.0.0/24",))
    second = replace(tunnels.tunnel("second", tunnels.STRANGER, None), traffic_selectors=for_others)
    policy = tunnels.with_blue(network_connections=(second, *tunnels.BLUE_DOMAIN.network_connections))
    first = TunnelState(True, "The first.")
    verdict = explain(tunnelled_world(first, policy), TO_SITE)
    assert words(verdict, "tunnel") == ["The first."], "though the second one's prefix is longer"
    assert words(verdict, "verdict") == ["It is forwarded."]
    alone = tunnels.with_blue(network_connections=(*tunnels.BLUE_DOMAIN.network_connections[:2], second))
    verdict = explain(tunnelled_world(first, alone), TO_SITE)
    assert words(verdict, "tunnel")[0] == "Its local selectors do not hold 10.1.1.11."
    assert words(verdict, "verdict") == ["It is forwarded to the compartment, which drops it."]


def test_a_tunnel_without_its_compartment_is_said_to_be_closed() -> None:
    verdict = explain(tunnelled_world(compartments={}), TO_SITE)
    assert (verdict.action, verdict.reason) == ("dropped", "no_record")
    assert "It is closed, so that nothing for it goes another way in clear." in words(verdict, "route")


def test_ike_is_said_to_go_to_the_compartment_of_its_peer() -> None:
    question = Question(
        source=tunnels.BRANCH, destination=tunnels.SHARED, origin="internet", protocol="udp", port=500, source_port=500
    )
    assert words(explain(tunnelled_world(), question), "steer") == [
        "IKE and ESP of its peer belong to the tunnel branch: to the compartment of blue."
    ]
    strange = replace(question, source=tunnels.STRANGER)
    assert explain(tunnelled_world(), strange).reason == "vip_not_served"


def test_what_comes_out_of_a_tunnel_can_be_asked_about() -> None:
    question = Question(source=tunnels.BEHIND_HEADQUARTERS, destination="10.1.1.11", origin="blue/headquarters")
    verdict = explain(tunnelled_world(), question)
    assert (verdict.action, verdict.domain, verdict.interface) == ("forwarded", BLUE, "p0")
    with pytest.raises(QuestionError, match="^from: "):
        explain(tunnelled_world(compartments={}), question)


def test_the_json_holds_all_of_the_verdict() -> None:
    verdict = explain(make_world(), OUT)
    answer = json.loads(json.dumps(to_json(verdict)))
    assert (answer["verdict"], answer["reason"], answer["interface"]) == ("forwarded", None, "x0")
    assert bytes.fromhex(answer["frame"]) == verdict.frame
    assert [step["layer"] for step in answer["steps"]] == layers(verdict)


def test_every_drop_reason_has_words() -> None:
    assert set(REASONS) == set(DropReason)
