"""Check of the privileges of this process."""

from collections.abc import Iterator

from gateway.doctor.facts import Machine
from gateway.doctor.finding import Finding


def examine_privileges(machine: Machine) -> Iterator[Finding]:
    """Judge the capabilities that the gateway would have if started like this."""
    if machine.missing_capabilities:
        missing = " and ".join(machine.missing_capabilities)
        yield Finding("process", "privileges", "failed", f"lacks {missing}", "run as root: sudo tgw doctor")
    else:
        yield Finding("process", "privileges", "ok", "may load BPF programs and set up links, routes and neighbours")
