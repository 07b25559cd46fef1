"""What the model's validation says of a document, in the words of the document."""

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, get_args, get_type_hints

from pydantic_core import ErrorDetails

from gateway.policy.faults import Fault, pointer_to

UNKNOWN_FIELD = "unexpected_keyword_argument"
_LATER_CONNECTIONS = ("gre",)
_NO_TRANSLATION = ("none", "TranslationMethodNone")
_NO_TRANSLATION_DETAIL = "encapsulation none (TranslationMethodNone) is not supported: write vxlan, nvgre or rewrite"
_SENTENCES = {
    "missing": "is missing",
    "dataclass_type": "must be an object, not {given}",
    "dict_type": "must be an object, not {given}",
    "tuple_type": "must be a list, not {given}",
    "string_type": "must be text, not {given}",
    "int_type": "must be an integer, not {given}",
    "literal_error": "{given} is not one of {expected}",
    "greater_than_equal": "{given} is below {ge}",
    "less_than_equal": "{given} is above {le}",
    "string_too_short": "must not be empty",
    "string_too_long": "has more than {max_length} characters",
    "string_pattern_mismatch": "contains control characters",
    "string_unicode": "contains characters that are not Unicode",
    "value_error": "{error}",
}


def faults(kind: type, document: Any, errors: Sequence[ErrorDetails]) -> list[Fault]:
    """Give the faults that these errors of validating `document` as `kind` stand for."""
    later = _connections_of_later(document, errors)
    found = [_fault(kind, error) for error in errors if not any(error["loc"][: len(path)] == path for path in later)]
    return found + [
        Fault(pointer_to((*path, "type")), f"network connections of type {name} are not supported by this release")
        for path, name in later.items()
    ]


def _connections_of_later(document: Any, errors: Sequence[ErrorDetails]) -> dict[tuple[str | int, ...], str]:
    """Paths of the connections whose type is known by name only: their other fields are no faults of their own."""
    return {
        error["loc"][:-1]: error["input"]
        for error in errors
        if error["loc"][-3::2] == ("network_connections", "type") and error["input"] in _LATER_CONNECTIONS
    }


def _fault(kind: type, error: ErrorDetails) -> Fault:
    path = error["loc"]
    pointer = pointer_to(path)
    if error["type"] == UNKNOWN_FIELD:
        name = str(path[-1])
        return Fault(pointer, _unknown(name, _kind_at(kind, path[:-1])))
    if path[-1:] == ("encapsulation",) and error["input"] in _NO_TRANSLATION:
        return Fault(pointer, _NO_TRANSLATION_DETAIL)
    sentence = _SENTENCES.get(error["type"], error["msg"])
    return Fault(pointer, sentence.format(given=_shown(error["input"]), **error.get("ctx", {})))


def _unknown(name: str, kind: type) -> str:
    known = [field.name for field in fields(kind)] if is_dataclass(kind) else []
    nearest = get_close_matches(name, known, n=1)
    return (
        f"is not a known field: did you mean {nearest[0]}?"
        if nearest
        else f"is not a known field: known are {', '.join(known)}"
    )


def _kind_at(kind: type, path: Sequence[str | int]) -> type:
    """Return the type of the value at this path of a document of `kind`."""
    for token in path:
        if isinstance(token, str):
            kind = _element_kinds(kind)[token]
    return kind


@cache
def _element_kinds(kind: type) -> dict[str, type]:
    return {name: get_args(hint)[0] for name, hint in get_type_hints(kind).items() if get_args(hint)}


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
