"""`tgw policy`: what the gateway is told, what it holds, and what it held before."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.changes import abridged, print_changes
from gateway.cli.domain_option import Domain
from gateway.cli.failure import Commands, ExitCode, Failure
from gateway.cli.output import Json, print_json, print_table, working
from gateway.cli.session import Session

if TYPE_CHECKING:
    from gateway.policy.difference import Change
    from gateway.policy.model import Policy

commands = typer.Typer(cls=Commands, no_args_is_help=True, help="Read and change the policy that the gateway holds.")

OWNER = "policy"  # the native plug-in; what others own is neither replaced nor compared here
MEDIA_TYPES = {".yaml": "application/yaml", ".yml": "application/yaml", ".json": "application/json"}

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="A policy, .yaml or .json; '-' reads YAML or JSON from stdin.")
]
Timeout = Annotated[float, typer.Option("--timeout", min=0, max=600, help="Seconds to wait for 'programmed'.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the datapath holds the change.")]


@commands.command()
def apply(
    context: typer.Context, file: File, wait: Wait = True, timeout: Timeout = 60.0, as_json: Json = False
) -> None:
    """Replace the routing domains of the native API by those of FILE. Example: tgw policy apply policy.yaml."""
    from gateway.policy.difference import difference

    session: Session = context.obj
    content, media_type = _read(file)
    with working(f"Applying {file}"):
        before = _policy(session, owner=OWNER)
        answer = session.request(
            "PUT",
            "/v1/policy",
            parameters=_waiting(wait, timeout),
            headers={"Content-Type": media_type},
            content=content,
        ).json()
        changes = difference(before, _parse(file, content, media_type))
    _print_write(answer, changes, as_json, wait)


@commands.command()
def diff(context: typer.Context, file: File, as_json: Json = False) -> None:
    """Show what `apply` would change. Example: tgw policy diff policy.yaml."""
    from gateway.policy.difference import difference

    session: Session = context.obj
    content, media_type = _read(file)
    with working(f"Comparing {file}"):
        changes = difference(_policy(session, owner=OWNER), _parse(file, content, media_type))
    if as_json:
        print_json([asdict(change) for change in changes])
    else:
        print_changes(changes)


@commands.command()
def show(
    context: typer.Context,
    domain: Domain = None,
    revision: Annotated[int | None, typer.Option("--revision", help="A kept revision instead.")] = None,
    as_json: Json = False,
) -> None:
    """Print the policy that the gateway holds, as YAML unless --json. Example: tgw policy show --domain blue."""
    from gateway.policy.document import to_json, to_yaml

    session: Session = context.obj
    with working("Reading the policy"):
        policy = _policy(session) if revision is None else _policy(session, revision=revision)
    if domain is not None:
        policy = _only(policy, domain)
    typer.echo(to_json(policy).decode() if as_json else to_yaml(policy), nl=as_json)


@commands.command()
def history(context: typer.Context, as_json: Json = False) -> None:
    """List the revisions that can be rolled back to, newest first."""
    session: Session = context.obj
    revisions = session.get("/v1/history").json()["revisions"]
    if as_json:
        print_json(revisions)
        return
    rows = (
        (
            str(entry["revision"]),
            entry["time"],
            entry["owner"],
            abridged(entry["changed"]),
            abridged(entry["removed"]),
        )
        for entry in revisions
    )
    print_table("Revisions", ("revision", "time", "through", "changed", "removed"), rows)


@commands.command()
def rollback(
    context: typer.Context,
    revision: Annotated[int, typer.Argument(min=0, help="The revision to go back to; see `tgw policy history`.")],
    wait: Wait = True,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Go back to a kept revision; it becomes a new one. Example: tgw policy rollback 12."""
    from gateway.policy.difference import difference

    session: Session = context.obj
    with working(f"Rolling back to {revision}"):
        before = _policy(session)
        answer = session.request("POST", f"/v1/rollback/{revision}", parameters=_waiting(wait, timeout)).json()
        changes = difference(before, _policy(session, revision=answer["revision"]))
    _print_write(answer, changes, as_json, wait)


def _read(file: Path) -> tuple[bytes, str]:
    if str(file) == "-":
        return sys.stdin.buffer.read(), MEDIA_TYPES[".yaml"]
    media_type = MEDIA_TYPES.get(file.suffix.lower())
    if media_type is None:
        raise Failure(f"{file}: cannot tell JSON from YAML by this name", "name it .json, .yaml or .yml")
    try:
        return file.read_bytes(), media_type
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", "give the path of a policy document") from error


def _parse(file: Path, content: bytes, media_type: str) -> "Policy":
    from gateway.policy.document import parse_json, parse_yaml
    from gateway.policy.faults import PolicyFaults

    try:
        return parse_json(content) if media_type == MEDIA_TYPES[".json"] else parse_yaml(content)
    except PolicyFaults as error:
        faults = tuple(f"{fault.pointer or '/'}: {fault.detail}" for fault in error.faults)
        raise Failure(f"{file} is not a policy", "correct these fields", faults) from error


def _policy(session: Session, **parameters: str | int) -> "Policy":
    """Read the policy that the gateway holds, of one owner or at a revision only, if so asked."""
    from gateway.policy.document import parse_json

    return parse_json(session.get("/v1/policy", parameters=parameters).content)


def _only(policy: "Policy", wanted: str) -> "Policy":
    from gateway.policy.model import Policy

    found = tuple(domain for domain in policy.routing_domains if wanted.lower() in (domain.id, domain.name.lower()))
    if not found:
        names = ", ".join(domain.name for domain in policy.routing_domains) or "none"
        raise Failure(f"there is no routing domain {wanted!r}", f"the gateway holds: {names}")
    return Policy(routing_domains=found)


def _waiting(wait: bool, timeout: float) -> dict[str, str | float]:
    return {"wait": "programmed", "timeout": timeout} if wait else {}


def _print_write(answer: dict[str, Any], changes: Sequence["Change"], as_json: bool, waited: bool) -> None:
    if as_json:
        print_json(answer | {"changes": [asdict(change) for change in changes]})
    else:
        print_changes(changes)
        typer.echo(f"revision {answer['revision']} {'programmed' if answer['programmed'] else 'accepted'}")
    if waited and not answer["programmed"]:
        faults = tuple(f"{domain}: {why}" for domain, why in answer.get("errors", {}).items())
        raise Failure(
            f"revision {answer['revision']} is accepted but not programmed",
            "the old policy of these domains forwards on; see `tgw status`",
            faults,
            ExitCode.NOT_PROGRAMMED,
        )
