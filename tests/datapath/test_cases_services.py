"""Load balancing, address translation and tunnels by the real programs: the very cases that the model is held to."""

from dataclasses import dataclass
from typing import Any

import pytest

from gateway.datapath.model.world import World
from gateway.policy.model import Policy
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.datapath.programs_under_test import ProgramsUnderTest
from tests.unit.model.services import SERVICE_PORTS, SERVICES
from tests.unit.model.test_model_balancing import *  # noqa: F403
from tests.unit.model.test_model_balancing_errors import *  # noqa: F403
from tests.unit.model.test_model_balancing_fragments import *  # noqa: F403
from tests.unit.model.test_model_balancing_members import *  # noqa: F403
from tests.unit.model.test_model_balancing_nat import *  # noqa: F403
from tests.unit.model.test_model_compartments import *  # noqa: F403
from tests.unit.model.test_model_ordering import *  # noqa: F403

pytestmark = needs_root


@dataclass
class BalancingGateway:
    """The programs, with the words of the model's own fixture."""

    cases: Gateway

    @property
    def programs(self) -> ProgramsUnderTest:
        return self.cases.programs

    def hold(self, policy: Policy = SERVICES, **settings: Any) -> World:
        return self.cases.hold(policy, ports=SERVICE_PORTS, **settings)

    def change(self, policy: Policy) -> None:
        """Another policy; connections stay."""
        assert self.programs.apply(policy) == {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cases, name)


@pytest.fixture(name="gateway")
def balancing_gateway(gateway: Gateway) -> BalancingGateway:
    return BalancingGateway(gateway)
