"""Assembly of the application: plug-ins' routes, the gateway's own, and what guards them all."""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from gateway.api import explain, metrics, refusals, serving, status
from gateway.api.guard import BearerToken, BodyLimit
from gateway.api.machine import Machine
from gateway.api.services import Services
from gateway.policy.model import Policy
from gateway.transactions import Transactions
from plugins.contract import Plugin

DESCRIPTION = """\
Policy of a tenant gateway: routing domains whose NVGRE and VXLAN overlays it joins to CorpNet, to clients through load
balancers, and to other sites through IPsec.

A write is validated whole, stored and numbered before it is answered. *Accepted* (`revision`) and *programmed* are two
facts; `?wait=programmed` waits for the second. `If-Match` with an ETag makes a write conditional (412), an
`Idempotency-Key` makes it happen once. Every refusal is a problem document (RFC 9457) whose `errors` point (RFC 6901)
to all the faults of the document that was sent. Requests carry `Authorization: Bearer` with the token that the gateway
wrote to `STATE_DIR/admin.token` at its first start.
"""
PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
PROBLEM_EXAMPLE: dict[str, Any] = {
    "type": "urn:tenant-gateway:problem:policy-faults",
    "title": "The policy has faults; nothing of it took effect",
    "status": 422,
    "errors": [{"pointer": "/routing_domains/0/lookup_records/3/vsid", "detail": "7001 is not a virtual subnet of it"}],
}


def create(
    transactions: Transactions, machine: Machine, services: Services, plugins: Iterable[Plugin], token: str
) -> FastAPI:
    """Build the application. `token` is the one that every request has to bear."""
    application = FastAPI(title="Tenant gateway", version=status.VERSION, description=DESCRIPTION, redoc_url=None)
    for plugin in plugins:
        application.include_router(plugin.router(transactions))
    application.include_router(status.router(transactions, machine, services))
    application.include_router(explain.router(transactions, machine, services))
    application.include_router(serving.router(transactions, services))
    application.include_router(metrics.router(transactions, machine, services))
    refusals.install(application)
    application.add_middleware(BodyLimit)
    application.add_middleware(BearerToken, token=token)
    application.openapi = lambda: _openapi(application)  # type: ignore[method-assign]
    return application


def _openapi(application: FastAPI) -> dict[str, Any]:
    """FastAPI's description, with the policy's own schema, problem documents and the token."""
    if application.openapi_schema is None:
        schema = get_openapi(
            title=application.title,
            version=application.version,
            description=application.description,
            routes=application.routes,
        )
        components = schema.setdefault("components", {})
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"token": []}]
        policy = TypeAdapter(Policy).json_schema(ref_template="#/components/schemas/{model}")
        components.setdefault("schemas", {}).update(policy.pop("$defs"), Policy=policy, Problem=PROBLEM_SCHEMA)
        for operations in schema["paths"].values():
            for operation in operations.values():
                _describe_refusals(operation["responses"])
        application.openapi_schema = schema
    return application.openapi_schema


def _describe_refusals(responses: dict[str, Any]) -> None:
    responses.pop("422", None)  # FastAPI's own shape, which is never sent
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": PROBLEM_EXAMPLE}
    responses["default"] = {"description": "Refused.", "content": {"application/problem+json": content}}
