"""What the datapath holds of a routing domain, and what it is to hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.policy.model import AccessControlList, RoutingDomain
from gateway.programming.block import Bytes
from gateway.programming.choices import HeldChoice
from gateway.programming.holdings import NOTHING, Holdings
from gateway.programming.memory import Placed
from gateway.programming.planned_services import NO_NUMBERS, Numbers, Origin, Plan

Lists: TypeAlias = Mapping[str, tuple[AccessControlList, Bytes]]  # by name, compiled


@dataclass(frozen=True, slots=True)
class Programmed:
    """A domain's block, written; once it is switched packets meet it.

    `domain` is None after a restart, until it is compared with the policy.
    """

    number: int
    placed: Placed
    holdings: Holdings = NOTHING
    domain: RoutingDomain | None = None
    generation: int = 0
    moving: frozenset[str] = frozenset()
    lists: Lists = field(default_factory=dict)
    numbers: Numbers = NO_NUMBERS
    plan: Plan = Plan()
    choices: Mapping[Origin, HeldChoice] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a former version of the datapath held of a domain: numbers, members that are down, the access lists'."""

    numbers: Numbers = NO_NUMBERS
    down: Mapping[Origin, frozenset[str]] = field(default_factory=dict)
    generation: int = 0


NOTHING_INHERITED = Inherited()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a domain is to be, written beside what packets meet. `new`: its number is."""

    rdid: str
    result: Programmed
    new: bool
