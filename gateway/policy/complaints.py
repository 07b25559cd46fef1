"""What the model's validation says of a document, in the words of the document."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeAlias, cast, get_args, get_type_hints

from pydantic_core import ErrorDetails

from gateway.policy.faults import Fault, pointer_to
from gateway.policy.model import (
    CertificateAuthentication,
    IpsecConnection,
    NetworkConnection,
    PskAuthentication,
)

Path: TypeAlias = tuple[str | int, ...]
UNKNOWN_FIELD = "unexpected_keyword_argument"
_LATER_CONNECTIONS = ("gre",)
_TAGGED: dict[str, type] = {
    "l3": NetworkConnection,
    "ipsec": IpsecConnection,
    "psk": PskAuthentication,
    "certificate": CertificateAuthentication,
}
_NO_TRANSLATION = ("none", "TranslationMethodNone")
_NO_TRANSLATION_DETAIL = "encapsulation none (TranslationMethodNone) is not supported: write vxlan, nvgre or rewrite"
_SENTENCES = {
    "missing": "is missing",
    "dataclass_type": "must be an object, not {given}",
    "dict_type": "must be an object, not {given}",
    "tuple_type": "must be a list, not {given}",
    "string_type": "must be text, not {given}",
    "int_type": "must be an integer, not {given}",
    "bool_type": "must be true or false, not {given}",
    "too_long": "has more than {max_length} characters",
    "union_tag_not_found": "must be an object, not {given}",
    "literal_error": "{given} is not one of {expected}",
    "greater_than_equal": "{given} is below {ge}",
    "less_than_equal": "{given} is above {le}",
    "string_too_short": "must not be empty",
    "string_too_long": "has more than {max_length} characters",
    "string_pattern_mismatch": "contains control characters",
    "string_unicode": "contains characters that are not Unicode",
    "value_error": "{error}",
}


def path_of(error: ErrorDetails) -> Path:
    """Return the path of an error in the document: without the tags that stand for the type of an object."""
    return tuple(token for at, token in enumerate(error["loc"]) if not _is_tag(error["loc"], at))


def _is_tag(location: Path, at: int) -> bool:
    return "authentication" in location[:at][-1:] or "network_connections" in location[:at][-2:-1]


def faults(kind: type, errors: Iterable[ErrorDetails]) -> list[Fault]:
    """Give the faults that these errors of validating a document as `kind` stand for."""
    return [_fault(kind, error) for error in errors]


def _fault(kind: type, error: ErrorDetails) -> Fault:
    path = path_of(error)
    if error["type"] == UNKNOWN_FIELD:
        return Fault(pointer_to(path), _unknown(str(path[-1]), _kind_at(kind, error["loc"][:-1])))
    if error["type"] == "union_tag_invalid":
        return _unknown_type(path, error)
    if path[-1:] == ("encapsulation",) and error["input"] in _NO_TRANSLATION:
        return Fault(pointer_to(path), _NO_TRANSLATION_DETAIL)
    sentence = _SENTENCES.get(error["type"], error["msg"])
    given = _kind_of(error["input"]) if "authentication" in path else _shown(error["input"])
    return Fault(pointer_to(path), sentence.format(given=given, **error.get("ctx", {})))


def _unknown_type(path: Path, error: ErrorDetails) -> Fault:
    """Tell of an object whose type is none that is known: its other fields are no faults of their own."""
    field = "method" if path[-1] == "authentication" else "type"
    given, known = error["input"].get(field), error["ctx"]["expected_tags"]
    if field not in error["input"]:
        detail = f"is missing: it is one of {known}"
    elif given in _LATER_CONNECTIONS:
        detail = f"network connections of type {given} are not supported by this release"
    else:
        detail = f"{_kind_of(given) if field == 'method' else _shown(given)} is not one of {known}"
    return Fault(pointer_to((*path, field)), detail)


def _unknown(name: str, kind: type) -> str:
    known = [field.name for field in fields(kind)] if is_dataclass(kind) else []
    nearest = get_close_matches(name, known, n=1)
    return (
        f"is not a known field: did you mean {nearest[0]}?"
        if nearest
        else f"is not a known field: known are {', '.join(known)}"
    )


def _kind_at(kind: type, location: Path) -> type:
    """Return the type of the value at the location, tags included, of an error in a document of `kind`."""
    for at, token in enumerate(location):
        if _is_tag(location, at):
            kind = _TAGGED[str(token)]
        elif isinstance(token, str):
            kind = _element_kinds(kind)[token]
    return kind


@cache
def _element_kinds(kind: type) -> dict[str, type]:
    found = ((name, next(_objects(hint), None)) for name, hint in get_type_hints(kind).items())
    return {name: element for name, element in found if element}


def _objects(hint: Any) -> Iterator[type]:
    """Yield the types of objects that a field's type is made of."""
    if is_dataclass(hint):
        yield cast(type, hint)
    for part in get_args(hint):
        yield from _objects(part)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return _kind_of(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def _kind_of(value: Any) -> str:
    """Name what a value is, which tells nothing of a secret in it."""
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
