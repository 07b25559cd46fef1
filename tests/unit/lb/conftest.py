"""What the tests of load balancing stand on."""

import asyncio
from collections.abc import Callable

import pytest
from balancing_servers import own_socket

from gateway.policy.balancing import Probe
from lb.health import Outcome
from lb.probes import probed


@pytest.fixture
def probe() -> Callable[..., Outcome]:
    """Probe a port of loopback once, in a loop that does nothing else unless `meanwhile` does."""

    def run(
        port: int,
        protocol: str = "http",
        address: str = "127.0.0.1",
        source: str | None = None,
        meanwhile: Callable[[], None] = lambda: None,
        **options: object,
    ) -> Outcome:
        wanted = Probe(name="p", protocol=protocol, port=port, **({"timeout_s": 1} | options))
        source = source or ("::1" if ":" in address else "127.0.0.2")

        async def probing() -> Outcome:
            task = asyncio.create_task(probed(wanted, address, "", source, own_socket))
            asyncio.get_running_loop().call_later(0.1, meanwhile)
            return await task

        return asyncio.run(probing())

    return run
