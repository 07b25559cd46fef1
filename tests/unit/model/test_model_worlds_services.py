"""Random worlds with load balancers: valid, reaching what they are for, and with nothing private in the Internet."""

from collections import Counter
from ipaddress import ip_address
from random import Random

from gateway.datapath.model import ethernet, ip
from gateway.datapath.model.verdict import Action, DropReason, Verdict
from gateway.datapath.model.world import World
from gateway.policy.internet import INTERNET
from gateway.policy.validation import faults
from tests.unit.model.services import OF_SERVICES
from tests.worlds.conversations import Conversation
from tests.worlds.random_balancers import INTERNET_PORTS, random_balanced_world, with_other_members

LINKS = {(port.interface, port.vlan) for port in INTERNET_PORTS}
OWN = {ip_address(address) for port in INTERNET_PORTS for address in port.own_addresses()}


def standing_clock(world: World) -> World:
    ticks = iter(range(1 << 62))
    world.clock = lambda: next(ticks) / 100
    return world


def spoken(random: Random, world: World, frames: int) -> list[Verdict]:
    """The verdicts on a conversation in which members come and go."""
    conversation, verdicts = Conversation(standing_clock(world)), []
    for number in range(frames):
        if number % 100 == 99:
            world.change_policy(with_other_members(random, world.policy))
        verdict = world.process(*conversation.next_frame(random))
        conversation.heard(verdict)
        verdicts.append(verdict)
    return verdicts


def test_policies_with_services_are_valid_and_stay_so_while_members_change() -> None:
    for seed in range(60):
        random = Random(seed)
        world = random_balanced_world(random)
        ports = {port.name: port for port in world.ports}
        assert list(faults(world.policy, ports)) == []
        assert list(faults(with_other_members(random, world.policy), ports)) == []


def test_conversations_reach_what_services_are_for() -> None:
    random = Random(5)
    seen: Counter[str] = Counter()
    for _ in range(25):
        for verdict in spoken(random, random_balanced_world(random), 400):
            seen[verdict.reason or verdict.action] += 1
            seen.update(step.layer for step in verdict.steps)
    unreached = {DropReason.NAT_EXHAUSTED, DropReason.TRANSLATION_MISSING}  # see the cases of NAT
    assert {str(one) for one in OF_SERVICES - unreached} <= set(seen)
    assert seen["translate"] > 1000
    assert seen["order"] > seen["ordered"] > 50  # some came back


def public_addresses(world: World, rdid: str) -> set[object]:
    domain = next(one for one in world.policy.routing_domains if one.id == rdid)
    frontends = [one.address for balancer in domain.load_balancers for one in balancer.frontends if one.public]
    return {ip_address(text) for text in (*frontends, *(one.address for one in domain.public_addresses))}


def test_nothing_private_leaves_to_the_internet() -> None:
    random = Random(11)
    left = 0
    for _ in range(25):
        world = random_balanced_world(random)
        for verdict in spoken(random, world, 400):
            frame = ethernet.parse(verdict.frame) if verdict.frame else None
            if frame is None or (verdict.interface, frame.vlan) not in LINKS or verdict.action != Action.FORWARDED:
                continue
            if verdict.domain == INTERNET:
                continue  # from one of its ports to another
            assert verdict.domain is not None
            assert ip.parse(frame.type, frame.payload).source in public_addresses(world, verdict.domain)
            left += 1
    assert left > 500
