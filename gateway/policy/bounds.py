"""The bounds that the model declares for numbers and names: pointers are relative to what is asked about."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from gateway.policy.faults import Fault
from gateway.policy.fields import OneOf, Within


def bound_faults(value: Any, at: str) -> Iterator[Fault]:
    """Find what is out of bounds in an object of the model and in the objects that it is made of."""
    kind: type = type(value)
    bounds = _bounds(kind)
    for field in fields(value):
        given, pointer = getattr(value, field.name), f"{at}/{field.name}"
        if is_dataclass(given):
            yield from bound_faults(given, pointer)
        elif isinstance(given, tuple):
            for number, element in enumerate(given):
                if is_dataclass(element):
                    yield from bound_faults(element, f"{pointer}/{number}")
        elif field.name in bounds and given is not None and (detail := _outside(bounds[field.name], given)):
            yield Fault(pointer, detail)


def _outside(bound: Within | OneOf, given: Any) -> str | None:
    if isinstance(bound, Within):
        inside = bound.low <= given <= bound.high
        return None if inside else f"{given} is out of bounds: they are {bound.low} and {bound.high}"
    if given in bound.known:
        return None
    why = dict(bound.refused).get(given, f"{given!r} is not known")
    return f"{why}: write one of {', '.join(bound.known)}"


@cache
def _bounds(kind: type) -> dict[str, Within | OneOf]:
    hints = get_type_hints(kind, include_extras=True)
    found = ((name, next(_bounds_in(hint), None)) for name, hint in hints.items())
    return {name: bound for name, bound in found if bound}


def _bounds_in(hint: Any) -> Iterator[Within | OneOf]:
    for part in (*getattr(hint, "__metadata__", ()), *get_args(hint)):
        if isinstance(part, Within | OneOf):
            yield part
        else:
            yield from _bounds_in(part)
