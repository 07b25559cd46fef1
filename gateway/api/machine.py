"""What the API shows of the running gateway beneath the policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.api.services import Serving
from gateway.datapath.model.question import Question
from gateway.policy.model import Policy


@dataclass(frozen=True, slots=True)
class PortState:
    """A configured port. `state` is "attached" or says briefly what is wrong; `detail` says how to mend it."""

    name: str
    role: str
    interface: str
    vlan: int
    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counters of one direction."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Fill:
    """How full one kind of map memory is; `unit` is "bytes" or "entries"."""

    used: int
    capacity: int
    unit: str


@dataclass(frozen=True, slots=True)
class DomainCounters:
    """Traffic by direction, dropped packets by reason, and the fill of a domain's connections if it has any.

    `ordered`: fragments that went to be put in order.
    """

    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)
    connections: Fill | None = None
    ordered: int = 0


@dataclass(frozen=True, slots=True)
class Counters:
    """All counters at one moment: by routing domain, drops outside all of them, and the fill of the maps by name."""

    domains: Mapping[str, DomainCounters] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)
    fill: Mapping[str, Fill] = field(default_factory=dict)


class Machine(Protocol):
    """The running gateway."""

    name: str

    def ports(self) -> Sequence[PortState]:
        """Return the configured ports, in the order of the configuration."""
        ...

    def counters(self) -> Counters:
        """Read the counters of the datapath."""
        ...

    def unresolved(self) -> Sequence[str]:
        """Return the provider addresses in use that cannot be reached at this moment."""
        ...

    def faults(self) -> Sequence[str]:
        """Return what is wrong at this moment, in sentences that say how to mend it."""
        ...

    def explain(self, policy: Policy, question: Question, serving: Serving) -> dict[str, Any]:
        """Run the reference model on a described packet, amid what serves the policy now. Raises QuestionError."""
        ...
