"""/v1/routing-domains: one routing domain, or one lookup record of it, without sending the rest."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from gateway.policy import addresses
from gateway.policy.document import parse_domain_json, parse_record_json, to_json
from gateway.policy.faults import Fault, PolicyFaults
from gateway.policy.model import LookupRecord, RoutingDomain
from gateway.policy.reading import read_json, repeated_keys
from gateway.transactions import Receipt, Terms, Transactions
from plugins.policy import media
from plugins.policy.conditions import WRITE_ANSWER, Conditions, etag, write
from plugins.policy.examples import LOOKUP_RECORD, ROUTING_DOMAIN, ROUTING_DOMAINS

DomainId = Annotated[str, Path(description="RDID: the routing domain's GUID.", examples=[ROUTING_DOMAIN["id"]])]
RecordVsid = Annotated[int, Path(description="The virtual subnet of the record.", examples=[LOOKUP_RECORD["vsid"]])]
RecordAddress = Annotated[
    str,
    Path(
        description="The customer address; 0.0.0.0 or :: for l2only and gateway_wildcard.",
        examples=[LOOKUP_RECORD["customer_address"]],
    ),
]
Writing = Annotated[Conditions, Depends()]
RECORD_PATH = "/routing-domains/{domain_id}/lookup-records/{vsid}/{customer_address}"


def _reference(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _body(schema: dict[str, Any], **examples: Any) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {media.JSON: {"schema": schema, **examples}}}}


def _placed_record() -> dict[str, Any]:
    """Return the schema of a record whose place the path tells."""
    schema = TypeAdapter(LookupRecord).json_schema()
    return schema | {"required": [field for field in schema["required"] if field not in ("vsid", "customer_address")]}


def router(transactions: Transactions, owner: str) -> APIRouter:
    router = APIRouter(tags=["routing domains"])
    _add_domain_routes(router, transactions, owner)
    _add_record_routes(router, transactions, owner)
    return router


def _add_domain_routes(router: APIRouter, transactions: Transactions, owner: str) -> None:
    @router.get(
        "/routing-domains/{domain_id}",
        summary="One routing domain",
        response_class=Response,
        description="Secrets are not shown: `***` stands for them.",
        responses={200: {"content": {media.JSON: {"schema": _reference("RoutingDomain"), "example": ROUTING_DOMAIN}}}},
    )
    async def get_domain(domain_id: DomainId) -> Response:
        revision, domain = transactions.domain(canonical_id(domain_id))
        content = await run_in_threadpool(to_json, domain)
        return Response(content, headers={"ETag": etag(revision)}, media_type=media.JSON)

    @router.put(
        "/routing-domains/{domain_id}",
        summary="Add or replace one routing domain",
        responses=WRITE_ANSWER,
        description="`***` for a secret keeps the one that the connection of this name has.",
        openapi_extra=_body(_reference("RoutingDomain"), examples=ROUTING_DOMAINS),
    )
    async def put_domain(domain_id: DomainId, request: Request, conditions: Writing) -> JSONResponse:
        media.expect_json(request)

        def put(terms: Terms, body: bytes) -> Receipt:
            return transactions.put_domain(terms, parse_domain(transactions, canonical_id(domain_id), body))

        return await write(transactions, owner, request, conditions, put)

    @router.delete("/routing-domains/{domain_id}", summary="Remove one routing domain", responses=WRITE_ANSWER)
    async def delete_domain(domain_id: DomainId, request: Request, conditions: Writing) -> JSONResponse:
        def delete(terms: Terms, _: bytes) -> Receipt:
            return transactions.delete_domain(terms, canonical_id(domain_id))

        return await write(transactions, owner, request, conditions, delete)


def _add_record_routes(router: APIRouter, transactions: Transactions, owner: str) -> None:
    @router.put(
        RECORD_PATH,
        summary="Add or replace one lookup record",
        description="`vsid` and `customer_address` may be left out of the body; the path has them.",
        responses=WRITE_ANSWER,
        openapi_extra=_body(_placed_record(), example=LOOKUP_RECORD),
    )
    async def put_record(
        domain_id: DomainId, vsid: RecordVsid, customer_address: RecordAddress, request: Request, conditions: Writing
    ) -> JSONResponse:
        media.expect_json(request)

        def put(terms: Terms, body: bytes) -> Receipt:
            record = parse_record(vsid, canonical_address(customer_address), body)
            return transactions.put_record(terms, canonical_id(domain_id), record)

        return await write(transactions, owner, request, conditions, put)

    @router.delete(RECORD_PATH, summary="Remove one lookup record", responses=WRITE_ANSWER)
    async def delete_record(
        domain_id: DomainId, vsid: RecordVsid, customer_address: RecordAddress, request: Request, conditions: Writing
    ) -> JSONResponse:
        def delete(terms: Terms, _: bytes) -> Receipt:
            address = canonical_address(customer_address)
            return transactions.delete_record(terms, canonical_id(domain_id), vsid, address)

        return await write(transactions, owner, request, conditions, delete)


def parse_domain(transactions: Transactions, domain_id: str, body: bytes) -> RoutingDomain:
    """Read the domain in a body, which must bear the id of its path. Raises PolicyFaults with every fault."""
    try:
        domain = parse_domain_json(body)
    except PolicyFaults:
        domain = parse_domain_json(body, transactions.domain_faults)
    if domain.id != domain_id:
        raise PolicyFaults([Fault("/id", f"{domain.id} is not the id in the path, {domain_id}")])
    return domain


def parse_record(vsid: int, customer_address: str, body: bytes) -> LookupRecord:
    """Read the record in a body, completed with what the path says and not contradicting it. Raises PolicyFaults."""
    place = {"vsid": vsid, "customer_address": customer_address}
    document = read_json(body)
    found = list(repeated_keys(document))
    if isinstance(document, dict):
        body = json.dumps(place | document).encode()
    try:
        record = parse_record_json(body)
    except PolicyFaults as error:
        raise PolicyFaults([*found, *error.faults]) from None
    found += [
        Fault(f"/{field}", f"{getattr(record, field)} is not what the path says, {value}")
        for field, value in place.items()
        if getattr(record, field) != value
    ]
    if found:
        raise PolicyFaults(found)
    return record


def canonical_id(text: str) -> str:
    """Write an RDID as the model keeps it."""
    return text.strip("{}").lower()


def canonical_address(text: str) -> str:
    """Write the address as the model keeps it. Raises PolicyFaults."""
    try:
        return addresses.address(text)
    except ValueError as error:
        raise PolicyFaults([Fault("/customer_address", str(error))]) from None
