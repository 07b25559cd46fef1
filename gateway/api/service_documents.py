"""Load balancers and tunnels as plain data."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from gateway.api.services import DomainServices, Member, Pool
from vpn.status import ConnectionStatus, LogLine

POOLS_EXAMPLE: list[dict[str, Any]] = [
    {
        "load_balancer": "web",
        "pool": "web-vms",
        "probe": "http",
        "members": [
            {
                "customer_address": "10.1.6.21",
                "weight": 1,
                "state": "active",
                "status": "healthy",
                "since": "2026-01-31T12:00:00.000+00:00",
                "reason": "ok",
                "latest": "ok",
            }
        ],
    }
]
TUNNEL_EXAMPLE: dict[str, Any] = {
    "name": "headquarters",
    "state": "connected",
    "text": "connected since 2026-01-31 12:00:00 UTC",
    "remote_address": "198.51.100.20",
    "local_address": "203.0.113.20",
    "since": "2026-01-31T12:00:00.000+00:00",
    "last_error": None,
    "mtu": 1438,
    "bytes_in": 96256,
    "bytes_out": 96256,
    "packets_in": 1024,
    "packets_out": 1024,
    "ike_rekeys": 0,
    "esp_rekeys": 1,
    "ike_suite": "AES_CBC-256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/ECP_256",
    "esp_suite": "AES_GCM_16-128",
    "udp_encapsulated": False,
    "offloadable": True,
    "why_not": None,
    "notes": [],
}


def of_domain(services: DomainServices) -> dict[str, Any]:
    """Return what status tells of a domain's services."""
    by_balancer = groupby(services.pools, lambda each: each.load_balancer)
    return {
        "load_balancers": [
            {"name": name, "pools": [_without_balancer(pool(each)) for each in of_balancer]}
            for name, of_balancer in by_balancer
        ],
        "tunnels": [tunnel(each) for each in services.tunnels],
        "services_fault": services.fault,
    }


def pool(pool: Pool) -> dict[str, Any]:
    return {
        "load_balancer": pool.load_balancer,
        "pool": pool.pool,
        "probe": pool.probe,
        "members": [_member(member) for member in pool.members],
    }


def tunnel(status: ConnectionStatus) -> dict[str, Any]:
    document = asdict(status) | {"since": _time(status.since)}
    if status.last_error:
        document["last_error"]["at"] = _time(status.last_error.at)
    return document


def log_lines(lines: Iterable[LogLine]) -> list[dict[str, Any]]:
    return [{"at": _time(line.at), "text": line.text} for line in lines]


def _without_balancer(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "load_balancer"}


def _member(member: Member) -> dict[str, Any]:
    return asdict(member) | {"since": _time(member.since)}


def _time(seconds: float | None) -> str | None:
    """Write a time of seconds since 1970."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
