"""One routing domain and CorpNet: with two network cards, with one, and in the corporation's own address plan."""

from collections.abc import Iterator

import pytest

from deploy.lab import probes
from deploy.lab.running import RunningLab

MEGABYTE = 1 << 20


def corpnet_address(lab: RunningLab) -> str:
    return lab.topology.sites[0].addresses[0].partition("/")[0]


def overlay_mtu(lab: RunningLab, encapsulation: str) -> int:
    """Outer IPv4, UDP and VXLAN or GRE with key, inner Ethernet (RFC 7348, RFC 7637)."""
    return min(1500, lab.topology.provider_mtu - {"vxlan": 50, "nvgre": 42}[encapsulation])


@pytest.fixture(scope="module")
def big_page(private_cloud: RunningLab) -> Iterator[int]:
    for node in (*private_cloud.topology.machines, *private_cloud.topology.sites):
        (private_cloud.directory / "pages" / node.name / "big").write_text("x" * MEGABYTE)
    yield MEGABYTE


def test_every_machine_and_corpnet_reach_each_other(private_cloud: RunningLab) -> None:
    corpnet = corpnet_address(private_cloud)
    for machine in private_cloud.topology.machines:
        assert probes.page(private_cloud, machine.name, corpnet) == "private-cloud corpnet"
        assert probes.page(private_cloud, "corpnet", machine.address) == f"private-cloud {machine.name}"


def test_machines_reach_each_other_across_virtual_subnets(private_cloud: RunningLab) -> None:
    machines = private_cloud.topology.machines
    for source in machines:
        for target in machines:
            if source is not target:
                assert probes.page(private_cloud, source.name, target.address) == f"private-cloud {target.name}"


def test_the_gateway_is_one_hop_on_the_way_to_corpnet_and_back(private_cloud: RunningLab) -> None:
    corpnet = corpnet_address(private_cloud)
    local_address = private_cloud.topology.sites[0].routes[0][1]
    machine = private_cloud.topology.machines[0]
    assert probes.routers(private_cloud, machine.name, corpnet) == (machine.routers[0], corpnet)
    assert probes.routers(private_cloud, "corpnet", machine.address) == (local_address, machine.address)


def test_the_gateway_tells_corpnet_the_path_mtu_of_each_encapsulation(private_cloud: RunningLab) -> None:
    for machine in private_cloud.topology.machines:
        found = probes.path(private_cloud, "corpnet", machine.address)
        assert found.arrived
        assert found.mtu == overlay_mtu(private_cloud, machine.encapsulation)


def test_a_megabyte_crosses_at_once_both_ways(private_cloud: RunningLab, big_page: int) -> None:
    """Machines have an MTU of 1500: without MSS clamping the first full segment would be lost."""
    corpnet = corpnet_address(private_cloud)
    for machine in private_cloud.topology.machines:
        for node, address in ((machine.name, corpnet), ("corpnet", machine.address)):
            text = probes.page(private_cloud, node, address, path="big", seconds=3)
            assert text is not None
            assert len(text) == big_page


def test_a_corpnet_route_through_a_next_hop_is_followed(private_cloud: RunningLab) -> None:
    if "198.18.0.1/32" not in private_cloud.topology.sites[0].addresses:
        pytest.skip("this figure has no network behind CorpNet")
    assert probes.pings(private_cloud, "Purple", "198.18.0.1")
