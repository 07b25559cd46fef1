"""Labs for the scenarios: one of each kind for the tests of a module."""

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from deploy.lab import main
from deploy.lab.running import RunningLab


@contextmanager
def running_lab(name: str) -> Iterator[RunningLab]:
    if os.geteuid():
        pytest.skip("labs need root for their network namespaces")
    lab = main.up(name)
    try:
        yield lab
    finally:
        main.down(name)


def _fixture(name: str) -> Callable[[], Iterator[RunningLab]]:
    def lab() -> Iterator[RunningLab]:
        with running_lab(name) as running:
            yield running

    return pytest.fixture(scope="module", name=name.replace("-", "_"))(lab)


blue_red = _fixture("blue-red")
contoso_fabrikam = _fixture("contoso-fabrikam")
two_networks_one_owner = _fixture("two-networks-one-owner")
complex_routing = _fixture("complex-routing")
corpnet_vlans = _fixture("corpnet-vlans")
rewrite = _fixture("rewrite")
ipv6_provider = _fixture("ipv6-provider")
load_balancer = _fixture("load-balancer")
hybrid_cloud = _fixture("hybrid-cloud")


@pytest.fixture(scope="module", params=["private-cloud", "private-cloud-one-nic", "private-cloud-figure1"])
def private_cloud(request: pytest.FixtureRequest) -> Iterator[RunningLab]:
    with running_lab(request.param) as running:
        yield running


@pytest.fixture(scope="module", params=["corpnet-vlans", "provider-vlan"])
def vlans(request: pytest.FixtureRequest) -> Iterator[RunningLab]:
    add = "ip link add eth0 type veth && ip link add link eth0 name eth0.1 type vlan id 1"
    added = subprocess.run(["unshare", "--net", "sh", "-c", add], capture_output=True, check=False)
    if request.param == "provider-vlan" and added.returncode:
        pytest.skip("this kernel has no 802.1Q devices, which Linux needs for routes to a provider VLAN")
    with running_lab(request.param) as running:
        yield running


@pytest.fixture
def at_once() -> Iterator[Callable[..., list[object]]]:
    """Call functions of no arguments at the same time; their results in order."""
    with ThreadPoolExecutor() as pool:

        def call(*functions: Callable[[], object]) -> list[object]:
            return [future.result() for future in [pool.submit(function) for function in functions]]

        yield call
