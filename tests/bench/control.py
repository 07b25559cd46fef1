"""Figures of the control plane: pushing a whole policy, changing one record, memory."""

import random
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

import yaml

from tests.bench import plan, policies
from tests.bench.daemon import Daemon, as_body
from tests.bench.figures import Bound, Figure
from tests.bench.plan import Plan
from tests.bench.rig import Router


def push_and_change(router: Router, policy: Plan, changes: int, bounded: bool, directory: Path) -> list[Figure]:
    """Push as JSON to an empty gateway, change records one by one, and look at the daemon's memory."""
    size = f"{policy.records:,} records"
    with ExitStack() as lifetime:
        daemon = Daemon(router, directory, lifetime)
        before = daemon.resident_mb()
        body = as_body(policies.document(policy, "vxlan"))
        pushed = daemon.put("/v1/policy", body)
        took = [_change(daemon, policy, random.Random(number)) * 1000 for number in range(changes)]
        resident = daemon.resident_mb()
    first, _, third = quantiles(took, n=4)
    name = f"one record changed by PUT, programmed, {size}"
    return [
        Figure(
            f"push of {size} as JSON to an empty gateway, programmed",
            pushed,
            "s",
            Bound(3, "at most") if bounded else None,
            remark=f"{len(body) / 1e6:.1f} MB of JSON",
        ),
        Figure(f"{name}: median", median(took), "ms", Bound(10, "at most") if bounded else None, (first, third)),
        Figure(
            f"{name}: 99th percentile",
            quantiles(took, n=100)[98],
            "ms",
            Bound(75, "at most") if bounded else None,
            remark=f"of {changes}",
        ),
        Figure(
            f"resident memory of the daemon, {size}",
            resident,
            "MB",
            Bound(350, "at most") if bounded else None,
            remark=f"{before:.0f} MB with an empty policy",
        ),
    ]


def push_yaml(router: Router, policy: Plan, directory: Path) -> Figure:
    """Push the same as YAML."""
    text = yaml.dump(policies.document(policy, "vxlan"), Dumper=yaml.CSafeDumper, sort_keys=False).encode()
    with ExitStack() as lifetime:
        took = Daemon(router, directory, lifetime).put("/v1/policy", text, "application/yaml")
    name = f"push of {policy.records:,} records as YAML to an empty gateway, programmed"
    return Figure(name, took, "s", remark=f"{len(text) / 1e6:.1f} MB of YAML")


def _change(daemon: Daemon, policy: Plan, chance: random.Random) -> float:
    """Let a VM move to another host."""
    domain, record = chance.randrange(policy.domains), chance.randrange(policy.records_per_domain)
    host = (policy.host(domain, record) + chance.randrange(1, policy.hosts)) % policy.hosts
    vsid, address = policy.vsid(domain, record % plan.SUBNETS), policy.customer_address(domain, record)
    body = {"mac": policy.mac(domain, record), "provider_address": str(policy.provider_address(host))}
    path = f"/v1/routing-domains/{policies.domain_id(domain)}/lookup-records/{vsid}/{address}"
    return daemon.put(path, as_body(body))
