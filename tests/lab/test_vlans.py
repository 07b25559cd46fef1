"""Two CorpNets of equal addresses on two VLANs of the gateway's only network card; the provider network on a third."""

import pytest

from deploy.lab import probes
from deploy.lab.recording import recorded
from deploy.lab.running import RunningLab

SECONDS = 30  # an emulated machine takes its time


@pytest.mark.parametrize("address", ["157.1.0.10", "fd00:157::10"])
def test_each_tenant_reaches_the_corpnet_of_its_own_vlan(vlans: RunningLab, address: str) -> None:
    assert probes.page(vlans, "BlueVM1", address, seconds=SECONDS) == "blue blue-corpnet"
    assert probes.page(vlans, "RedVM1", address, seconds=SECONDS) == "red red-corpnet"


@pytest.mark.parametrize("address", ["10.1.1.11", "fd00:1::11"])
def test_each_corpnet_reaches_its_own_tenant(vlans: RunningLab, address: str) -> None:
    assert probes.page(vlans, "blue-corpnet", address, seconds=SECONDS) == "blue BlueVM1"
    assert probes.page(vlans, "red-corpnet", address, seconds=SECONDS) == "red RedVM1"


def test_each_frame_has_the_tag_of_its_network(vlans: RunningLab) -> None:
    with recorded(vlans, "trunk", "gateway") as seen:
        assert probes.pings(vlans, "BlueVM1", "157.1.0.10")
        assert probes.pings(vlans, "RedVM1", "157.1.0.10")
    provider, tunnels = vlans.topology.provider_vlan, ("udp port 4789", "proto 47")
    assert all(bool(seen.packets(f"vlan {provider or 10} and {tunnel}")) == bool(provider) for tunnel in tunnels)
    assert all(bool(seen.packets(tunnel)) == (not provider) for tunnel in tunnels)
    assert seen.packets("vlan 20 and icmp") and seen.packets("vlan 30 and icmp")
    assert seen.packets("icmp") == []


def test_tcp_runs_over_a_tagged_card(vlans: RunningLab) -> None:
    assert probes.throughput(vlans, "BlueVM1", "157.1.0.10") > 10
