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


def policy(*domains: Document) -> Document:
    return {"routing_domains": list(domains)}
