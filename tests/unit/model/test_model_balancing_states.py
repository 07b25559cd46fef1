"""What only the model can be asked: time that passes, members' health and numbers, and why something is as it is."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.datapath.model.explain import Question, explain
from gateway.policy.internet import INTERNET, internet_domain
from gateway.policy.model import ConnectionRoute, Policy, PoolMember
from lb.pools import Choice, PoolState, pool_states
from tests.unit.model.services import (
    BLUE_DOMAIN,
    CLIENT,
    FAR,
    OWN,
    SERVICES,
    VIP,
    VM1,
    VM2,
    VM3,
    WEB,
    ModelGateway,
    ends,
    inner,
    inside,
    outside,
    tcp,
    udp,
    with_members,
    with_rule,
)
from tests.unit.model.support import BLUE, INTERNET_PORT, PORTS, RED


def with_down(*down: str) -> dict[str, dict[Choice, PoolState]]:
    """Blue's farm with members that do not answer their probes."""
    states = pool_states(BLUE_DOMAIN, {})
    choice = Choice("web", "all", None)
    members = tuple(
        replace(one, state="down") if one.customer_address in down else one for one in states[choice].members
    )
    return {BLUE: {**states, choice: replace(states[choice], members=members)}}


def chosen(gateway: ModelGateway, source_port: int, flags: str = "S") -> str:
    return str(inner(gateway.forwards(*outside(tcp(CLIENT, source_port, VIP, 8000, flags)))).dst)


def test_connections_of_a_member_that_fails_move_at_once_and_do_not_come_back(gateway: ModelGateway) -> None:
    gateway.hold()
    before = {port: chosen(gateway, port) for port in range(20000, 20060)}
    gateway.world.change_policy(SERVICES, member_states=with_down(VM2))
    after = {port: chosen(gateway, port, "A") for port in before}
    assert VM2 not in after.values()
    assert {port for port in before if before[port] != after[port]} == {p for p in before if before[p] == VM2}
    gateway.world.change_policy(SERVICES)
    assert {port: chosen(gateway, port, "A") for port in before} == after


def test_without_a_healthy_member_nothing_is_chosen(gateway: ModelGateway) -> None:
    gateway.hold(member_states=with_down(*WEB))
    assert gateway.drops(*outside(tcp(CLIENT, 4000, VIP, 8000))) == "no_member"


def test_a_failing_members_last_answers_are_still_translated(gateway: ModelGateway) -> None:
    gateway.hold()
    member = chosen(gateway, 4000)
    gateway.world.change_policy(SERVICES, member_states=with_down(member))
    assert ends(gateway.forwards(*inside(tcp(member, 8080, CLIENT, 4000, "A"))))[0] == VIP


def test_a_member_that_comes_back_has_another_number(gateway: ModelGateway) -> None:
    gateway.hold(with_members("all", PoolMember(VM1)))
    chosen(gateway, 4000)
    gateway.change(with_members("all", PoolMember(VM2)))
    gateway.change(with_members("all", PoolMember(VM1, state="draining"), PoolMember(VM2)))
    assert chosen(gateway, 4000, "A") == VM2


Sending = Callable[[ModelGateway], None]


def answered(gateway: ModelGateway) -> None:
    gateway.forwards(*inside(tcp(VM1, 8080, CLIENT, 4000, "SA")))


def closed(gateway: ModelGateway) -> None:
    answered(gateway)
    chosen(gateway, 4000, "FA")


@pytest.mark.parametrize(
    ("then", "seconds"), [(lambda _: None, 60), (answered, 300), (closed, 60)], ids=["half open", "answered", "closing"]
)
def test_tcp_connections_are_kept_as_long_as_their_state_says(
    gateway: ModelGateway, then: Sending, seconds: int
) -> None:
    alone = with_rule("farm", idle_timeout_s=300)
    gateway.hold(_farm_of(alone, PoolMember(VM1)))
    chosen(gateway, 4000)
    then(gateway)
    gateway.change(_farm_of(alone, PoolMember(VM1, state="draining"), PoolMember(VM3)))
    gateway.world.clock = lambda: 1000.0 + seconds
    copy = gateway.world.copy()
    assert ends(gateway.forwards(*outside(tcp(CLIENT, 4000, VIP, 8000, "A"))))[2] == VM1
    copy.clock = lambda: 1000.5 + seconds
    assert ends(ModelGateway(copy).forwards(*outside(tcp(CLIENT, 4000, VIP, 8000, "A"))))[2] == VM3


def _farm_of(policy: Policy, *members: PoolMember) -> Policy:
    pools = with_members("all", *members).routing_domains[0].load_balancers[0].backend_pools
    blue = policy.routing_domains[0]
    balancer = replace(blue.load_balancers[0], backend_pools=pools)
    return replace(policy, routing_domains=(replace(blue, load_balancers=(balancer,)), *policy.routing_domains[1:]))


