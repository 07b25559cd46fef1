"""Members of a pool that come, drain and go."""

import copy
from typing import Any, Literal

import yaml

from deploy.lab import gateway
from deploy.lab.running import RunningLab

State = Literal["active", "draining", "removed"]


def set_state(lab: RunningLab, domain: str, pool: str, customer_address: str, state: State) -> None:
    """Apply the lab's policy with one member in that state, and return when it is programmed. Errors: CommandError."""
    document = copy.deepcopy(lab.topology.document)
    balancers = next(one["load_balancers"] for one in document["routing_domains"] if one["name"] == domain)
    pools = (one for balancer in balancers for one in balancer["backend_pools"])
    found = next(one for one in pools if one["name"] == pool)
    found["members"] = [changed for one in found["members"] for changed in _with(one, customer_address, state)]
    gateway.apply(lab, yaml.safe_dump(document))


def _with(member: dict[str, Any], customer_address: str, state: State) -> list[dict[str, Any]]:
    if member["customer_address"] != customer_address:
        return [member]
    return [] if state == "removed" else [{**member, "state": state}]
