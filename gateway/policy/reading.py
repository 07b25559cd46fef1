"""JSON and YAML text to plain data: mappings, lists, strings, numbers, booleans and null, with nothing lost.

A mapping that gives a key twice becomes a `Repeated`, so that `repeated_keys` can name the place. YAML is read with its
JSON types (YAML 1.2, 10.2), not with those of YAML 1.1, in which the MAC 10:10:10:10:11:05 is a number. Aliases are
refused: a page of them can stand for terabytes.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from gateway.policy.faults import Fault, PolicyFaults, pointer_to

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)").fullmatch
_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+][0-9]+)?").fullmatch
_CONSTANTS = {"true": True, "false": False, "null": None, "~": None, "": None}
_TOO_DEEP = "is nested too deeply to be a policy"


class Repeated(dict[str, Any]):
    """A mapping that was written with some of its keys more than once; the last value of each is kept."""

    keys_given_again: tuple[str, ...]


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    repeated = Repeated(plain)
    times = Counter(key for key, _ in pairs)
    repeated.keys_given_again = tuple(key for key in plain if times[key] > 1)
    return repeated


def repeated_keys(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[Fault]:
    """Find every key that is given more than once in the same mapping."""
    if isinstance(document, Repeated):
        for key in document.keys_given_again:
            yield Fault(pointer_to((*path, key)), f"the key {key!r} is given more than once")
    if isinstance(document, dict):
        for key, value in document.items():
            if isinstance(value, dict | list):
                yield from repeated_keys(value, (*path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            if isinstance(value, dict | list):
                yield from repeated_keys(value, (*path, index))


def _refuse(detail: str) -> NoReturn:
    raise PolicyFaults([Fault("", detail)])


def read_json(data: bytes) -> Any:
    """Read the plain data of a JSON text. Raises PolicyFaults with line and column."""
    try:
        return json.loads(data, object_pairs_hook=_mapping, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        _refuse(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        _refuse(f"is not JSON: the text is not UTF-8 at line {line}, byte {error.start}")
    except RecursionError:
        _refuse(_TOO_DEEP)
    except ValueError as error:  # an integer of thousands of digits
        _refuse(f"is not a policy: {error}")


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"is not JSON: {name} is not a JSON number")


def read_yaml(data: bytes) -> Any:
    """Read the plain data of a YAML text of one document. Raises PolicyFaults with line and column."""
    loader = yaml.CSafeLoader(data)
    try:
        return _document(loader)
    except yaml.MarkedYAMLError as error:
        _refuse(f"is not YAML: {error.problem or error.context}{_place(error.problem_mark or error.context_mark)}")
    except yaml.reader.ReaderError as error:
        _refuse(f"is not YAML: {error.reason} at byte {error.position}")
    except RecursionError:
        _refuse(_TOO_DEEP)
    except ValueError as error:  # an integer of thousands of digits
        _refuse(f"is not a policy: {error}")
    finally:
        loader.dispose()


def _place(mark: Any) -> str:
    return f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _next(loader: yaml.CSafeLoader) -> Any:
    return loader.get_event()


def _document(loader: yaml.CSafeLoader) -> Any:
    _next(loader)  # start of the stream
    if isinstance(_next(loader), yaml.StreamEndEvent):
        return None
    document = _node(loader, _next(loader))
    _next(loader)  # end of the document
    following = _next(loader)
    if not isinstance(following, yaml.StreamEndEvent):
        _refuse(f"holds more than one YAML document{_place(following.start_mark)}")
    return document


def _node(loader: yaml.CSafeLoader, event: Any) -> Any:
    """Read the value that begins with this event; the loader is left behind its end."""
    if isinstance(event, yaml.ScalarEvent) and event.tag is None:
        return _scalar(event.value) if event.implicit[0] else event.value
    if isinstance(event, yaml.MappingStartEvent) and event.tag is None:
        return _mapping(list(_pairs(loader)))
    if isinstance(event, yaml.SequenceStartEvent) and event.tag is None:
        return list(_elements(loader))
    kind = "an alias" if isinstance(event, yaml.AliasEvent) else "a tag"
    _refuse(f"uses {kind}, which a policy may not{_place(event.start_mark)}")


def _elements(loader: yaml.CSafeLoader) -> Iterator[Any]:
    while not isinstance(event := _next(loader), yaml.SequenceEndEvent):
        yield _node(loader, event)


def _pairs(loader: yaml.CSafeLoader) -> Iterator[tuple[str, Any]]:
    while not isinstance(event := _next(loader), yaml.MappingEndEvent):
        if not isinstance(event, yaml.ScalarEvent):
            _refuse(f"has a key that is not a plain word{_place(event.start_mark)}")
        yield event.value, _node(loader, _next(loader))


def _scalar(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER(text):
        return int(text)
    return float(text) if _FRACTION(text) else text
