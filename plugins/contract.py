"""What an orchestrator's plug-in is: it translates one dialect into policy transactions, and knows nothing else.

A plug-in is found by an entry point of GROUP whose name administrators write into `plugins.enabled`, and whose
object is a `Plugin`. Exceptions that Transactions and gateway.policy raise may pass through its routes: the
application turns them into problem documents.
"""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from fastapi import APIRouter

from gateway.transactions import Transactions

GROUP = "tenant_gateway.orchestrators"


class Plugin(Protocol):
    """One dialect. `name` is also the owner of the routing domains that come in through it."""

    name: str

    def router(self, transactions: Transactions) -> APIRouter:
        """Return the routes of the dialect; the application guards them with the token and the body limit."""
        ...


class UnknownPluginError(Exception):
    """A name in `plugins.enabled` that no installed package provides."""


def load(names: Iterable[str]) -> list[Plugin]:
    """Return the plug-ins of these names, in this order. Errors: UnknownPluginError, which lists what is installed."""
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    return [_load(name, installed) for name in names]


def _load(name: str, installed: dict[str, EntryPoint]) -> Plugin:
    if name not in installed:
        known = ", ".join(sorted(installed)) or "none"
        raise UnknownPluginError(
            f"plugins.enabled names {name!r}, which is not installed (installed: {known}); "
            "correct the name, or install the package that provides it"
        )
    plugin: Plugin = installed[name].load()
    return plugin
