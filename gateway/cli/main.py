"""The command `tgw`: global options, and the commands one module each."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import capture, doctor, explain, lab, lb, policy, run, status, vpn
from gateway.cli.failure import Commands
from gateway.cli.session import DEFAULT_CONFIGURATION, Session

app = typer.Typer(
    name="tgw",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 accepted but not programmed, "
    "4 the gateway is out of reach.",
)
app.add_typer(run.commands, name="gateway")
app.add_typer(policy.commands, name="policy")
app.add_typer(vpn.commands, name="vpn")
app.add_typer(lb.commands, name="lb")
app.add_typer(lab.commands, name="lab")
app.command("status")(status.status)
app.command("explain")(explain.explain)
app.command("doctor")(doctor.doctor)
app.command("capture")(capture.capture)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("tenant-gateway"))
        raise typer.Exit


def _https(url: str | None) -> str | None:
    if url is not None and not url.startswith("https://"):
        raise typer.BadParameter(f"{url!r} does not begin with https://")
    return url


@app.callback()
def main(
    context: typer.Context,
    config: Annotated[
        Path, typer.Option("--config", envvar="TGW_CONFIG", help="The gateway's configuration file.")
    ] = DEFAULT_CONFIGURATION,
    url: Annotated[
        str | None, typer.Option("--url", callback=_https, help="The gateway's API, e.g. https://gateway1:8443.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option("--token-file", help="A file that holds the token.")] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="The CA that signed the gateway's certificate.")] = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Tenant gateway: joins isolated tenant overlays to CorpNet.

    Address, token and CA of the gateway come from its configuration file; --url, --token-file and --ca override them.
    """
    context.obj = Session(config, url, token_file, ca)
