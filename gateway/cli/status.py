"""`tgw status`: what the gateway is told, what it has programmed, and what goes through it."""

from collections.abc import Iterator
from typing import Any

import typer

from gateway.cli.changes import abridged
from gateway.cli.output import Json, print_json, print_table, working
from gateway.cli.session import Session


def status(context: typer.Context, as_json: Json = False) -> None:
    """Show revisions, ports, routing domains with their traffic and drops, and the fill of the maps."""
    session: Session = context.obj
    with working("Asking the gateway"):
        document = session.get("/v1/status").json()
    if as_json:
        print_json(document)
    else:
        _print(document)


def _print(document: dict[str, Any]) -> None:
    policy = document["policy"]
    behind = f"accepted, NOT programmed whole: {policy['programmed_revision']} was the last"
    state = "programmed" if policy["programmed"] else behind
    typer.echo(f"{document['name']} {document['version']}: revision {policy['accepted_revision']} {state}")
    for fault in document["faults"]:
        typer.echo(f"! {fault}")
    print_table(
        "Ports",
        ("name", "role", "interface", "vlan", "state", "detail"),
        (
            (port["name"], port["role"], port["interface"], str(port["vlan"]), port["state"], port["detail"])
            for port in document["ports"]
        ),
    )
    print_table(
        "Routing domains",
        ("name", "id", "records", "packets", "bytes", "drops", "programming", "services"),
        (
            (
                domain["name"],
                domain["id"],
                domain["lookup_records"],
                sum(counter["packets"] for counter in domain["traffic"].values()),
                sum(counter["bytes"] for counter in domain["traffic"].values()),
                sum(domain["drops"].values()),
                domain["error"] or "ok",
                _services(domain),
            )
            for domain in document["routing_domains"]
        ),
    )
    print_table(
        "Drops",
        ("domain", "reason", "packets"),
        ((name, reason, packets) for name, drops in _drops(document) for reason, packets in sorted(drops.items())),
    )
    unresolved = document["unresolved_provider_addresses"]
    if unresolved:
        typer.echo(f"No way to {len(unresolved):,} provider addresses: {abridged(unresolved)}")
    print_table(
        "Memory",
        ("map", "used", "capacity", "unit"),
        ((name, fill["used"], fill["capacity"], fill["unit"]) for name, fill in document["memory"].items()),
    )


def _services(domain: dict[str, Any]) -> str:
    """Say in brief how a domain's tunnels and load balancers fare; `tgw vpn` and `tgw lb` say more."""
    if domain["services_fault"]:
        return str(domain["services_fault"])
    wanted = [tunnel["state"] for tunnel in domain["tunnels"] if tunnel["state"] not in ("disabled", "down")]
    pools = [pool for balancer in domain["load_balancers"] for pool in balancer["pools"]]
    members = [member["state"] for pool in pools for member in pool["members"]]
    words = [f"{wanted.count('connected')} of {len(wanted)} tunnels up"] if wanted else []
    words += [f"{members.count('active')} of {len(members)} members active"] if members else []
    return ", ".join(words)


def _drops(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, int]]]:
    yield "(none)", document["drops"]
    yield "(internet)", document["internet"]["drops"]
    for domain in document["routing_domains"]:
        yield domain["name"], domain["drops"]
