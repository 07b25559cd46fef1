"""`tgw lb`: load balancers' pools and the health of their members."""

from typing import Annotated, Any

import typer

from gateway.cli.domain_option import Domain
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
    domain: Domain = None,
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


@commands.command()
def ports(
    context: typer.Context,
    address: Annotated[str | None, typer.Argument(metavar="[ADDRESS]", help="Only this public address.")] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Only who has this port.")] = None,
    as_json: Json = False,
) -> None:
    """Show who reaches the outside with which ports of public addresses, as policy says.

    Example: tgw lb ports 198.51.100.80 --port 5000
    """
    from gateway.policy.document import parse_json
    from gateway.policy.lending import block_of, lent, ports_of, whose

    session: Session = context.obj
    with working("Reading the policy"):
        domains = parse_json(session.get("/v1/policy").content).routing_domains
    found = [
        {"address": of, "ports": ports_of(blocks), "domain": domain.name, "machines": whose(entry)}
        for domain in domains
        for of, blocks, entry in lent(domain)
        if address in (None, of) and (port is None or blocks & block_of(port))
    ]
    if as_json:
        print_json(found)
    elif found:
        print_table("Outbound ports", tuple(found[0]), (tuple(one.values()) for one in found))
    else:
        typer.echo("no outbound NAT has such ports")


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
