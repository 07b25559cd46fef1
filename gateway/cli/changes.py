"""Changes of policy, for eyes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from gateway.policy.difference import Change

MOST_LINES = 50
MOST_NAMES = 5
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def print_changes(changes: Sequence["Change"]) -> None:
    """Print one line for each change; of very many only the first ones."""
    for change in changes[:MOST_LINES]:
        words = f": {_brief(change.old)} -> {_brief(change.new)}" if change.kind == "changed" else ""
        typer.echo(f"{_SIGNS[change.kind]} {change.path}{words}")
    if len(changes) > MOST_LINES:
        typer.echo(f"and {len(changes) - MOST_LINES:,} more changes; --json lists them all")
    if not changes:
        typer.echo("no difference")


def abridged(names: Sequence[str]) -> str:
    """List the first names, and how many there are beyond them."""
    rest = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + rest


def _brief(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
