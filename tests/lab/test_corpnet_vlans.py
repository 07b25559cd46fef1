"""Two CorpNets of equal addresses on two VLANs of the gateway's only network card."""

import pytest

from deploy.lab import probes
from deploy.lab.running import RunningLab


@pytest.mark.parametrize("address", ["157.1.0.10", "fd00:157::10"])
def test_each_tenant_reaches_the_corpnet_of_its_own_vlan(corpnet_vlans: RunningLab, address: str) -> None:
    assert probes.page(corpnet_vlans, "BlueVM1", address) == "blue blue-corpnet"
    assert probes.page(corpnet_vlans, "RedVM1", address) == "red red-corpnet"


@pytest.mark.parametrize("address", ["10.1.1.11", "fd00:1::11"])
def test_each_corpnet_reaches_its_own_tenant(corpnet_vlans: RunningLab, address: str) -> None:
    assert probes.page(corpnet_vlans, "blue-corpnet", address) == "blue BlueVM1"
    assert probes.page(corpnet_vlans, "red-corpnet", address) == "red RedVM1"


def test_tcp_runs_over_a_tagged_card(corpnet_vlans: RunningLab) -> None:
    assert probes.throughput(corpnet_vlans, "BlueVM1", "157.1.0.10") > 10
