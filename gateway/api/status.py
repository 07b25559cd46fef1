"""GET /v1/status: what is accepted, what is programmed, and what goes through."""

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from gateway.api import service_documents
from gateway.api.machine import Counters, DomainCounters, Fill, Machine
from gateway.api.services import Services
from gateway.policy.internet import INTERNET
from gateway.transactions import Held, Programmed, Transactions

VERSION = version("tenant-gateway")
_NO_COUNTERS = DomainCounters()
_EXAMPLE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The state of the gateway.",
        "content": {
            "application/json": {
                "example": {
                    "name": "gateway1",
                    "version": VERSION,
                    "faults": [],
                    "policy": {"accepted_revision": 17, "programmed_revision": 17, "programmed": True},
                    "ports": [
                        {
                            "name": "provider",
                            "role": "provider",
                            "interface": "eth1",
                            "vlan": 0,
                            "state": "attached",
                            "detail": "",
                        }
                    ],
                    "ipsec": {"backend": "kernel-netlink", "why": "this kernel has ESP and XFRM interfaces"},
                    "routing_domains": [
                        {
                            "id": "11111111-2222-3333-4444-000000000001",
                            "name": "blue",
                            "owner": "policy",
                            "revision": 17,
                            "lookup_records": 4,
                            "error": None,
                            "traffic": {"overlay_to_external": {"packets": 1024, "bytes": 96256}},
                            "drops": {"no_route": 3},
                            "fragments_put_in_order": 0,
                            "connections": {"used": 512, "capacity": 18432},
                            "load_balancers": [{"name": "web", "pools": service_documents.POOLS_EXAMPLE}],
                            "tunnels": [service_documents.TUNNEL_EXAMPLE],
                            "services_fault": None,
                        }
                    ],
                    "internet": {
                        "traffic": {},
                        "drops": {"no_route": 12},
                        "fragments_put_in_order": 0,
                        "connections": None,
                    },
                    "drops": {"unknown_vsid": 1},
                    "unresolved_provider_addresses": ["192.0.2.99"],
                    "memory": {"tables": {"used": 1048576, "capacity": 67108864, "unit": "bytes"}},
                }
            }
        },
    }
}


def router(transactions: Transactions, machine: Machine, services: Services) -> APIRouter:
    router = APIRouter(tags=["operation"])

    @router.get("/v1/status", summary="Revisions, ports, routing domains, traffic, drops", responses=_EXAMPLE)
    def get_status() -> JSONResponse:
        return JSONResponse(document(transactions, machine, services))

    return router


def document(transactions: Transactions, machine: Machine, services: Services) -> dict[str, Any]:
    """Gather the state of the gateway as plain data."""
    held, programmed, counters = transactions.held, transactions.programmed, machine.counters()
    store_fault = transactions.store_fault
    faults = (store_fault, programmed.failure, programmed.errors.get(INTERNET), *machine.faults(), *services.faults())
    return {
        "name": machine.name,
        "version": VERSION,
        "faults": [fault for fault in faults if fault],
        "policy": {
            "accepted_revision": held.snapshot.revision,
            "programmed_revision": programmed.revision,
            "programmed": programmed.revision == held.snapshot.revision and store_fault is None,
        },
        "ports": [
            {
                "name": port.name,
                "role": port.role,
                "interface": port.interface,
                "vlan": port.vlan,
                "state": port.state,
                "detail": port.detail,
            }
            for port in machine.ports()
        ],
        "ipsec": {"backend": services.ipsec().name, "why": services.ipsec().why},
        "routing_domains": _domains(held, programmed, counters, services),
        "internet": _counters(counters.domains.get(INTERNET, _NO_COUNTERS)),
        "drops": dict(counters.drops),
        "unresolved_provider_addresses": list(machine.unresolved()),
        "memory": {
            name: {"used": fill.used, "capacity": fill.capacity, "unit": fill.unit}
            for name, fill in counters.fill.items()
        },
    }


def _domains(held: Held, programmed: Programmed, counters: Counters, services: Services) -> list[dict[str, Any]]:
    served = services.report(held.policy.routing_domains)
    return [
        {
            "id": domain_id,
            "name": owned.domain.name,
            "owner": owned.owner,
            "revision": held.changed_at[domain_id],
            "lookup_records": len(owned.domain.lookup_records),
            "error": programmed.errors.get(domain_id),
            **_counters(counters.domains.get(domain_id, _NO_COUNTERS)),
            **service_documents.of_domain(served[domain_id]),
        }
        for domain_id, owned in held.snapshot.domains.items()
    ]


def _counters(counters: DomainCounters) -> dict[str, Any]:
    return {
        "traffic": {
            direction: {"packets": traffic.packets, "bytes": traffic.bytes}
            for direction, traffic in counters.traffic.items()
        },
        "drops": dict(counters.drops),
        "fragments_put_in_order": counters.ordered,
        "connections": _connections(counters.connections),
    }


def _connections(fill: Fill | None) -> dict[str, int] | None:
    return None if fill is None else {"used": fill.used, "capacity": fill.capacity}
