"""The Internet's domain: compiled anew only when external ports, public addresses or tunnels' ends change."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from gateway.policy.model import RoutingDomain
from gateway.programming.outside import Outside, steering_plan
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

    def change_to(self, outside: Outside, old: Programmed | None, known: Mapping[str, tuple[int, int]]) -> Change:
        """Write what the table is to be. Raises CapacityError, and then nothing has changed.

        `known`: the public addresses that it has after a restart.
        """
        if outside == self._current or outside.domain is None:
            return Change(outside)
        before = self._current.public if self._current else known
        kept = {address: target for address, target in outside.public.items() if before.get(address) == target}
        withdrawing = None
        with ExitStack() as undone:
            if old is not None and kept.keys() != before.keys():
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
            plan=steering_plan(outside.steering, own, self._places.port),
            elsewhere=outside.public,
        )
        return self._preparation.prepare(domain, old, around)
