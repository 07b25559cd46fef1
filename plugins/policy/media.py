"""JSON or YAML: which one a request holds, and which one it wants (RFC 9110, RFC 9512)."""

from fastapi import HTTPException, Request

JSON = "application/json"
YAML = "application/yaml"
_YAML_NAMES = {YAML, "application/x-yaml", "text/yaml", "text/x-yaml"}


def is_yaml(request: Request) -> bool:
    """Whether the body is YAML; without a Content-Type it is JSON. Any other type is refused with 415."""
    given = _content_type(request)
    if given not in (JSON, *_YAML_NAMES):
        raise HTTPException(415, f"Content-Type is {given!r}; send {JSON} or {YAML}")
    return given != JSON


def expect_json(request: Request) -> None:
    """Refuse a body that says it is not JSON with 415."""
    given = _content_type(request)
    if given != JSON:
        raise HTTPException(415, f"Content-Type is {given!r}; send {JSON}")


def wants_yaml(request: Request) -> bool:
    """Whether Accept names YAML and not JSON."""
    accepted = request.headers.get("accept", "")
    return any(name in accepted for name in _YAML_NAMES) and JSON not in accepted


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
