"""Policy documents: JSON or YAML text to the model and back.

Parsing raises PolicyFaults with all the faults of a document at once. A `check` that is passed in adds its own (see
`validation.faults`), also for what could be read of a document of which some could not. Secrets are written as `***`;
the store passes in what seals them and what unseals them again.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from gateway.policy import complaints, salvage
from gateway.policy.faults import Fault, PolicyFaults
from gateway.policy.model import LookupRecord, Policy, RoutingDomain
from gateway.policy.reading import read_json, read_yaml, repeated_keys

_MOST_READ = 10_000  # errors that are put into words; a document with more is wrong throughout
Kind = TypeVar("Kind", Policy, RoutingDomain, LookupRecord)
Check = Callable[[Kind], Iterable[Fault]]


_ADAPTERS: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (Policy, RoutingDomain, LookupRecord)}


def parse_json(data: bytes, check: Check[Policy] | None = None) -> Policy:
    """Parse a policy in JSON. Raises PolicyFaults with pointers into it."""
    return _parse(Policy, read_json(data), check)


def parse_yaml(data: bytes, check: Check[Policy] | None = None) -> Policy:
    """Parse a policy in YAML. Raises PolicyFaults with pointers into it."""
    return _parse(Policy, read_yaml(data), check)


def parse_domain_json(
    data: bytes, check: Check[RoutingDomain] | None = None, unseal: Callable[[str], str] | None = None
) -> RoutingDomain:
    """Parse a single routing domain. Raises PolicyFaults with pointers relative to it."""
    return _parse(RoutingDomain, read_json(data), check, {"unseal": unseal} if unseal else None)


def parse_record_json(data: bytes, check: Check[LookupRecord] | None = None) -> LookupRecord:
    """Parse a single lookup record. Raises PolicyFaults with pointers relative to it."""
    return _parse(LookupRecord, read_json(data), check)


def _parse(kind: type[Kind], document: Any, check: Check[Kind] | None, context: dict[str, Any] | None = None) -> Kind:
    found = list(repeated_keys(document))
    unread = 0
    try:
        parsed: Kind = _ADAPTERS[kind].validate_python(document, context=context)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        unread = max(0, len(errors) - _MOST_READ)
        found += complaints.faults(kind, errors[:_MOST_READ])
        found += _faults_of_the_rest(kind, document, errors, check) if check and not unread else ()
    else:
        found += check(parsed) if check else ()
    if found:
        raise PolicyFaults(found, unread)
    return parsed


def _faults_of_the_rest(
    kind: type[Kind], document: Any, errors: list[ErrorDetails], check: Check[Kind]
) -> Iterable[Fault]:
    """Tell what `check` finds in the document without the parts that these errors are in."""
    if not isinstance(document, dict):
        return []
    unknown = {complaints.path_of(error) for error in errors if error["type"] == complaints.UNKNOWN_FIELD}
    rest = salvage.without_errors(document, {complaints.path_of(error) for error in errors} - unknown, unknown)
    try:
        parsed = _ADAPTERS[kind].validate_python(rest.document)
    except ValidationError:
        return []
    return rest.in_the_original(check(parsed))


def to_json(value: Policy | RoutingDomain | LookupRecord, seal: Callable[[str], str] | None = None) -> bytes:
    """Return the JSON text of a policy, a domain or a record, without fields that have their default."""
    context = {"seal": seal} if seal else None
    return _ADAPTERS[type(value)].dump_json(value, exclude_defaults=True, context=context)


def to_yaml(policy: Policy) -> str:
    """Return the YAML text of a policy, without fields that have their default."""
    plain = _ADAPTERS[Policy].dump_python(policy, mode="json", exclude_defaults=True)
    text: str = yaml.dump(
        plain, Dumper=yaml.CSafeDumper, default_flow_style=None, sort_keys=False, allow_unicode=True, width=160
    )
    return text
