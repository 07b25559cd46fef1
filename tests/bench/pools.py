"""The benchmark's load balancers as a document: a public VIP in each domain, its first records are the members."""

from tests.bench import plan as addresses
from tests.bench import policies
from tests.bench.plan import Plan
from tests.bench.policies import Document


def document(plan: Plan) -> Document:
    """One load balancer in each domain, and no way out but the Internet."""
    whole = policies.document(plan, "vxlan")
    for number, domain in enumerate(whole["routing_domains"]):
        domain["network_connections"] = []
        domain["load_balancers"] = [_load_balancer(plan, number)]
    return whole


def _load_balancer(plan: Plan, domain: int) -> Document:
    members = [{"customer_address": str(plan.customer_address(domain, index))} for index in range(addresses.MEMBERS)]
    rule = {"name": "web", "frontend": "public", "pool": "web", "protocol": "udp"}
    return {
        "name": "web",
        "frontends": [{"name": "public", "address": str(plan.vip(domain)), "public": True}],
        "backend_pools": [{"name": "web", "members": members}],
        "rules": [rule | {"port": addresses.VIP_PORT, "backend_port": addresses.MEMBER_PORT}],
    }
