"""Which exception becomes which problem document."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from gateway.api.guard import BODY_LIMIT, BodyTooLargeError
from gateway.api.problems import Problem, http_problem, problem_response
from gateway.datapath.model.question import QuestionError
from gateway.policy.faults import PolicyFaults, pointer_to
from gateway.policy.store_errors import RevisionUnknown, StoreError, StoreFull
from gateway.transactions import ConflictError, KeyReusedError, NotFoundError, PreconditionError

log = structlog.get_logger(__name__)


def _policy_faults(error: PolicyFaults) -> Problem:
    errors = tuple({"pointer": fault.pointer, "detail": fault.detail} for fault in error.faults)
    if any(not fault.pointer for fault in error.faults):  # the document itself, not a field of it
        return Problem(400, "malformed", "The body is not what this path takes", errors=errors)
    detail = f"{error.unlisted:,} more faults are not listed." if error.unlisted else ""
    return Problem(422, "policy-faults", "The policy has faults; nothing of it took effect", detail, errors)


def _too_large(_: BodyTooLargeError) -> Problem:
    detail = f"A body may have {BODY_LIMIT:,} bytes. Send the routing domains one by one."
    return Problem(413, "too-large", "The body is too large", detail)


def _parameters(error: RequestValidationError) -> Problem:
    errors = tuple({"pointer": pointer_to(fault["loc"][1:]), "detail": str(fault["msg"])} for fault in error.errors())
    malformed = any(fault["type"] == "json_invalid" for fault in error.errors())
    if malformed:
        return Problem(400, "malformed", "The body is not JSON", errors=errors)
    return Problem(422, "parameters", "The request has faults", errors=errors)


def _question(error: QuestionError) -> Problem:
    field, _, detail = str(error).partition(": ")
    return Problem(422, "parameters", "The request has faults", errors=({"pointer": f"/{field}", "detail": detail},))


def _http(error: HTTPException) -> Problem:
    return replace(http_problem(error.status_code, str(error.detail)), headers=error.headers or {})


def _simple(status: int, kind: str, title: str) -> Callable[[Exception], Problem]:
    return lambda error: Problem(status, kind, title, str(error))


_REFUSALS: dict[type[Exception], Callable[[Any], Problem]] = {
    PolicyFaults: _policy_faults,
    BodyTooLargeError: _too_large,
    RequestValidationError: _parameters,
    QuestionError: _question,
    HTTPException: _http,
    NotFoundError: _simple(404, "not-found", "There is no such thing"),
    RevisionUnknown: _simple(404, "not-found", "There is no such revision"),
    ConflictError: _simple(409, "conflict", "The present policy does not allow it"),
    PreconditionError: _simple(412, "changed-meanwhile", "It was changed meanwhile"),
    KeyReusedError: _simple(422, "key-reused", "The Idempotency-Key was used for another request"),
    StoreFull: _simple(507, "disk-full", "The disk is full; nothing was changed"),
    StoreError: _simple(503, "store-unusable", "The policy store cannot be used"),
    Exception: lambda _: Problem(500, "internal", "The gateway failed on this request", "Its log says where."),
}


def install(application: FastAPI) -> None:
    """Let the application answer these exceptions with problem documents."""
    for kind, problem_of in _REFUSALS.items():
        application.add_exception_handler(kind, _handler(problem_of))
    application.add_exception_handler(405, _method_not_allowed)


async def _method_not_allowed(request: Request, _: Exception) -> Response:
    """Name all methods that the path takes (RFC 9110, 15.5.6): the router knows those of the first route alone."""
    routes = request.app.routes
    allowed = (
        method
        for method in ("DELETE", "GET", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    )
    problem = http_problem(405, "Method Not Allowed")
    return problem_response(replace(problem, headers={"Allow": ", ".join(allowed)}))


def _handler(problem_of: Callable[[Any], Problem]) -> Callable[[Request, Exception], Any]:
    async def handle(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if problem.status >= 500:
            path = request.url.path
            log.error("request_failed", method=request.method, path=path, problem=problem.kind, why=str(error))
        return problem_response(problem)

    return handle
