"""`tgw lb`: load balancers' pools and the health of their members."""

from typing import Annotated, Any

import typer

from gateway.cli.failure import Commands, Failure
from gateway.cli.output import Json, print_json, print_table, working
from gateway.cli.session import Session

commands = typer.Typer(cls=Commands, no_args_is_help=True, help="Load balancers.")


@commands.callback()
def load_balancers() -> None:
    """Look at load balancers."""


@commands.command()
def status(
    context: typer.Context,
    domain: Annotated[str | None, typer.Option("--domain", help="Only this routing domain (id or name).")] = None,
    as_json: Json = False,
) -> None:
    """Show the members of all pools: what is done with each, what its probe found, and since when.

    Example: tgw lb status --domain blue
    """
    session: Session = context.obj
    with working("Asking the gateway"):
        domains = session.get("/v1/status").json()["routing_domains"]
    if domain is not None:
        domains = [one for one in domains if domain.casefold() in (one["id"], one["name"].casefold())]
        if not domains:
            raise Failure(f"there is no routing domain {domain!r}", "tgw status lists them")
    found = [_pools(one) for one in domains if one["load_balancers"]]
    if as_json:
        print_json(found)
    elif found:
        _print(found)
    else:
        typer.echo("no load balancer has a rule")


def _pools(domain: dict[str, Any]) -> dict[str, Any]:
    return {key: domain[key] for key in ("id", "name", "load_balancers", "services_fault")}


def _print(domains: list[dict[str, Any]]) -> None:
    print_table(
        "Pools",
        ("domain", "load balancer", "pool", "probe", "member", "weight", "state", "health", "since", "why"),
        (
            (
                domain["name"],
                balancer["name"],
                pool["pool"],
                pool["probe"] or "none",
                member["customer_address"],
                member["weight"],
                member["state"],
                member["status"] or "not probed",
                member["since"] or "",
                member["reason"] or "",
            )
            for domain in domains
            for balancer in domain["load_balancers"]
            for pool in balancer["pools"]
            for member in pool["members"]
        ),
    )
    for domain in domains:
        if domain["services_fault"]:
            typer.echo(f"! {domain['name']}: {domain['services_fault']}")
