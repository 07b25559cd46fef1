"""The benchmark's load balancers as documents: public VIPs, the machines of the domain as members of pools."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from tests.bench import plan as addresses
from tests.bench import policies
from tests.bench.plan import Plan
from tests.bench.policies import Document

PORTS = {"port": addresses.VIP_PORT, "backend_port": addresses.MEMBER_PORT}


def document(plan: Plan) -> Document:
    """Return a VIP of IPv4 in each domain, before its first records."""
    whole = _outside_only(plan)
    for number, domain in enumerate(whole["routing_domains"]):
        members = (plan.customer_address(number, index) for index in range(addresses.MEMBERS))
        domain["load_balancers"] = [_load_balancer([_pool("pool", members)], plan.vip(number))]
    return whole


def document_six(plan: Plan) -> Document:
    """Return the same with IPv6."""
    whole = _outside_only(plan)
    for number, domain in enumerate(whole["routing_domains"]):
        for subnet, entry in enumerate(domain["virtual_subnets"]):
            entry["prefixes"] = [str(plan.subnet_prefix6(subnet))]
        for index, record in enumerate(domain["lookup_records"]):
            record["customer_address"] = str(plan.customer_address6(index))
        members = (plan.customer_address6(index) for index in range(addresses.MEMBERS))
        domain["load_balancers"] = [_load_balancer([_pool("pool", members)], plan.vip6(number))]
    return whole


def many(plan: Plan) -> Document:
    """Return pools of 10 members, as many as there are machines for, each on a port of its domain's VIP."""
    whole = _outside_only(plan)
    for number, domain in enumerate(whole["routing_domains"]):
        machines = [plan.customer_address(number, index) for index in range(plan.records_per_domain)]
        firsts = range(0, len(machines), addresses.MEMBERS)
        pools = [_pool(f"pool{first}", machines[first : first + addresses.MEMBERS]) for first in firsts]
        domain["load_balancers"] = [_load_balancer(pools, plan.vip(number))]
    return whole


def single(plan: Plan) -> Document:
    """Return one pool of all machines of each domain."""
    whole = _outside_only(plan)
    for number, domain in enumerate(whole["routing_domains"]):
        machines = (plan.customer_address(number, index) for index in range(plan.records_per_domain))
        domain["load_balancers"] = [_load_balancer([_pool("pool", machines)], plan.vip(number))]
    return whole


def _outside_only(plan: Plan) -> Document:
    """Return the policy without any way out but the Internet."""
    whole = policies.document(plan, "vxlan")
    for domain in whole["routing_domains"]:
        domain["network_connections"] = []
    return whole


def _pool(name: str, members: Iterable[IPv4Address | IPv6Address]) -> Document:
    return {"name": name, "members": [{"customer_address": str(member)} for member in members]}


def _load_balancer(pools: list[Document], vip: IPv4Address | IPv6Address) -> Document:
    rule = {"frontend": "public", "protocol": "udp", "backend_port": addresses.MEMBER_PORT}
    return {
        "name": "balancer",
        "frontends": [{"name": "public", "address": str(vip), "public": True}],
        "backend_pools": pools,
        "rules": [
            rule | {"name": pool["name"], "pool": pool["name"], "port": addresses.VIP_PORT + index}
            for index, pool in enumerate(pools)
        ],
    }
