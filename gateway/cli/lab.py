"""`tgw lab`: the worked deployments in network namespaces, with independent hosts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from gateway.cli.failure import Commands, Failure
from gateway.cli.output import Json, print_json, print_table

commands = typer.Typer(cls=Commands, no_args_is_help=True, help="Worked deployments in network namespaces.")


def _complete(incomplete: str) -> list[str]:
    from deploy.lab import main as lab

    return [name for name in lab.titles() if name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(help="The deployment; see `tgw lab list`.", autocompletion=_complete)]


@commands.command("list")
def list_names(as_json: Json = False) -> None:
    """List the deployments."""
    from deploy.lab import main as lab

    titles = lab.titles()
    if as_json:
        print_json([{"name": name, "title": title} for name, title in titles.items()])
    else:
        print_table("Labs", ("name", "what it is"), titles.items())


@commands.command()
def up(name: Name) -> None:
    """Build a deployment: hosts, CorpNet, the gateway with its policy. Example: tgw lab up blue-red."""
    from deploy.lab import main as lab

    with _failures():
        lab.up(name)


@commands.command()
def down(name: Name) -> None:
    """Take a deployment away again. Example: tgw lab down blue-red."""
    from deploy.lab import main as lab

    with _failures():
        lab.down(name)


@commands.command()
def fault(
    name: Name,
    what: Annotated[str, typer.Argument(metavar="FAULT", help="A wrong word lists what there is.")],
    office: Annotated[str, typer.Option("--office", help="The premises it happens to; the first unless said.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Mend it again.")] = False,
) -> None:
    """Break something at a tenant's premises. Example: tgw lab fault hybrid-cloud nat --office red-branch."""
    from deploy.lab import main as lab

    with _failures():
        lab.fault(name, what, office, undo)


@commands.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run(
    name: Name,
    node: Annotated[str, typer.Argument(help="A machine, host, router or server; a wrong word lists them.")],
    words: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="The command and its arguments.")],
) -> None:
    """Run a command on a node of a deployment. Example: tgw lab run hybrid-cloud red-hq tcpdump -n -i eth0."""
    from deploy.lab import main as lab

    with _failures():
        line = lab.command(name, node, *words)
    os.execvp(line[0], line)


@contextmanager
def _failures() -> Iterator[None]:
    from deploy.lab.errors import LabError

    try:
        yield
    except LabError as error:
        raise Failure(str(error)) from error
