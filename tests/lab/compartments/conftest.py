"""What the tests of compartments stand on."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from compartment_rig import GATEWAY, NAME, ROUTER_MAC, VPN, reconcile

from gateway.compartments.compartments import Compartments
from gateway.compartments.specification import Compartment


@pytest.fixture
def compartments() -> Iterator[Compartments]:
    """A gateway's compartments, none yet, with a network namespace of its own."""
    if os.geteuid():
        pytest.skip("network namespaces need root")
    name = Path(GATEWAY).name
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield Compartments(NAME, ROUTER_MAC)
        reconcile(Compartments(NAME, ROUTER_MAC))
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture
def compartment(compartments: Compartments) -> Compartment:
    """One with both legs."""
    made = reconcile(compartments, VPN)
    assert compartments.faults == {}
    return made[VPN.routing_domain]
