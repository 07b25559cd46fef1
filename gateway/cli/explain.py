"""`tgw explain`: a packet's way through the layers of the gateway, with the entry that decided each step."""

from dataclasses import replace
from typing import Annotated

import typer

from gateway.cli.failure import Failure
from gateway.cli.output import Json, print_json
from gateway.cli.session import Session


def explain(
    context: typer.Context,
    source: Annotated[str, typer.Option("--source", help="Source address of the (inner) packet.")],
    destination: Annotated[str, typer.Option("--destination", help="Destination address of the (inner) packet.")],
    origin: Annotated[
        str,
        typer.Option("--from", help="'overlay', an external port, or a tunnel (DOMAIN/CONNECTION) that it comes by."),
    ] = "overlay",
    vsid: Annotated[int | None, typer.Option("--vsid", help="The virtual subnet it comes from (overlay).")] = None,
    vlan: Annotated[int, typer.Option("--vlan", help="The VLAN it comes in on.")] = 0,
    outer_source: Annotated[
        str | None, typer.Option("--outer-source", help="The sending host's PA (overlay); else that of the record.")
    ] = None,
    encapsulation: Annotated[
        str | None, typer.Option("--encapsulation", help="vxlan or nvgre (overlay); else that of the record.")
    ] = None,
    protocol: Annotated[str, typer.Option("--protocol", help="tcp, udp, icmp, icmpv6 or a number.")] = "icmp",
    port: Annotated[int | None, typer.Option("--port", help="Destination port.")] = None,
    source_port: Annotated[int, typer.Option("--source-port", help="Source port.")] = 49152,
    length: Annotated[int, typer.Option("--length", help="Length of the IP packet in bytes.")] = 100,
    ttl: Annotated[int, typer.Option("--ttl", help="TTL or hop limit on arrival.")] = 64,
    as_json: Json = False,
) -> None:
    """Explain what becomes of a packet, and which entry of the policy decides it.

    Example: tgw explain --vsid 6001 --source 10.1.1.11 --destination 157.1.0.9 --protocol tcp --port 80

    Example: tgw explain --from corpnet --source 157.1.0.9 --destination 10.1.6.21
    """
    session: Session = context.obj
    question = {
        "from": origin,
        "vsid": vsid,
        "vlan": vlan,
        "outer_source": outer_source,
        "encapsulation": encapsulation,
        "source": source,
        "destination": destination,
        "protocol": protocol,
        "port": port,
        "source_port": source_port,
        "length": length,
        "ttl": ttl,
    }
    sent = {name: value for name, value in question.items() if value is not None}
    try:
        explanation = session.request("POST", "/v1/explain", document=sent).json()
    except Failure as failure:
        raise replace(failure, details=tuple(map(_by_option, failure.details))) from failure
    if as_json:
        print_json(explanation)
        return
    for step in explanation["steps"]:
        typer.echo(f"{step['layer']:<14}{step['words']}")
        if step["entry"]:
            typer.echo(f"{'':<14}by {step['entry']}")
    reason = f" ({explanation['reason']})" if explanation["reason"] else ""
    typer.echo(f"Verdict: {explanation['verdict']}{reason}")


def _by_option(fault: str) -> str:
    """Name a fault of a field by the option that the field is given with."""
    field, _, words = fault.partition(": ")
    return f"--{field.strip('/').replace('_', '-')}: {words}"
