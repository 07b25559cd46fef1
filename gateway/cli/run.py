"""`tgw gateway`: the daemon itself."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.failure import Commands, Failure
from gateway.cli.session import Session

commands = typer.Typer(cls=Commands, no_args_is_help=True, help="The gateway's daemon.")


@commands.callback()
def gateway() -> None:
    """Run the gateway's daemon."""


@commands.command()
def run(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option("--config", help="The gateway's configuration file.")] = None,
) -> None:
    """Run the gateway in the foreground; logs go to stderr, SIGTERM ends it, and the datapath forwards on.

    Example: tgw gateway run --config /etc/tenant-gateway/gateway.toml
    """
    session: Session = context.obj
    configuration = (Session(config) if config else session).configuration
    from gateway import daemon

    try:
        daemon.run(configuration)
    except daemon.StartError as error:
        raise Failure(str(error)) from error
