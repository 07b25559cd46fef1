"""The programs and the reference model, given the same frames, agree on verdict, domain and every byte that leaves."""

from collections.abc import Iterable, Iterator

import pytest

from gateway.datapath.model.world import World
from tests.datapath.evictions import Evictions
from tests.datapath.loader_support import needs_root
from tests.datapath.programs_under_test import Outcome, ProgramsUnderTest, programs_under_test
from tests.datapath.seeds import seeded
from tests.worlds import places, random_frame, random_world, small_frames, small_worlds

RANDOM_FRAMES = 100_000
FRAMES_PER_WORLD = 250
FRAMES_BETWEEN_REFILLS = 400  # a domain's budget of answers is 1,000
ETHERNET_HEADER = 14  # BPF_PROG_TEST_RUN takes nothing shorter

pytestmark = needs_root


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProgramsUnderTest]:
    with programs_under_test(tmp_path_factory.mktemp("programs"), places.interfaces()) as under_test:
        yield under_test


def compare(programs: ProgramsUnderTest, world: World, frames: Iterable[tuple[str, bytes]]) -> int:
    compared, evictions = 0, Evictions(programs)
    for interface, frame in frames:
        if len(frame) < ETHERNET_HEADER:
            continue
        if compared % FRAMES_BETWEEN_REFILLS == 0:
            programs.refill_answers()
        got = programs.process(interface, frame)
        verdict = world.process(interface, frame)
        assert got == Outcome.of(verdict), f"{interface} {frame.hex()}: {[step.words for step in verdict.steps]}"
        compared += 1
        if evictions.happened(verdict.domain):
            break
    return compared


def test_the_programs_agree_with_the_model_on_every_frame_of_the_small_world(
    programs: ProgramsUnderTest, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = 0
    for world in small_worlds():
        assert programs.place(world) == {}
        compared += compare(programs, world, small_frames(world))
    with capsys.disabled():
        print(f"\nsmall worlds: {compared} frames compared, no difference")
    assert compared > 10_000


def test_the_programs_agree_with_the_model_on_random_frames_under_random_policies(
    programs: ProgramsUnderTest, capsys: pytest.CaptureFixture[str]
) -> None:
    random = seeded("random worlds", capsys)
    compared = 0
    while compared < RANDOM_FRAMES:
        world = random_world(random)
        world.change_policy(world.policy, {})  # who moved where is the programmer's own knowledge
        assert programs.place(world) == {}
        compared += compare(programs, world, (random_frame(random, world) for _ in range(FRAMES_PER_WORLD)))
    with capsys.disabled():
        print(f"random worlds: {compared} frames compared, no difference")
