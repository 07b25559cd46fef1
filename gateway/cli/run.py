"""`tgw gateway`: the daemon itself, and taking off the machine what outlives it."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.failure import Commands, Failure
from gateway.cli.session import Session

commands = typer.Typer(cls=Commands, no_args_is_help=True, help="The gateway's daemon, and its removal.")


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


@commands.command()
def remove(context: typer.Context) -> None:
    """End the tunnels, remove compartments, datapath and forwarding guard; the interfaces are Linux's again.

    The daemon must not run. Policy and token stay in the state directory.

    Example: tgw --config /etc/tenant-gateway/gateway.toml gateway remove
    """
    session: Session = context.obj
    from gateway import removal
    from gateway.datapath.pins import PinsBusyError
    from gateway.underlay.forwarding_guard import ForwardingGuardError

    try:
        removal.remove(session.configuration)
    except (PinsBusyError, ForwardingGuardError) as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(str(error), "run it as root") from error
    typer.echo("removed: the interfaces are Linux's again")
