"""What every request passes before a route sees it: the bearer token (RFC 6750), and the limit on its body."""

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.problems import Problem, problem_response

BODY_LIMIT = 64 * 1024 * 1024
PUBLIC_PATHS = frozenset({"/docs", "/openapi.json"})


class BodyTooLargeError(Exception):
    """Raised while a body is being read, as soon as it passes BODY_LIMIT."""


class BearerToken:
    """Refuses with 401 every request that does not carry the administrator's token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in PUBLIC_PATHS:
            given = Headers(scope=scope).get("authorization", "")
            if not hmac.compare_digest(given.encode(), self._expected):
                await problem_response(_unauthorized(given))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _unauthorized(given: str) -> Problem:
    challenge = 'Bearer realm="tenant-gateway"'
    if given:
        challenge += ', error="invalid_token"'
    return Problem(
        401,
        "unauthorized",
        "The token is not this gateway's" if given else "A bearer token is needed",
        "Send 'Authorization: Bearer TOKEN' with the content of STATE_DIR/admin.token.",
        headers={"WWW-Authenticate": challenge},
    )


class BodyLimit:
    """Counts a body while it streams in, so that an oversized one is refused before it is held in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        received = 0

        async def limited() -> Message:
            nonlocal received
            if int(announced) > BODY_LIMIT:
                raise BodyTooLargeError
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_LIMIT:
                raise BodyTooLargeError
            return message

        await self._app(scope, limited, send)
