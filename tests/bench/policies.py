"""The benchmark's policy as a document: records, CorpNet on a VLAN of its own for each domain, access lists."""

from collections.abc import Iterator
from typing import Any, Literal

from tests.bench import plan as addresses
from tests.bench.plan import Plan

Document = dict[str, Any]
Direction = Literal["inbound", "outbound"]

FIRST_PRIORITY = 100
SPREAD = 387  # coprime to the number of rules: neighbours in a list concern different VMs


def domain_id(domain: int) -> str:
    return f"be7c0000-0000-4000-8000-{domain:012x}"


def document(plan: Plan, encapsulation: str, listed: Direction | None = None) -> Document:
    """All records encapsulated alike; `listed` puts an access list of 1,000 rules in that direction on every VSID."""
    return {
        "hosts": [_host(plan, number) for number in range(plan.hosts)],
        "routing_domains": [_domain(plan, number, encapsulation, listed) for number in range(plan.domains)],
    }


def _host(plan: Plan, number: int) -> Document:
    address = {"address": str(plan.provider_address(number)), "prefix_length": addresses.PROVIDER_NETWORK.prefixlen}
    return {"id": f"host{number}", "provider_addresses": [address], "southbound": "none"}


def _domain(plan: Plan, number: int, encapsulation: str, listed: Direction | None) -> Document:
    return {
        "id": domain_id(number),
        "name": f"tenant{number}",
        "tenant": f"tenant{number}",
        "virtual_subnets": [
            {"vsid": plan.vsid(number, subnet), "prefixes": [str(plan.subnet_prefix(number, subnet))]}
            for subnet in range(addresses.SUBNETS)
        ],
        "lookup_records": [_record(plan, number, index, encapsulation) for index in range(plan.records_per_domain)],
        "network_connections": [_corpnet(number)],
        "access_control_lists": [
            {
                "name": f"list{subnet}",
                "applies_to": [{"vsid": plan.vsid(number, subnet)}],
                "default_inbound": "deny",
                "default_outbound": "deny",
                "rules": list(rules(plan, subnet, listed)),
            }
            for subnet in range(addresses.SUBNETS)
            if listed
        ],
    }


def _record(plan: Plan, domain: int, index: int, encapsulation: str) -> Document:
    host = plan.host(domain, index)
    return {
        "vsid": plan.vsid(domain, index % addresses.SUBNETS),
        "customer_address": str(plan.customer_address(domain, index)),
        "mac": plan.mac(domain, index),
        "provider_address": str(plan.provider_address(host)),
        "encapsulation": "nvgre" if plan.mixed and host % 2 == 0 else encapsulation,
    }


def _corpnet(domain: int) -> Document:
    next_hop = {"next_hop": addresses.CORPNET_NEXT_HOP}
    return {
        "name": "corpnet",
        "type": "l3",
        "port": "corpnet",
        "vlan": domain + 1,
        "local_addresses": [f"{addresses.CORPNET_LOCAL}/{addresses.CORPNET_PREFIX_LENGTH}"],
        "routes": [{"prefix": "0.0.0.0/0", **next_hop}, {"prefix": "20.128.0.0/9", **next_hop}],
    }


def rules(plan: Plan, subnet: int, direction: Direction) -> Iterator[Document]:
    """1,000 rules that allow: 250 prefixes of CAs, 250 of CorpNet, 250 port classes; each flow meets exactly one."""
    for number in range(addresses.RULES):
        customer = str(plan.ca_prefix(subnet, number % addresses.CA_PREFIXES))
        remote = str(addresses.remote_prefix(number // addresses.RULES_PER_REMOTE))
        yield {
            "priority": FIRST_PRIORITY + number * SPREAD % addresses.RULES,
            "direction": direction,
            "action": "allow",
            "protocol": "udp",
            "source_prefix": customer if direction == "outbound" else remote,
            "destination_prefix": remote if direction == "outbound" else customer,
            "destination_ports": addresses.port_class(number % addresses.PORT_CLASSES),
        }
