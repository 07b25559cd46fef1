"""/v1/history and /v1/rollback: what the gateway held before, and going back to it."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from gateway.policy.snapshot import Transaction
from gateway.transactions import Receipt, Terms, Transactions
from plugins.policy.conditions import WRITE_ANSWER, Conditions, write

_HISTORY: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Kept revisions, newest first, with the names of the routing domains that changed.",
        "content": {
            "application/json": {
                "example": {
                    "revisions": [
                        {
                            "revision": 17,
                            "time": "2026-01-31T12:00:00+00:00",
                            "owner": "policy",
                            "changed": ["blue"],
                            "removed": ["red"],
                        }
                    ]
                }
            }
        },
    }
}


def router(transactions: Transactions, owner: str) -> APIRouter:
    router = APIRouter(tags=["policy"])

    @router.get("/history", summary="The revisions that can be rolled back to", responses=_HISTORY)
    async def get_history(
        limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    ) -> JSONResponse:
        entries = await run_in_threadpool(transactions.history, limit)
        return JSONResponse({"revisions": [_plain(entry) for entry in entries]})

    @router.post(
        "/rollback/{revision}",
        summary="Make a kept revision's policy the present one, as a new revision",
        description="The whole policy goes back, also what came in through other plug-ins.",
        responses=WRITE_ANSWER,
    )
    async def post_rollback(
        revision: Annotated[int, Path(ge=0, description="A revision of /v1/history.")],
        request: Request,
        conditions: Annotated[Conditions, Depends()],
    ) -> JSONResponse:
        def roll_back(terms: Terms, _: bytes) -> Receipt:
            return transactions.rollback(terms, revision)

        return await write(transactions, owner, request, conditions, roll_back)

    return router


def _plain(entry: Transaction) -> dict[str, Any]:
    return {
        "revision": entry.revision,
        "time": entry.time.isoformat(timespec="seconds"),
        "owner": entry.author,
        "changed": entry.changed,
        "removed": entry.removed,
    }
