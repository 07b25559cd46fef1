"""Connections for the tests of the endpoints."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.policy.model import ConnectionRoute, IpsecConnection, PskAuthentication, TrafficSelectors
from gateway.policy.secret import Secret

PLAIN = IpsecConnection(
    name="head quarters",
    local_address="198.51.100.10",
    remote_address="203.0.113.20",
    local_id="red.gateway.example",
    authentication=PskAuthentication(secret=Secret("correct-horse")),
    traffic_selectors=TrafficSelectors(("10.1.1.0/24",), ("10.2.0.0/24",)),
    routes=(ConnectionRoute("10.2.0.0/24"),),
)


@pytest.fixture
def connection() -> Callable[..., IpsecConnection]:
    """A connection, but for what is named."""

    def changed(**changes: Any) -> IpsecConnection:
        return replace(PLAIN, **changes)

    return changed
