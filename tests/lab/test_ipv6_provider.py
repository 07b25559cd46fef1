"""A provider network of IPv6 alone carries IPv4 and IPv6 in both encapsulations."""

import pytest

from deploy.lab import probes
from deploy.lab.running import RunningLab


@pytest.mark.parametrize("address", ["10.1.6.21", "fd00:6::21"])
def test_vxlan_to_nvgre_over_ipv6(ipv6_provider: RunningLab, address: str) -> None:
    assert probes.page(ipv6_provider, "V1", address) == "tenant N6"


@pytest.mark.parametrize("address", ["10.1.1.11", "fd00:1::11"])
def test_nvgre_to_vxlan_over_ipv6(ipv6_provider: RunningLab, address: str) -> None:
    assert probes.page(ipv6_provider, "N6", address) == "tenant V1"


@pytest.mark.parametrize("node", ["V1", "N6"])
@pytest.mark.parametrize("address", ["157.1.0.10", "fd00:157::10"])
def test_corpnet_is_reached_over_ipv6(ipv6_provider: RunningLab, node: str, address: str) -> None:
    assert probes.page(ipv6_provider, node, address) == "tenant corpnet"


@pytest.mark.parametrize(("address", "name"), [("10.1.1.11", "V1"), ("fd00:6::21", "N6")])
def test_corpnet_reaches_machines_over_ipv6(ipv6_provider: RunningLab, address: str, name: str) -> None:
    assert probes.page(ipv6_provider, "corpnet", address) == f"tenant {name}"
