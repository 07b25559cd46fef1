"""Runs all checks on what was read."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

from gateway.configuration import GatewayConfiguration, Port
from gateway.doctor.driver import examine_driver
from gateway.doctor.facts import Interface, Machine
from gateway.doctor.finding import Finding
from gateway.doctor.forwarding import examine_forwarding
from gateway.doctor.interface_facts import read_interfaces
from gateway.doctor.kernel import examine_kernel
from gateway.doctor.links import examine_link
from gateway.doctor.machine_facts import read_machine
from gateway.doctor.mtu import examine_mtu
from gateway.doctor.offloads import examine_offloads
from gateway.doctor.peers import examine_peer
from gateway.doctor.privileges import examine_privileges
from gateway.doctor.queues import examine_queues

VlansByPort = Mapping[str, Collection[int]]
_NONE: VlansByPort = MappingProxyType({})


def examine(configuration: GatewayConfiguration, connection_vlans: VlansByPort = _NONE) -> list[Finding]:
    """Examine the machine and each port's interface, in the network namespace of the calling thread.

    `connection_vlans` gives the VLANs, by port name, that the connections of the policy use.
    """
    machine = read_machine(configuration.datapath.pin_dir)
    return list(judge(configuration, connection_vlans, machine, read_interfaces()))


def judge(
    configuration: GatewayConfiguration,
    connection_vlans: VlansByPort,
    machine: Machine,
    interfaces: Mapping[str, Interface],
) -> Iterator[Finding]:
    """Judge what was read."""
    yield from examine_kernel(machine)
    yield from examine_privileges(machine)
    yield from examine_forwarding(machine)
    for name, ports in _ports_by_interface(configuration).items():
        interface = interfaces.get(name)
        if interface is None:
            yield _missing(name, ports)
            continue
        vlans = any(port.vlan or any(connection_vlans.get(port.name, ())) for port in ports)
        yield from examine_link(interface)
        yield from examine_driver(interface, configuration.datapath.pin_dir)
        yield from examine_offloads(interface, vlans)
        yield from examine_peer(interface, interfaces, vlans)
        yield from examine_queues(interface, interfaces, machine.cpus)
        yield from examine_mtu(interface, ports)


def _ports_by_interface(configuration: GatewayConfiguration) -> dict[str, list[Port]]:
    ports_of: dict[str, list[Port]] = {}
    for port in configuration.ports:
        ports_of.setdefault(port.interface, []).append(port)
    return ports_of


def _missing(name: str, ports: Sequence[Port]) -> Finding:
    named = ", ".join(port.name for port in ports)
    mend = "correct `interface` of the port; `ip -br link` lists what there is"
    return Finding(name, "link", "failed", f"port {named}: there is no such interface", mend)
