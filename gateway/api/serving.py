"""/v1/routing-domains/{id}/pools and …/tunnels: how load balancers and tunnels fare, and what an operator may do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse

from gateway.api import service_documents as documents
from gateway.api.services import DomainServices, Services
from gateway.policy.model import RoutingDomain
from gateway.transactions import ConflictError, NotFoundError, Transactions

DomainId = Annotated[str, Path(description="RDID: the routing domain's GUID.")]
TunnelName = Annotated[str, Path(description="Name of an ipsec connection of the domain.")]
_TUNNEL = "/v1/routing-domains/{domain_id}/tunnels/{name:path}"


class _Domains:
    """Finds what a path names."""

    def __init__(self, transactions: Transactions, services: Services) -> None:
        self._transactions = transactions
        self._services = services

    def report(self, domain_id: str) -> DomainServices:
        """Return the state of a domain's services. Raises NotFoundError."""
        domain = self._domain(domain_id)
        return self._services.report([domain])[domain.id]

    def with_tunnel(self, domain_id: str, name: str) -> str:
        """Return the canonical id of a domain that has this tunnel. Raises NotFoundError."""
        domain = self._domain(domain_id)
        known = [tunnel.name for tunnel in domain.ipsec_connections()]
        if name not in known:
            raise NotFoundError(f"{domain.name} has no tunnel {name!r}: it has {', '.join(known) or 'none'}")
        return domain.id

    def _domain(self, domain_id: str) -> RoutingDomain:
        return self._transactions.domain(domain_id.strip("{}").lower())[1]


def router(transactions: Transactions, services: Services) -> APIRouter:
    router = APIRouter(tags=["load balancers and tunnels"])
    domains = _Domains(transactions, services)
    _add_views(router, domains)
    _add_tunnel_routes(router, domains, services)
    return router


def _add_views(router: APIRouter, domains: _Domains) -> None:
    @router.get(
        "/v1/routing-domains/{domain_id}/pools",
        summary="Pools of a routing domain, with the state and health of each member",
        responses=_answer({"pools": documents.POOLS_EXAMPLE, "fault": None}),
    )
    def get_pools(domain_id: DomainId) -> JSONResponse:
        found = domains.report(domain_id)
        return JSONResponse({"pools": [documents.pool(each) for each in found.pools], "fault": found.fault})

    @router.get(
        "/v1/routing-domains/{domain_id}/tunnels",
        summary="Tunnels of a routing domain and their state",
        responses=_answer({"tunnels": [documents.TUNNEL_EXAMPLE], "fault": None}),
    )
    def get_tunnels(domain_id: DomainId) -> JSONResponse:
        found = domains.report(domain_id)
        return JSONResponse({"tunnels": [documents.tunnel(each) for each in found.tunnels], "fault": found.fault})


def _add_tunnel_routes(router: APIRouter, domains: _Domains, services: Services) -> None:
    @router.post(f"{_TUNNEL}/up", summary="Connect a tunnel", responses=_answer(documents.TUNNEL_EXAMPLE))
    def post_up(domain_id: DomainId, name: TunnelName) -> JSONResponse:
        """Connects also after `down`. Answers when the tunnel is up or has failed, at the latest after ten seconds."""
        with _attended(name):
            return JSONResponse(documents.tunnel(services.up(domains.with_tunnel(domain_id, name), name)))

    @router.post(f"{_TUNNEL}/down", summary="Close a tunnel", responses=_answer(documents.TUNNEL_EXAMPLE))
    def post_down(domain_id: DomainId, name: TunnelName) -> JSONResponse:
        """The tunnel stays closed until `up`, also when the gateway starts again; policy is not changed."""
        with _attended(name):
            return JSONResponse(documents.tunnel(services.down(domains.with_tunnel(domain_id, name), name)))

    @router.get(
        f"{_TUNNEL}/log",
        summary="The latest lines of a tunnel's log",
        responses=_answer({"lines": [{"at": "2026-01-31T12:00:00.000+00:00", "text": "establishing CHILD_SA"}]}),
    )
    def get_log(domain_id: DomainId, name: TunnelName) -> JSONResponse:
        with _attended(name):
            lines = services.log(domains.with_tunnel(domain_id, name), name)
        return JSONResponse({"lines": documents.log_lines(lines)})


@contextmanager
def _attended(name: str) -> Iterator[None]:
    """Raise ConflictError where nothing looks after a tunnel: it is not enabled, or its compartment is missing."""
    try:
        yield
    except KeyError:
        raise ConflictError(f"tunnel {name} has no endpoint at this moment: its state says why") from None


def _answer(example: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "As it is now.", "content": {"application/json": {"example": example}}}}
