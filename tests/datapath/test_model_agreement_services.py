"""The programs and the model agree on load balancing and address translation too."""

from collections.abc import Iterator
from random import Random

import pytest

from gateway.datapath.connections import LINES_OF_SET
from gateway.datapath.model.translation import Key, ports_for
from gateway.datapath.model.verdict import Verdict
from gateway.datapath.model.world import World
from tests.datapath.evictions import Evictions
from tests.datapath.loader_support import needs_root
from tests.datapath.programs_under_test import Outcome, ProgramsUnderTest, programs_under_test
from tests.datapath.seeds import seeded
from tests.worlds.conversations import Conversation
from tests.worlds.random_balancers import interfaces, random_balanced_world, with_other_members

FRAMES = 100_000
FRAMES_PER_WORLD = 400  # fewer than a domain may answer
FRAMES_PER_POLICY = 100
ETHERNET_HEADER = 14  # BPF_PROG_TEST_RUN takes nothing shorter

pytestmark = needs_root


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProgramsUnderTest]:
    with programs_under_test(tmp_path_factory.mktemp("programs"), interfaces()) as under_test:
        yield under_test


def use_all_places(programs: ProgramsUnderTest) -> None:
    """Then hardly a connection is in its second set, where the programs take its port from other bits of the hash."""
    rows = programs.datapath.maps["domains"].records(programs.layout.struct("domain"))
    for family, lines in LINES_OF_SET.items():
        rows[f"connections{family}_used"] = rows[f"connections{family}_lines"] // lines


def compare(programs: ProgramsUnderTest, world: World, random: Random) -> int:
    conversation, evictions = Conversation(world), Evictions(programs)
    domains = [domain.id for domain in world.policy.routing_domains]
    for number in range(FRAMES_PER_WORLD):
        if number and number % FRAMES_PER_POLICY == 0:
            policy = with_other_members(random, world.policy)
            world.change_policy(policy)
            assert programs.apply(policy) == {}
        interface, frame = conversation.next_frame(random)
        if len(frame) < ETHERNET_HEADER:
            continue
        known = set(world.translations)
        got = programs.process(interface, frame)
        verdict = world.process(interface, frame)
        for key in world.translations.keys() - known if got != Outcome.of(verdict) else ():
            verdict = with_second_ports(world, key, interface, frame, got) or verdict
        assert got == Outcome.of(verdict), f"{interface} {frame.hex()}: {[step.words for step in verdict.steps]}"
        if any(map(evictions.happened, domains)):  # of two domains, if the packet turned
            return number + 1
        conversation.heard(verdict)
    return FRAMES_PER_WORLD


def with_second_ports(world: World, key: Key, interface: str, frame: bytes, got: Outcome) -> Verdict | None:
    """The same verdict, but with the port that the programs give to a connection in its second set."""
    given = world.translations[key].nat_port
    ports = list(ports_for(key.client, key.protocol)) if given else []
    for port in ports[len(ports) // 2 :]:
        world.translations[key].nat_port = port
        verdict = world.process(interface, frame)  # which makes it another connection where no such port is lent
        if got == Outcome.of(verdict):
            return verdict
    world.translations[key].nat_port = given
    return None


def test_the_programs_balance_and_translate_as_the_model_does(
    programs: ProgramsUnderTest, capsys: pytest.CaptureFixture[str]
) -> None:
    random = seeded("balanced worlds", capsys)
    compared = 0
    while compared < FRAMES:
        world = random_balanced_world(random)
        world.change_policy(world.policy, {})  # who moved where is the programmer's own knowledge
        programs.refill_answers()
        assert programs.place(world) == {}
        use_all_places(programs)
        compared += compare(programs, world, random)
    with capsys.disabled():
        print(f"balanced worlds: {compared} frames compared, no difference")
