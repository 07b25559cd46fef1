"""The real programs for the cases, loaded once a module."""

from collections.abc import Iterator

import pytest

from tests.datapath.cases import Gateway
from tests.datapath.held import ALL_PORTS, Held, policy
from tests.datapath.programs_under_test import programs_under_test
from tests.unit.model.support import make_world


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with programs_under_test(tmp_path_factory.mktemp("programs"), make_world().interfaces) as programs:
        yield Gateway(programs)


@pytest.fixture
def held(gateway: Gateway) -> Held:
    world = make_world(policy())
    world.ports = ALL_PORTS
    assert gateway.programs.place(world) == {}
    return Held(gateway)
