from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from live_gateway import LiveGateway, running_gateway

# How long an example takes says more of what else this machine does.
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[LiveGateway]:
    """Serve a gateway that holds no policy yet."""
    with running_gateway(tmp_path) as live:
        yield live
