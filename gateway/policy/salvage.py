"""What can still be checked of a document of which some parts could not be read: the document without these parts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gateway.policy.faults import Fault, pointer_to

Path = tuple[str | int, ...]
_REFERRED_TO_BY_NONE = (
    "access_control_lists",
    "inbound_nat_rules",
    "network_connections",
    "outbound_nat",
    "public_addresses",
    "rules",
)


@dataclass(frozen=True, slots=True)
class Rest:
    """A document without its unreadable parts.

    `kept`: original indices of the elements that are left, of each list that lost some; `incomplete`: paths of the
    domains that lost something that others may refer to.
    """

    document: Any
    kept: dict[Path, list[int]]
    incomplete: frozenset[Path]

    def in_the_original(self, faults: Iterable[Fault]) -> Iterator[Fault]:
        """Give these faults of the rest as faults of the whole, without those that the unread parts may explain."""
        for fault in faults:
            path = self._original_path(fault.pointer)
            if not (fault.absence and any(path[: len(domain)] == domain for domain in self.incomplete)):
                yield Fault(pointer_to(path), fault.detail)

    def _original_path(self, pointer: str) -> Path:
        path: Path = ()
        for token in pointer.split("/")[1:]:
            kept = self.kept.get(path)
            path = (*path, (kept[int(token)] if kept else int(token)) if token.isdecimal() else token)
        return path


def without_errors(document: Any, unreadable: Iterable[Path], unknown: Iterable[Path]) -> Rest:
    """Take the unknown fields and the smallest unreadable parts out of the document, which is changed in place."""
    fields = {(path[:-1], path[-1]) for path in unknown}
    elements: dict[Path, set[int]] = {}
    incomplete = set()
    for path in unreadable:
        domain = path[:2] if len(path) > 1 and path[0] == "routing_domains" else ()
        container, token = _smallest_part(path, domain)
        if not isinstance(token, int) or container[-1] not in _REFERRED_TO_BY_NONE:
            incomplete.add(domain)
        if isinstance(token, int):
            elements.setdefault(container, set()).add(token)
        else:
            fields.add((container, token))
    lists = {path: _at(document, path) for path in elements}
    for path, name in fields:
        _remove_field(_at(document, path), path, str(name))
    kept = {path: [at for at in range(len(lists[path])) if at not in elements[path]] for path in lists}
    for path, indices in kept.items():
        lists[path][:] = [lists[path][at] for at in indices]
    return Rest(document, kept, frozenset(incomplete))


def _smallest_part(path: Path, domain: Path) -> tuple[Path, str | int]:
    """Return container and token of the domain's innermost list element, else of its field, else of the domain."""
    elements = [at for at, token in enumerate(path) if isinstance(token, int) and at >= len(domain)]
    at = elements[-1] if elements else min(len(domain), len(path) - 1)
    return path[:at], path[at]


def _at(document: Any, path: Path) -> Any:
    for token in path:
        document = document[token]
    return document


def _remove_field(container: dict[str, Any], path: Path, name: str) -> None:
    """Take a field away; in place of a domain's unreadable identity stands one that meets no other."""
    container.pop(name, None)
    if name in ("id", "name") and (path == () or path[0] == "routing_domains"):
        container[name] = f"ffffffff-ffff-ffff-ffff-{path[-1] if path else 0:012}"
