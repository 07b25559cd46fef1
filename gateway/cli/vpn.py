"""`tgw vpn`: the tunnels of all routing domains."""

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

import typer

from gateway.cli.failure import Commands, Failure
from gateway.cli.output import Json, print_json, print_table, working
from gateway.cli.session import Session, session_of

commands = typer.Typer(cls=Commands, no_args_is_help=True, help="Tunnels to tenants' sites: IKEv2 and IPsec.")

Tunnel = dict[str, Any]


def _complete(context: typer.Context, incomplete: str) -> list[str]:
    try:
        known = [_full_name(tunnel) for tunnel in _tunnels(session_of(context))]
    except Failure:
        return []
    return [name for name in known if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="DOMAIN/CONNECTION, or CONNECTION where no other has that name.", autocompletion=_complete
    ),
]


@commands.command()
def status(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Only this one, with all details.", autocompletion=_complete),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how tunnels fare, and why not.

    Example: tgw vpn status

    Example: tgw vpn status red/headquarters --json
    """
    session: Session = context.obj
    with working("Asking the gateway"):
        document = session.get("/v1/status").json()
    tunnels = list(_tunnels_of(document))
    if name is not None:
        found = _find(tunnels, name)
        print_json(found) if as_json else _print_one(found)
    elif as_json:
        print_json(tunnels)
    else:
        _print_all(tunnels)
        typer.echo(f"ESP by {document['ipsec']['backend']}: {document['ipsec']['why']}")


@commands.command()
def up(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Connect a tunnel, also after `down`; exit code 1 if it does not come up.

    Example: tgw vpn up red/headquarters
    """
    after = _act(context.obj, name, "up")
    print_json(after) if as_json else typer.echo(f"{name}: {after['text']}")
    if after["state"] != "connected":
        raise Failure(f"{name} is not connected", f"tgw vpn log {name} shows what was said")


@commands.command()
def down(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Close a tunnel until `up`; the policy is not changed.

    Example: tgw vpn down red/headquarters
    """
    after = _act(context.obj, name, "down")
    print_json(after) if as_json else typer.echo(f"{name}: {after['text']}")


@commands.command("log")
def show_log(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Print the latest lines of a tunnel's log. Example: tgw vpn log red/headquarters."""
    session: Session = context.obj
    lines = session.get(f"{_path(_find(_tunnels(session), name))}/log").json()["lines"]
    if as_json:
        print_json(lines)
    else:
        for line in lines:
            typer.echo(f"{line['at']}  {line['text']}")


def _act(session: Session, name: str, action: str) -> Tunnel:
    with working(f"Taking {name} {action}"):
        path = f"{_path(_find(_tunnels(session), name))}/{action}"
        after: Tunnel = session.request("POST", path).json()
    return after


def _tunnels(session: Session) -> Iterator[Tunnel]:
    return _tunnels_of(session.get("/v1/status").json())


def _tunnels_of(document: dict[str, Any]) -> Iterator[Tunnel]:
    for domain in document["routing_domains"]:
        for tunnel in domain["tunnels"]:
            yield {"domain": domain["name"], "domain_id": domain["id"], **tunnel}


def _full_name(tunnel: Tunnel) -> str:
    return f"{tunnel['domain']}/{tunnel['name']}"


def _find(tunnels: Iterator[Tunnel] | list[Tunnel], name: str) -> Tunnel:
    by_name = {_full_name(tunnel): tunnel for tunnel in tunnels}
    found = [by_name[name]] if name in by_name else [one for one in by_name.values() if one["name"] == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise Failure(f"{len(found)} tunnels have the name {name!r}", f"say {' or '.join(map(_full_name, found))}")
    raise Failure(f"there is no tunnel {name!r}", f"the tunnels are {', '.join(by_name) or 'none'}")


def _path(tunnel: Tunnel) -> str:
    return f"/v1/routing-domains/{tunnel['domain_id']}/tunnels/{quote(tunnel['name'], safe='')}"


def _print_all(tunnels: list[Tunnel]) -> None:
    print_table(
        "Tunnels",
        ("domain", "tunnel", "state", "peer", "bytes in", "bytes out", "what"),
        (
            (
                tunnel["domain"],
                tunnel["name"],
                tunnel["state"],
                tunnel["remote_address"],
                tunnel["bytes_in"],
                tunnel["bytes_out"],
                tunnel["text"],
            )
            for tunnel in tunnels
        ),
    )
    if not tunnels:
        typer.echo("no routing domain has a tunnel")


def _print_one(tunnel: Tunnel) -> None:
    error = tunnel["last_error"]
    rows = {
        "state": tunnel["text"],
        "last error": f"{error['at']}: {error['text']}" if error else "none",
        "addresses": f"{tunnel['local_address'] or 'default'} to {tunnel['remote_address']}",
        "IKE": tunnel["ike_suite"] or "none",
        "ESP": tunnel["esp_suite"] or "none",
        "ESP in UDP": "yes" if tunnel["udp_encapsulated"] else "no",
        "offloadable": "yes" if tunnel["offloadable"] else f"no: {tunnel['why_not']}",
        "inner MTU": f"{tunnel['mtu']} bytes" if tunnel["mtu"] else "not known yet",
        "in": f"{tunnel['bytes_in']:,} bytes in {tunnel['packets_in']:,} packets",
        "out": f"{tunnel['bytes_out']:,} bytes in {tunnel['packets_out']:,} packets",
        "rekeyed": f"IKE {tunnel['ike_rekeys']:,} times, ESP {tunnel['esp_rekeys']:,} times",
        "notes": "; ".join(tunnel["notes"]) or "none",
    }
    print_table(_full_name(tunnel), ("", ""), rows.items())
