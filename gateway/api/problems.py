"""Problem documents (RFC 9457): one shape for every refusal, and which exception becomes which status."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Problem:
    """One refusal. `kind` becomes the problem type's URN; `errors` point into the document that was sent (RFC 6901)."""

    status: int
    kind: str
    title: str
    detail: str = ""
    errors: tuple[Mapping[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def problem_response(problem: Problem) -> JSONResponse:
    document: dict[str, Any] = {
        "type": f"urn:tenant-gateway:problem:{problem.kind}",
        "title": problem.title,
        "status": problem.status,
    }
    if problem.detail:
        document["detail"] = problem.detail
    if problem.errors:
        document["errors"] = [dict(error) for error in problem.errors]
    return JSONResponse(document, problem.status, headers=dict(problem.headers), media_type=MEDIA_TYPE)


def http_problem(status: int, detail: str) -> Problem:
    """For what the HTTP layer itself refuses: unknown path, wrong method."""
    phrase = HTTPStatus(status).phrase
    return Problem(status, phrase.lower().replace(" ", "-"), phrase, "" if detail == phrase else detail)
