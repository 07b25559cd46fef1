"""`tgw capture`: packets as the datapath saw them, with their verdicts, as pcapng."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.session import Session


def capture(
    context: typer.Context,
    write: Annotated[Path, typer.Option("--write", "-w", help="The pcapng file to write.")],
    port: Annotated[str | None, typer.Option("--port", help="Only packets that came in on this port.")] = None,
    domain: Annotated[str | None, typer.Option("--domain", help="Only this routing domain (id or name).")] = None,
    drops: Annotated[
        str | None,
        typer.Option("--drops", metavar="FILTER", help="Only drops: 'all', or reasons: 'no_route,hairpin'."),
    ] = None,
) -> None:
    """Write packets with verdict and drop reason, before and after, until Ctrl-C.

    Example: tgw capture --domain blue --drops all -w drops.pcapng
    """
    session: Session = context.obj
    configuration = session.configuration
    from gateway.datapath import capture as datapath_capture

    datapath_capture.run(configuration, port=port, domain=domain, drops=drops, file=write)
