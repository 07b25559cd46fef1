"""Lets packets meet what was prepared: the order in which words are switched, so that none meets a mix.

Entries found before the domain is known (VSIDs, ports, rewritten addresses) lie in the directory; public addresses in
the Internet's table. Those that go are withdrawn from there before the domain's table is switched, and those that come
are named after. So a packet meets the old policy of a domain or the new one, and what moves from one domain to another
belongs to none in between.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from gateway.datapath.grace import grace
from gateway.policy.model import RoutingDomain
from gateway.programming.choices import Choices, States
from gateway.programming.holdings import NOTHING, Holdings, between
from gateway.programming.memory import Memory
from gateway.programming.programmed import Prepared, Programmed
from gateway.programming.published_directory import PublishedDirectory


class Committing:
    """Knows what is programmed, by RDID, and changes it."""

    def __init__(
        self,
        memory: Memory,
        choices: Choices,
        directory: PublishedDirectory,
        adopted: Mapping[str, Programmed],
    ) -> None:
        self._memory = memory
        self._choices = choices
        self._directory = directory
        self.programmed = dict(adopted)

    def numbers(self) -> dict[str, int]:
        """Return the number of each programmed domain."""
        return {rdid: each.number for rdid, each in self.programmed.items()}

    def holdings(self) -> dict[str, Holdings]:
        """Return what each programmed domain holds."""
        return {rdid: each.holdings for rdid, each in self.programmed.items()}

    def domains(self) -> list[RoutingDomain]:
        """Return the policy of the programmed domains, as far as it is known."""
        return [each.domain for each in self.programmed.values() if each.domain is not None]

    def endpoints_in_use(self) -> set[tuple[str, str]] | None:
        """Return what programmed domains send to, None while some are not compared with policy yet."""
        if any(map(self._is_unknown, self.programmed)):
            return None
        return set().union(*(held.endpoints for held in self.holdings().values()))

    def commit(
        self, prepared: Collection[Prepared], removed: Collection[str], withdrawing: Prepared | None = None
    ) -> bool:
        """Switch to what was prepared, in this order, and drop what is removed.

        `withdrawing`: the Internet's table without the public addresses that go or move. Tells whether other provider
        addresses than before are sent to.
        """
        before = {rdid: self._held(rdid) for rdid in (*(each.rdid for each in prepared), *removed)}
        after = {each.rdid: each.result.holdings for each in prepared}
        directory_changes = self._directory.must_change(before, after)
        if directory_changes:
            # Of a domain that another daemon left it is only known what it is to hold.
            old = {rdid: after.get(rdid, NOTHING) if self._is_unknown(rdid) else held for rdid, held in before.items()}
            self._directory.publish(self.holdings() | between(old, after), self.numbers())
        if withdrawing is not None:
            self._switch(withdrawing)
            grace()
        for each in prepared:
            self._switch(each)
        if directory_changes:
            kept = {rdid: held for rdid, held in self.holdings().items() if rdid not in removed}
            self._directory.publish(kept, self.numbers())
        for rdid in removed:
            self._remove(rdid)
        self._memory.reclaim()
        return any(before[rdid].endpoints != after.get(rdid, NOTHING).endpoints for rdid in before)

    def change_states(self, rdid: str, states: States) -> None:
        """Follow the health of a domain's members, in the choices that differ alone. Raises CapacityError."""
        each = self.programmed[rdid]
        choices = self._choices.prepare(each.plan, each.choices, states)
        self._choices.publish(choices, each.choices)
        self._choices.retire(each.choices, choices)
        self.programmed[rdid] = replace(each, choices=dict(choices))
        self._memory.reclaim()

    def forget_moves(self) -> list[RoutingDomain]:
        """Forget which addresses machines moved away from; return the domains whose tables still admit them."""
        moving = {rdid: each for rdid, each in self.programmed.items() if each.moving}
        self.programmed |= {rdid: replace(each, moving=frozenset()) for rdid, each in moving.items()}
        return [each.domain for each in moving.values() if each.domain is not None]

    def publish(self) -> None:
        """Publish a directory of what is programmed, unless some of that is still unknown."""
        if not any(map(self._is_unknown, self.programmed)):
            self._directory.publish(self.holdings(), self.numbers())

    def faults(self, rdids: Iterable[str]) -> dict[str, str]:
        """Read the maps back: {RDID: what differs from what was programmed}."""
        if not self._directory.in_place():
            return dict.fromkeys(self.programmed, "the directory in the datapath is not what was written")
        found = {rdid: self._fault(self.programmed[rdid]) for rdid in rdids if rdid in self.programmed}
        return {rdid: fault for rdid, fault in found.items() if fault}

    def _fault(self, each: Programmed) -> str | None:
        if self._memory.table_line(each.number) != each.placed.line:
            return "the datapath uses another table than the one programmed"
        if not self._memory.holds(each.placed):
            return "the table in the datapath is not what was written"
        return self._choices.fault(each.choices)

    def _held(self, rdid: str) -> Holdings:
        return self.programmed[rdid].holdings if rdid in self.programmed else NOTHING

    def _is_unknown(self, rdid: str) -> bool:
        return rdid in self.programmed and self.programmed[rdid].domain is None

    def _switch(self, prepared: Prepared) -> None:
        old, new = self.programmed.get(prepared.rdid), prepared.result
        if old is None or new.generation != old.generation:
            self._memory.regions.forget_generation(new.number, new.generation)
        if new.plan.new_rules or new.plan.new_members:
            self._memory.regions.forget_translated(new.number, new.plan.new_rules, new.plan.new_members)
        known = old.choices if old else {}
        self._choices.publish(new.choices, known)
        self._memory.switch(new.number, prepared.rdid, new.placed)
        self._choices.retire(known, new.choices)
        if old is not None and old.placed is not new.placed:
            self._memory.retire(old.placed)
        self.programmed[prepared.rdid] = new

    def _remove(self, rdid: str) -> None:
        gone = self.programmed.pop(rdid)
        self._memory.withdraw(gone.number)
        self._choices.retire(gone.choices, {})
        self._memory.retire(gone.placed)
