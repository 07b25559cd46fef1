"""What the tests of the endpoints stand on."""

import os
from collections.abc import Iterator

import pytest
import vpn_rig


@pytest.fixture
def rig() -> Iterator[vpn_rig.Rig]:
    if os.geteuid():
        pytest.skip("network namespaces need root")
    with vpn_rig.rig() as built:
        yield built
