"""The option `--domain` of several commands, with the names that the gateway knows."""

from typing import Annotated

import typer

from gateway.cli.failure import Failure
from gateway.cli.session import session_of


def _complete(context: typer.Context, incomplete: str) -> list[str]:
    try:
        domains = session_of(context).get("/v1/status").json()["routing_domains"]
    except Failure:
        return []
    return [domain["name"] for domain in domains if domain["name"].startswith(incomplete)]


Domain = Annotated[
    str | None,
    typer.Option("--domain", help="Only this routing domain (name or id).", autocompletion=_complete),
]
