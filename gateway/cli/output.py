"""Tables for eyes, JSON for programs, and a sign of life while something takes its time."""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]

WIDTH_OF_FILES = 200


def print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Numbers are set to the right; an empty table is not printed."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = list(rows)
    if not lines:
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        numeric = all(isinstance(line[index], int) for line in lines)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold", min_width=len(column))
    for line in lines:
        table.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in line))
    Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES).print(table)


def working(what: str) -> AbstractContextManager[object]:
    """Show a spinner on stderr; nothing where stderr is no terminal."""
    from rich.console import Console

    return Console(stderr=True).status(what)
