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

POLICY: dict[str, Any] = {
    "hosts": [{"id": "host1", "provider_addresses": [{"address": "192.0.2.10", "prefix_length": 24}]}],
    "routing_domains": [ROUTING_DOMAIN],
}
