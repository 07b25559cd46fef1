import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Run a gateway that holds no policy yet."""
    if os.geteuid():
        pytest.skip("namespaces and the datapath need root")
    made = Rig(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.remove()
