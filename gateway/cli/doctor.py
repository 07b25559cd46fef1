"""`tgw doctor`: whether this machine is fit for the datapath, and how to mend what is not."""

from collections import defaultdict
from dataclasses import asdict

import typer

from gateway.cli.failure import Failure
from gateway.cli.output import Json, print_json, print_table, working
from gateway.cli.session import Session


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Check kernel, privileges and the interfaces of the configured ports; exit code 1 if a check failed.

    Example: tgw --config gateway.toml doctor
    """
    from gateway.doctor import examine

    session: Session = context.obj
    configuration = session.configuration
    with working("Examining this machine"):
        findings = examine(configuration, _connection_vlans(session))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        rows = ((finding.subject, finding.check, finding.state, finding.detail, finding.mend) for finding in findings)
        print_table("Doctor", ("subject", "check", "state", "detail", "how to mend it"), rows)
    failed = [finding for finding in findings if finding.state == "failed"]
    if failed:
        raise Failure(f"{len(failed)} checks failed", "mend them as the last column says, then run tgw doctor again")


def _connection_vlans(session: Session) -> dict[str, set[int]]:
    """Read the VLANs that connections use, by port; none where no gateway runs yet."""
    from gateway.policy.document import parse_json

    vlans: dict[str, set[int]] = defaultdict(set)
    try:
        policy = parse_json(session.get("/v1/policy").content)
    except Failure:
        return vlans
    for domain in policy.routing_domains:
        for connection in domain.l3_connections():
            if connection.vlan:
                vlans[connection.port].add(connection.vlan)
    return vlans
