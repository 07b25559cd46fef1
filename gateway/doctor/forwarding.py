"""Checks of Linux's own routing beside the datapath."""

from collections.abc import Iterator

from gateway.doctor.facts import Machine
from gateway.doctor.finding import Finding


def examine_forwarding(machine: Machine) -> Iterator[Finding]:
    """Judge whether Linux could route tenants' packets in clear, and whether it routes as the underlay thinks."""
    yield _guard(machine)
    yield _rules(machine)


def _guard(machine: Machine) -> Finding:
    if not machine.forwarding:
        return Finding("linux", "forwarding", "ok", "Linux forwards nothing here")
    families = " and ".join(machine.forwarding)
    off = "sysctl -w net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0"
    if machine.forwarding_guard is None:
        detail = f"Linux forwards {families}, and nft, which guards against it, cannot be used"
        return Finding("linux", "forwarding", "failed", detail, f"apt-get install nftables, or: {off}")
    if not machine.forwarding_guard:
        detail = f"Linux forwards {families} without the guard (nft table inet tenant_gateway)"
        return Finding("linux", "forwarding", "warning", detail, f"start the gateway, which sets the guard, or: {off}")
    return Finding("linux", "forwarding", "ok", f"Linux forwards {families}; the guard keeps it off our ports")


def _rules(machine: Machine) -> Finding:
    if not machine.policy_rules:
        return Finding("linux", "policy rules", "ok", "routes come from the main table alone")
    detail = f"{machine.policy_rules} policy routing rules are set; next hops are taken from the main table alone"
    mend = "put the routes to provider addresses into the main table; `ip rule` and `ip -6 rule` show the rules"
    return Finding("linux", "policy rules", "warning", detail, mend)
