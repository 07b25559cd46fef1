"""Load balancing, address translation and tunnels by the real programs: the very cases that the model is held to."""

from dataclasses import dataclass
from typing import Any

import pytest

from gateway.datapath import statistics
from gateway.datapath.model.world import World
from gateway.policy.model import Policy
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.datapath.programs_under_test import ProgramsUnderTest
from tests.unit.model.services import (
    CLIENT,
    FAR,
    FRAGMENTS_LEGS,
    OTHER_VIP,
    SERVICE_PORTS,
    SERVICES,
    VIP,
    for_fragments,
    inside,
    outside,
    tcp,
)
from tests.unit.model.support import BLUE, RED
from tests.unit.model.test_model_balancing import *  # noqa: F403
from tests.unit.model.test_model_balancing_errors import *  # noqa: F403
from tests.unit.model.test_model_balancing_fragments import *  # noqa: F403
from tests.unit.model.test_model_balancing_fragments import datagram, in_fragments
from tests.unit.model.test_model_balancing_lending import *  # noqa: F403
from tests.unit.model.test_model_balancing_members import *  # noqa: F403
from tests.unit.model.test_model_balancing_nat import *  # noqa: F403
from tests.unit.model.test_model_compartments import *  # noqa: F403
from tests.unit.model.test_model_ordering import *  # noqa: F403
from tests.unit.model.test_model_turning import *  # noqa: F403

pytestmark = needs_root

OTHER_CLIENT = "203.0.113.8"


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


def put_in_order(gateway: BalancingGateway) -> dict[str, int]:
    counted = statistics.read(gateway.programs.datapath, gateway.programs.layout)
    return {rdid: counted[number].ordered for number, rdid in gateway.programs.numbers.items() if number in counted}


def test_fragments_that_go_to_be_put_in_order_are_counted_by_domain(gateway: BalancingGateway) -> None:
    gateway.hold(compartments=for_fragments(FRAGMENTS_LEGS))
    before = put_in_order(gateway)
    for one in reversed(in_fragments(datagram(CLIENT, 4000, VIP, 53), 7)):
        gateway.orders(*outside(one))
    for one in in_fragments(datagram(OTHER_CLIENT, 4000, VIP, 53), 8):
        gateway.forwards(*outside(one))
    assert put_in_order(gateway)[BLUE] - before.get(BLUE, 0) == 2
    assert put_in_order(gateway).get(RED, 0) == before.get(RED, 0)


def traffic(gateway: BalancingGateway) -> dict[tuple[str, str], int]:
    """Packets by RDID and direction."""
    counted = statistics.read(gateway.programs.datapath, gateway.programs.layout)
    return {
        (rdid, direction): packets
        for number, rdid in gateway.programs.numbers.items()
        if number in counted
        for direction, (packets, _) in counted[number].traffic.items()
    }


def test_a_packet_from_inside_to_a_public_address_is_counted_and_captured_for_both_domains(
    gateway: BalancingGateway,
) -> None:
    gateway.hold()
    way = inside(tcp(FAR, 4000, OTHER_VIP, 80))
    gateway.forwards(*way)
    before = traffic(gateway)
    gateway.flood(*way, times=5)
    counted = {key: packets - before.get(key, 0) for key, packets in traffic(gateway).items()}
    assert {key: packets for key, packets in counted.items() if packets} == {
        (BLUE, "overlay_to_external"): 5,
        (RED, "external_to_overlay"): 5,
    }
    domains = gateway.programs.captured_domains()
    assert domains == [BLUE, RED, RED] * 5  # as it came for both, and as it left


@pytest.fixture(name="gateway")
def balancing_gateway(gateway: Gateway) -> BalancingGateway:
    return BalancingGateway(gateway)
