"""Parts of a sound policy as plain data, and a way to change them."""

from typing import Any

BLUE = "11111111-2222-3333-4444-000000000001"
RED = "11111111-2222-3333-4444-000000000002"

LOAD_BALANCER: dict[str, Any] = {
    "name": "web",
    "frontends": [
        {"name": "public", "address": "198.51.100.80", "public": True},
        {"name": "tier", "address": "10.1.1.200", "vsid": 6001},
        {"name": "public6", "address": "2001:db8:100::80", "public": True},
    ],
    "backend_pools": [
        {
            "name": "web",
            "minimum_healthy": 1,
            "members": [
                {"customer_address": "10.1.6.21", "weight": 10},
                {"customer_address": "10.1.1.12", "state": "draining"},
            ],
        },
        {"name": "web6", "members": [{"customer_address": "fd00:6::21"}]},
    ],
    "probes": [{"name": "http", "protocol": "http", "port": 8080, "path": "/health", "expect_status": 204}],
    "rules": [
        {"name": "www", "frontend": "public", "pool": "web", "probe": "http", "protocol": "tcp", "port": 80},
        {"name": "api", "frontend": "tier", "pool": "web", "protocol": "tcp", "port": 80, "backend_port": 8080},
        {"name": "www6", "frontend": "public6", "pool": "web6", "protocol": "tcp", "port": 80, "floating_ip": True},
    ],
    "inbound_nat_rules": [
        {
            "name": "ssh",
            "frontend": "public",
            "protocol": "tcp",
            "port": 2222,
            "customer_address": "10.1.6.21",
            "backend_port": 22,
        }
    ],
    "outbound_nat": [{"frontend": "public", "vsid": 6001}],
}
TUNNEL: dict[str, Any] = {
    "name": "headquarters",
    "type": "ipsec",
    "local_address": "198.51.100.10",
    "remote_address": "203.0.113.20",
    "authentication": {"method": "psk", "secret": "correct-horse-battery-staple"},
    "traffic_selectors": {"local": ["10.1.1.0/24"], "remote": ["10.2.0.0/16"]},
    "routes": [{"prefix": "10.2.0.0/24"}],
    "ike": {"encryption": "aes256", "integrity": "sha384", "dh_group": "ecp384", "lifetime_s": 28800},
    "esp": {"encryption": "aes256", "integrity": "sha256", "pfs_group": "modp2048", "lifetime_s": 1},
    "outbound_kbps": 1000,
}


def record(vsid: int, customer_address: str, number: int, provider_address: str, **others: Any) -> dict[str, Any]:
    mac = f"10-10-10-10-10-{number:02X}"
    fixed = {"vsid": vsid, "customer_address": customer_address, "mac": mac, "provider_address": provider_address}
    return fixed | others


def edit(document: Any, path: str, value: Any) -> None:
    """Set what a pointer points to; `...` takes it away, and a path that ends in /- appends."""
    *way, last = path.split("/")[1:]
    for token in way:
        document = document[int(token)] if isinstance(document, list) else document.setdefault(token, {})
    if last == "-":
        document.append(value)
    elif value is ...:
        del document[int(last) if isinstance(document, list) else last]
    else:
        document[int(last) if isinstance(document, list) else last] = value
