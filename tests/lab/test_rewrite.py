"""A host that rewrites addresses in place of a tunnel: provider addresses outside, customer addresses at both ends."""

from deploy.lab import probes
from deploy.lab.recording import recorded
from deploy.lab.running import RunningLab

VM, SERVER = "10.1.1.11", "10.1.1.99"


def test_the_machine_and_corpnet_reach_each_other_by_their_customer_addresses(rewrite: RunningLab) -> None:
    assert probes.page(rewrite, "VM1", SERVER) == "tenant corpnet"
    assert probes.page(rewrite, "corpnet", VM) == "tenant VM1"
    assert probes.pings(rewrite, "VM1", SERVER)
    assert probes.pings(rewrite, "corpnet", VM)


def test_packets_of_full_size_need_no_room_for_a_tunnel(rewrite: RunningLab) -> None:
    assert probes.pings(rewrite, "VM1", SERVER, payload=1472, fragment=False)


def test_on_the_wire_there_are_provider_addresses_alone(rewrite: RunningLab) -> None:
    with recorded(rewrite, "host1", "uplink") as provider, recorded(rewrite, "corpnet") as corpnet:
        assert probes.pings(rewrite, "VM1", SERVER)
    assert provider.packets("icmp and host 192.168.1.10 and host 192.168.6.2")
    assert provider.packets(f"host {VM} or host {SERVER}") == []
    assert corpnet.packets(f"icmp and host {VM} and host {SERVER}")


def test_tcp_runs_both_ways(rewrite: RunningLab) -> None:
    assert probes.throughput(rewrite, "VM1", SERVER) > 10
    assert probes.throughput(rewrite, "corpnet", VM) > 10
