"""How a command ends when it could not do its work: what, how to mend it, and which exit code."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import typer
from typer.core import TyperGroup


class ExitCode(IntEnum):
    """Exit codes besides 0 (done) and 2 (the command line is wrong)."""

    REFUSED = 1
    NOT_PROGRAMMED = 3
    OUT_OF_REACH = 4


@dataclass(eq=False)
class Failure(Exception):  # noqa: N818 - a command's outcome, printed without a traceback
    """`details` are printed one per line; `mend` is the step to take next."""

    message: str
    mend: str = ""
    details: tuple[str, ...] = ()
    code: ExitCode = ExitCode.REFUSED


class Commands(TyperGroup):
    """Prints a Failure of any command to stderr, plain and unwrapped so that programs and eyes can both read it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Failure as failure:
            for line in (failure.message, *failure.details):
                typer.echo(line, err=True)
            if failure.mend:
                typer.echo(f"-> {failure.mend}", err=True)
            raise typer.Exit(failure.code) from None
