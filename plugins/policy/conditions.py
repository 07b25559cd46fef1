"""What every write of the native API has in common: its conditions, the wait for 'programmed', and its answer."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import Header, Query, Request
from fastapi.responses import JSONResponse

from gateway.transactions import Receipt, Terms, Transactions

WRITERS = CapacityLimiter(4)  # there is one writer at a time: those who wait for it must not take all threads
WRITE_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Accepted: validated whole, stored and numbered. `programmed` tells whether the datapath, read "
        "back, already holds it; `errors` names the routing domains of this write that could not be programmed.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["revision", "programmed"],
                    "properties": {
                        "revision": {"type": "integer"},
                        "programmed": {"type": "boolean"},
                        "errors": {"type": "object", "additionalProperties": {"type": "string"}},
                    },
                },
                "example": {"revision": 17, "programmed": True},
            }
        },
    }
}


@dataclass(frozen=True, slots=True)
class Conditions:
    """Headers and query parameters of a write."""

    if_match: Annotated[
        str | None, Header(description="Write only if the resource still has this ETag, else 412.", examples=['"17"'])
    ] = None
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="A repeated request with the same key and body gets the first one's answer.",
        ),
    ] = None
    wait: Annotated[
        Literal["programmed"] | None, Query(description="Answer only when the datapath holds it, or after `timeout`.")
    ] = None
    timeout: Annotated[float, Query(ge=0, le=600, description="Seconds to wait at most.")] = 5.0

    def terms(self, owner: str, request: Request, body: bytes) -> Terms:
        expected = None
        if self.if_match is not None:
            expected = frozenset(tag.strip().strip('"') for tag in self.if_match.split(","))
        if self.idempotency_key is None:
            return Terms(owner, expected)
        content_type = request.headers.get("content-type", "")
        sent = "\n".join((request.method, request.url.path, content_type)).encode()
        return Terms(owner, expected, self.idempotency_key, hashlib.sha256(sent + b"\n\n" + body).digest())


async def write(
    transactions: Transactions,
    owner: str,
    request: Request,
    conditions: Conditions,
    operation: Callable[[Terms, bytes], Receipt],
) -> JSONResponse:
    """Read the body, do the operation off the event loop, wait where that is asked for, and answer."""
    body = await request.body()
    terms = conditions.terms(owner, request, body)
    receipt = await to_thread.run_sync(operation, terms, body, limiter=WRITERS)
    if conditions.wait:
        outcome = asyncio.wrap_future(transactions.outcome(receipt))
        await asyncio.wait({outcome}, timeout=conditions.timeout)
    errors = transactions.errors(receipt)
    answer: dict[str, Any] = {"revision": receipt.revision, "programmed": transactions.is_programmed(receipt)}
    if errors:
        answer["errors"] = errors
    return JSONResponse(answer, headers={"ETag": etag(receipt.revision)})


def etag(revision: int) -> str:
    """Write a strong entity tag (RFC 9110 8.8.3): the revision that last changed the resource."""
    return f'"{revision}"'
