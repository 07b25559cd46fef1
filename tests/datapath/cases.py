"""What a case of one sentence needs: the programs under a policy, frames in, and what comes out read by scapy."""

from dataclasses import dataclass
from typing import Any

from scapy.layers.l2 import Ether
from scapy.packet import Packet

from gateway.datapath.model.world import World
from gateway.policy.document import parse_yaml
from gateway.policy.model import Policy
from tests.datapath.programs_under_test import Outcome, ProgramsUnderTest
from tests.unit.model.support import POLICY, assert_checksums, make_world


@dataclass
class Gateway:
    """The real programs. What leaves them is held against scapy's checksums."""

    programs: ProgramsUnderTest

    def hold(self, policy: Policy | str = POLICY, *, neighbours_known: bool = True, **settings: Any) -> World:
        """Put a policy in place (a model, or a document in YAML); return the same gateway as the model has it."""
        parsed = parse_yaml(policy.encode()) if isinstance(policy, str) else policy
        world = make_world(parsed, **settings)
        if not neighbours_known:
            world.neighbours.clear()
        assert self.programs.place(world) == {}
        return world

    def send(self, interface: str, frame: bytes) -> Outcome:
        return self.programs.process(interface, frame)

    def flood(self, interface: str, frame: bytes, times: int = 100) -> None:
        """The same frame again and again, faster than any budget fills up."""
        self.programs.flood(interface, frame, times)

    def forwards(self, interface: str, frame: bytes) -> Packet:
        """The frame that leaves; fails unless one is forwarded."""
        outcome = self.send(interface, frame)
        assert outcome.action == "forwarded", outcome
        return read(outcome)

    def orders(self, interface: str, frame: bytes) -> tuple[str, Packet]:
        """Where the fragment goes to be put in order; fails unless it does."""
        outcome = self.send(interface, frame)
        assert outcome.action == "ordered", outcome
        assert outcome.interface is not None
        return outcome.interface, read(outcome)

    def answers(self, interface: str, frame: bytes) -> Packet:
        """The gateway's own answer; fails unless the packet was for the gateway and is answered."""
        outcome = self.send(interface, frame)
        assert (outcome.action, outcome.interface) == ("answered", interface), outcome
        return read(outcome)

    def drops(self, interface: str, frame: bytes) -> str:
        """The reason of the drop; fails unless there is one and nothing leaves."""
        outcome = self.send(interface, frame)
        assert outcome.action == "dropped", outcome
        assert outcome.frame is None, outcome
        assert outcome.reason is not None
        return outcome.reason

    def objects(self, interface: str, frame: bytes) -> tuple[str | None, Packet]:
        """The reason of the drop and the ICMP error that goes back."""
        outcome = self.send(interface, frame)
        assert (outcome.action, outcome.interface) == ("dropped", interface), outcome
        return outcome.reason, read(outcome)


def read(outcome: Outcome) -> Packet:
    assert outcome.frame is not None, outcome
    assert_checksums(outcome.frame)
    return Ether(outcome.frame)
