"""Small policies for tests of the service."""

from typing import Any

from live_gateway import BLUE, RED

Document = dict[str, Any]


def record(last: int = 11, **fields: Any) -> Document:
    return {
        "vsid": 6001,
        "customer_address": f"10.1.1.{last}",
        "mac": f"10-10-10-10-11-{last:02X}",
        "provider_address": "192.168.1.10",
    } | fields


def blue(*records: Document, **fields: Any) -> Document:
    return {
        "id": BLUE,
        "name": "blue",
        "virtual_subnets": [{"vsid": 6001, "prefixes": ["10.1.1.0/24"]}],
        "lookup_records": list(records or (record(11),)),
    } | fields


def red(**fields: Any) -> Document:
    return {
        "id": RED,
        "name": "red",
        "virtual_subnets": [{"vsid": 5001, "prefixes": ["10.1.1.0/24"]}],
        "lookup_records": [record(11, vsid=5001)],
    } | fields


def tunnel(name: str = "headquarters", peer: str = "198.51.100.20", prefix: str = "10.2.0.0/24") -> Document:
    authentication = {"method": "psk", "secret": "correct-horse-battery-staple"}
    connection = {"name": name, "type": "ipsec", "remote_address": peer, "authentication": authentication}
    return connection | {"routes": [{"prefix": prefix}]}


WEB = {
    "name": "web",
    "frontends": [{"name": "www", "address": "203.0.113.80", "public": True}],
    "backend_pools": [{"name": "vms", "members": [{"customer_address": "10.1.1.11", "weight": 3}]}],
    "probes": [{"name": "tcp", "protocol": "tcp", "port": 80}],
    "rules": [{"name": "http", "frontend": "www", "pool": "vms", "probe": "tcp", "protocol": "tcp", "port": 80}],
}


def policy(*domains: Document) -> Document:
    return {"routing_domains": list(domains)}
