"""Examples for the API's description; addresses are those of documentation (RFC 5737, RFC 3849) or private."""

from typing import Any

LOOKUP_RECORD: dict[str, Any] = {
    "vsid": 6001,
    "customer_address": "10.1.1.11",
    "mac": "10-10-10-10-11-04",
    "provider_address": "192.0.2.10",
    "encapsulation": "nvgre",
    "name": "BlueVM1",
}

ROUTING_DOMAIN: dict[str, Any] = {
    "id": "11111111-2222-3333-4444-000000000001",
    "name": "blue",
    "tenant": "blue-corp",
    "virtual_subnets": [{"vsid": 6001, "prefixes": ["10.1.1.0/24"]}],
    "lookup_records": [LOOKUP_RECORD],
    "network_connections": [
        {
            "name": "corpnet",
            "type": "l3",
            "port": "corpnet",
            "local_addresses": ["198.51.100.254/24"],
            "routes": [{"prefix": "0.0.0.0/0", "next_hop": "198.51.100.1"}],
        }
    ],
}

_SUBNET: dict[str, Any] = {key: ROUTING_DOMAIN[key] for key in ("id", "name", "virtual_subnets", "lookup_records")}

LOAD_BALANCED_DOMAIN: dict[str, Any] = _SUBNET | {
    "load_balancers": [
        {
            "name": "web",
            "frontends": [{"name": "public", "address": "203.0.113.80", "public": True}],
            "backend_pools": [{"name": "web", "members": [{"customer_address": "10.1.1.11", "weight": 1}]}],
            "probes": [{"name": "http", "protocol": "http", "port": 8080, "path": "/health", "expect_status": 200}],
            "rules": [
                {
                    "name": "www",
                    "frontend": "public",
                    "pool": "web",
                    "probe": "http",
                    "protocol": "tcp",
                    "port": 80,
                    "backend_port": 8080,
                }
            ],
            "outbound_nat": [{"frontend": "public", "vsid": 6001}],
        }
    ],
    "public_addresses": [{"address": "203.0.113.81", "customer_address": "10.1.1.11"}],
}

TUNNELLED_DOMAIN: dict[str, Any] = _SUBNET | {
    "network_connections": [
        {
            "name": "headquarters",
            "type": "ipsec",
            "local_address": "203.0.113.10",
            "remote_address": "198.51.100.20",
            "authentication": {"method": "psk", "secret": "correct-horse-battery-staple"},
            "routes": [{"prefix": "10.2.0.0/24"}],
            "ike": {"encryption": "aes256", "integrity": "sha256", "dh_group": "ecp256"},
            "esp": {"encryption": "aes128gcm16", "pfs_group": "ecp256"},
        }
    ],
}

ROUTING_DOMAINS: dict[str, Any] = {
    "connected to CorpNet": {"value": ROUTING_DOMAIN},
    "with a load balancer": {"value": LOAD_BALANCED_DOMAIN},
    "with a tunnel to a site": {"value": TUNNELLED_DOMAIN},
}

POLICY: dict[str, Any] = {
    "hosts": [{"id": "host1", "provider_addresses": [{"address": "192.0.2.10", "prefix_length": 24}]}],
    "routing_domains": [ROUTING_DOMAIN],
}
