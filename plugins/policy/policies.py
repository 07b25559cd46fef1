"""/v1/policy: the whole document."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from gateway.policy.document import parse_json, parse_yaml, to_json, to_yaml
from gateway.policy.faults import PolicyFaults
from gateway.policy.model import Policy
from gateway.transactions import Receipt, Terms, Transactions
from plugins.policy import media
from plugins.policy.conditions import WRITE_ANSWER, Conditions, etag, write
from plugins.policy.examples import POLICY

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            media.JSON: {"schema": {"$ref": "#/components/schemas/Policy"}, "example": POLICY},
            media.YAML: {"schema": {"$ref": "#/components/schemas/Policy"}},
        },
    }
}
_DOCUMENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The policy, with its revision as ETag. Secrets are not shown: `***` stands for them.",
        "content": {
            media.JSON: {"schema": {"$ref": "#/components/schemas/Policy"}, "example": POLICY},
            media.YAML: {"schema": {"$ref": "#/components/schemas/Policy"}},
        },
    }
}


def router(transactions: Transactions, owner: str) -> APIRouter:
    router = APIRouter(tags=["policy"])

    @router.get("/policy", summary="The policy that the gateway holds", responses=_DOCUMENT, response_class=Response)
    async def get_policy(
        request: Request,
        only_owner: Annotated[
            str | None, Query(alias="owner", description="Only what came in through this plug-in.", examples=[owner])
        ] = None,
        revision: Annotated[int | None, Query(ge=0, description="A kept revision instead of the present one.")] = None,
    ) -> Response:
        held, policy = await run_in_threadpool(transactions.policy, only_owner, revision)
        as_yaml = media.wants_yaml(request)
        content = await run_in_threadpool(to_yaml if as_yaml else to_json, policy)
        headers = {"ETag": etag(held), "Vary": "Accept"}
        return Response(content, headers=headers, media_type=media.YAML if as_yaml else media.JSON)

    @router.put(
        "/policy",
        summary="Replace the routing domains and hosts that came in through this API, no others",
        description="`***` for a secret keeps the one that the connection of this name has.",
        responses=WRITE_ANSWER,
        openapi_extra=_BODY,
    )
    async def put_policy(request: Request, conditions: Annotated[Conditions, Depends()]) -> JSONResponse:
        as_yaml = media.is_yaml(request)

        def replace(terms: Terms, body: bytes) -> Receipt:
            return transactions.replace(terms, parse(transactions, owner, body, as_yaml))

        return await write(transactions, owner, request, conditions, replace)

    return router


def parse(transactions: Transactions, owner: str, body: bytes, as_yaml: bool) -> Policy:
    """Read the policy in a body. Raises PolicyFaults with every fault, those of the readable rest included."""
    read = parse_yaml if as_yaml else parse_json
    try:
        return read(body)
    except PolicyFaults:
        return read(body, lambda policy: transactions.faults(owner, policy))
