from collections.abc import Iterator
from pathlib import Path

import pytest
from live_gateway import LiveGateway, running_gateway


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[LiveGateway]:
    """Serve a gateway that holds no policy yet."""
    with running_gateway(tmp_path) as live:
        yield live
