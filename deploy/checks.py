"""What the demo tries: each check against what is expected."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from deploy.lab import probes
from deploy.lab.running import RunningLab


@dataclass(frozen=True, slots=True)
class Check:
    """Something tried on a lab: `attempt` returns what was seen, which must be `expected`."""

    tenant: str
    what: str
    expected: str
    attempt: Callable[[], str]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`counted` packets were dropped for the check's reason, where it has one."""

    check: Check
    seen: str
    milliseconds: float
    counted: int = 0

    @property
    def holds(self) -> bool:
        return self.seen == self.check.expected and (not self.check.reason or self.counted > 0)


def ask(check: Check) -> Outcome:
    start = time.monotonic()
    seen = check.attempt()
    return Outcome(check, seen, (time.monotonic() - start) * 1000)


def ask_and_count(lab: RunningLab, check: Check) -> Outcome:
    domain = check.tenant or None
    before = probes.drops(lab, domain, check.reason)
    outcome = ask(check)
    counted = probes.drops(lab, domain, check.reason) - before
    return Outcome(check, outcome.seen, outcome.milliseconds, counted)


def table(title: str, outcomes: Sequence[Outcome]) -> Table:
    drawn = Table(title=title, title_justify="left", header_style="bold")
    refused = any(outcome.check.reason for outcome in outcomes)
    for column in ("", "tenant", "what", "seen", "ms", *(("dropped as", "packets") if refused else ())):
        drawn.add_column(column, justify="right" if column in ("ms", "packets") else "left", overflow="fold")
    for outcome in outcomes:
        mark = "[green]ok[/]" if outcome.holds else "[red]WRONG[/]"
        seen = outcome.seen if outcome.holds else f"{outcome.seen or 'nothing'} (expected {outcome.check.expected})"
        row = [mark, outcome.check.tenant or "none", outcome.check.what, seen, f"{outcome.milliseconds:.0f}"]
        drawn.add_row(*row, *((outcome.check.reason, str(outcome.counted)) if refused else ()))
    return drawn


def page(lab: RunningLab, tenant: str, node: str, address: str, expected: str, what: str) -> Check:
    return Check(
        tenant, f"{node} opens http://{address} ({what})", expected, lambda: probes.page(lab, node, address) or ""
    )
