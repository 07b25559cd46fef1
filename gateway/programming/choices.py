"""The choices of all domains in memory: placed beside the old, switched by one word each, retired.

A choice whose members are others gets another number, so that a domain's commit, which names it, brings everything at
once. One whose members only change their state or weight is switched where it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

from gateway.datapath.layout import Layout
from gateway.policy.balancing import PoolMember
from gateway.programming.block import CapacityError
from gateway.programming.choices_block import compile_choice
from gateway.programming.memory import Memory, Placed
from gateway.programming.planned_services import Chooser, InboundChoice, Origin, Plan
from lb.pools import Choice, MemberState, PoolState

States: TypeAlias = Mapping[Choice, PoolState]


@dataclass(frozen=True, slots=True)
class HeldChoice:
    """A choice in memory. `pool` is what its block was made from, None after a restart."""

    number: int
    placed: Placed
    members: Mapping[str, int]
    down: frozenset[str]
    pool: PoolState | None = field(default=None)


Held: TypeAlias = Mapping[Origin, HeldChoice]
NOBODY: Mapping[Origin, frozenset[str]] = MappingProxyType({})


class Choices:
    """Writes and names the blocks of choices."""

    def __init__(self, memory: Memory, layout: Layout) -> None:
        self._memory = memory
        self._layout = layout

    def prepare(
        self, plan: Plan, old: Held, states: States, down: Mapping[Origin, frozenset[str]] = NOBODY
    ) -> dict[Origin, HeldChoice]:
        """Write what differs beside what packets meet. Members count as they did where `states` says nothing of them.

        `down`: who was, of choices that are not `old` ones. Raises CapacityError.
        """
        found: dict[Origin, HeldChoice] = {}
        claimed: set[int] = set()
        try:
            for chooser, planned in plan.choices.items():
                origin = chooser if chooser in old or planned.origin is None else planned.origin
                held = old.get(origin)
                before = held.down if held else down.get(origin, frozenset())
                pool = _pool(chooser, planned.members, _down(chooser, states, before))
                free = held if held and held.number not in claimed and held.members == planned.numbers else None
                found[chooser] = self._changed(free, pool) if free else self._new(pool, planned.numbers)
                claimed.add(found[chooser].number)
        except CapacityError:
            self.discard(found, old)
            raise
        return found

    def publish(self, new: Held, old: Held) -> None:
        """Let packets meet the new blocks."""
        known = _placed(old)
        for each in new.values():
            if known.get(each.number) is not each.placed:
                self._memory.switch_choice(each.number, each.placed)

    def retire(self, old: Held, new: Held) -> None:
        """Give back what no table and no word names any more."""
        kept = _placed(new)
        for each in old.values():
            if each.number not in kept:
                self._memory.retire_choice(each.number, each.placed)
            elif kept[each.number] is not each.placed:
                self._memory.retire(each.placed)

    def discard(self, new: Held, old: Held) -> None:
        """Give back what was prepared and is not to be published."""
        known = _placed(old)
        for each in new.values():
            if each.number not in known:
                self._memory.release_choice(each.number)
            if known.get(each.number) is not each.placed:
                self._memory.retire(each.placed)

    def fault(self, held: Held) -> str | None:
        """Read back: say what differs from what was programmed."""
        for each in held.values():
            if self._memory.choice_line(each.number) != each.placed.line:
                return f"the datapath uses another choice of members than the one programmed (number {each.number})"
            if not self._memory.holds(each.placed):
                return f"a choice of members in the datapath is not what was written (number {each.number})"
        return None

    def _new(self, pool: PoolState, numbers: Mapping[str, int]) -> HeldChoice:
        number = self._memory.take_choice()
        try:
            placed = self._memory.place(compile_choice(pool, numbers, self._layout))
        except CapacityError:
            self._memory.release_choice(number)
            raise
        return HeldChoice(number, placed, numbers, _down_of(pool), pool)

    def _changed(self, held: HeldChoice, pool: PoolState) -> HeldChoice:
        if held.pool == pool:
            return held
        block = compile_choice(pool, held.members, self._layout)
        same = len(block) == len(held.placed.block) and bool((block == held.placed.block).all())
        placed = held.placed if same else self._memory.place(block)
        return replace(held, placed=placed, down=_down_of(pool), pool=pool)


def _pool(chooser: Chooser, members: tuple[PoolMember, ...], down: frozenset[str]) -> PoolState:
    choice = chooser if isinstance(chooser, Choice) else Choice(chooser.load_balancer, chooser.rule, None)
    return PoolState(
        choice,
        tuple(
            MemberState(one.customer_address, one.weight, "down" if one.customer_address in down else one.state)
            for one in members
        ),
    )


def _down(chooser: Chooser, states: States, before: frozenset[str]) -> frozenset[str]:
    if isinstance(chooser, InboundChoice):
        return frozenset()
    if chooser in states:
        return _down_of(states[chooser])
    return before


def _down_of(pool: PoolState) -> frozenset[str]:
    return frozenset(member.customer_address for member in pool.members if member.state == "down")


def _placed(choices: Held) -> dict[int, Placed]:
    return {each.number: each.placed for each in choices.values()}
