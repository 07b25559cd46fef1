"""The Internet's domain: compiled anew only when external ports, public addresses or tunnels' ends change."""

from contextlib import ExitStack
from dataclasses import dataclass, replace

from gateway.policy.model import RoutingDomain
from gateway.programming.outside import Outside, Public, internet_plan, kept_addresses, targets_of
from gateway.programming.places import Places
from gateway.programming.preparation import Around, Preparation
from gateway.programming.programmed import Prepared, Programmed


@dataclass(frozen=True, slots=True)
class Change:
    """`withdrawing` is to be met first: it lacks the public addresses that go or move. None: nothing does, or changes.

    `outside`: what the table is made of then, None: as before.
    """

    outside: Outside | None = None
    withdrawing: Prepared | None = None
    final: Prepared | None = None


class InternetTable:
    """Remembers what the Internet's table was made of."""

    def __init__(self, preparation: Preparation, places: Places) -> None:
        self._preparation = preparation
        self._places = places
        self._current: Outside | None = None  # None after a restart

    def change_to(self, outside: Outside, old: Programmed | None, known: Public) -> Change:
        """Write what the table is to be. Raises CapacityError, and then nothing has changed.

        `known`: the public addresses that it has after a restart.
        """
        if outside == self._current or outside.domain is None:
            return Change(outside)
        before = self._current.public if self._current else known
        kept = kept_addresses(before, outside.public)
        withdrawing = None
        with ExitStack() as undone:
            if old is not None and kept != before:
                withdrawing = self._prepare(outside.domain, replace(outside, public=kept), old)
                undone.callback(self._preparation.discard, withdrawing, old)
            final = self._prepare(outside.domain, outside, withdrawing.result if withdrawing else old)
            undone.pop_all()
        return Change(outside, withdrawing, final)

    def discard(self, change: Change, old: Programmed | None) -> None:
        """Take back what is not to be committed."""
        if change.final is not None:
            self._preparation.discard(change.final, change.withdrawing.result if change.withdrawing else old)
        if change.withdrawing is not None:
            self._preparation.discard(change.withdrawing, old)

    def committed(self, change: Change) -> None:
        """Remember that packets meet it."""
        self._current = change.outside or self._current

    def _prepare(self, domain: RoutingDomain, outside: Outside, old: Programmed | None) -> Prepared:
        own = [text.partition("/")[0] for each in domain.l3_connections() for text in each.local_addresses]
        around = Around(
            legs=outside.legs,
            plan=internet_plan(outside, own, self._places.port),
            elsewhere={
                address: targets[0][0] for address, targets in targets_of(outside.public).items() if len(targets) == 1
            },
        )
        return self._preparation.prepare(domain, old, around)