@pytest.mark.parametrize(("port", "seconds"), [(53, 180), (None, 60)], ids=["udp", "tcp half open"])
def test_outbound_ports_are_given_back(gateway: ModelGateway, port: int | None, seconds: int) -> None:
    gateway.hold()
    made = udp if port else tcp
    nat_port = gateway.forwards(*inside(made(FAR, 4000, CLIENT, port or 443))).payload.sport
    gateway.world.clock = lambda: 1000.5 + seconds
    assert gateway.send(*outside(made(CLIENT, port or 443, VIP, nat_port))).reason == "vip_not_served"


def test_later_fragments_follow_their_first_for_thirty_seconds(gateway: ModelGateway) -> None:
    gateway.hold()
    packet = udp(CLIENT, 4000, VIP, 53)
    first, later = packet.copy(), packet.copy()
    first.flags, first.id = "MF", 7
    later.remove_payload()
    later.frag, later.id, later.proto = 4, 7, 17
    gateway.forwards(*outside(first))
    gateway.world.clock = lambda: 1031.0
    assert gateway.drops(*outside(later / bytes(16))) == "fragment_unmatched"


def words(gateway: ModelGateway, question: Question) -> list[str]:
    return [step.words for step in explain(gateway.world, question).steps if step.layer in ("frontend", "balance")]


QUESTION = Question(CLIENT, VIP, origin="internet", protocol="tcp", port=8000, source_port=4000)


def test_the_rule_the_member_and_what_chose_it_are_told(gateway: ModelGateway) -> None:
    gateway.hold()
    frontend, rule, member = words(gateway, QUESTION)
    assert frontend == f"{VIP} is the frontend public."
    assert rule == "Port 8000 is that of the rule farm."
    assert member.startswith("Slot ")
    assert member.endswith(f"by the hash of the five-tuple, is {chosen(gateway, 4000)}'s.")


def test_a_connection_that_is_there_is_told(gateway: ModelGateway) -> None:
    gateway.hold()
    member = chosen(gateway, 4000)
    assert words(gateway, QUESTION)[-1] == f"The connection is one that {member} has (active)."
    gateway.world.change_policy(SERVICES, member_states=with_down(member))
    assert words(gateway, QUESTION)[2] == "The member that had the connection is gone."


def test_what_is_translated_is_told_with_the_entry_that_says_so(gateway: ModelGateway) -> None:
    gateway.hold()
    question = Question(CLIENT, VIP, origin="internet", protocol="udp", port=53, source_port=4000)
    steps = explain(gateway.world, question).steps
    step = next(one for one in steps if one.layer == "translate")
    assert step.entry == "/routing_domains/0/load_balancers/0/rules/2"
    assert step.words == f"Its destination {VIP}:53 becomes {VM2}:5353."
    outbound = Question(FAR, CLIENT, vsid=6003, protocol="udp", port=53)
    steps = explain(gateway.world, outbound).steps
    assert any(one.words.startswith(f"Its source {FAR}:49152 becomes {VIP}:") for one in steps)


def test_asking_translates_nothing(gateway: ModelGateway) -> None:
    gateway.hold()
    explain(gateway.world, QUESTION)
    assert not gateway.world.translations


def test_the_internet_is_a_domain_of_the_ports_with_addresses() -> None:
    domain = internet_domain((*PORTS, INTERNET_PORT))
    assert domain is not None
    assert domain.id == INTERNET
    (connection,) = domain.network_connections
    assert connection.routes == (
        ConnectionRoute("198.51.100.0/24"),
        ConnectionRoute("2001:db8:100::/64"),
        ConnectionRoute("0.0.0.0/0", "198.51.100.254"),
        ConnectionRoute("::/0", "2001:db8:100::fe"),
    )
    assert internet_domain(PORTS) is None


def test_packets_of_the_internet_are_counted_under_the_tenant_as_soon_as_it_is_known(gateway: ModelGateway) -> None:
    gateway.hold()
    for destination, domain in ((VIP, BLUE), (OWN, BLUE), ("198.51.100.81", RED), ("198.51.100.1", INTERNET)):
        assert gateway.send(*outside(tcp(CLIENT, 4000, destination, 79))).domain == domain


def test_what_the_internet_decides_names_the_port(gateway: ModelGateway) -> None:
    gateway.hold()
    steps = explain(gateway.world, Question(FAR, CLIENT, vsid=6003, protocol="udp", port=53)).steps
    assert [step.entry for step in steps if step.layer == "route"][-1] == f"/ports/{len(PORTS)}"
