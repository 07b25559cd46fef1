"""Hypervisors that are not our code: the kernel's VXLAN device, and Open vSwitch in user space for NVGRE.

A host sends to the other virtual machines of a virtual subnet directly and all else, broadcasts too, to the gateway.
"""

from pathlib import Path

from deploy.lab import namespaces
from deploy.lab.namespaces import configure, execute
from deploy.lab.openvswitch import Switch
from deploy.lab.processes import Processes
from deploy.lab.topology import Host, Lab, Machine

UPLINK = "uplink"


def build(lab: Lab, host: Host, namespace: str, processes: Processes, directory: Path) -> None:
    """Needs the uplink and the virtual machines' interfaces (named like the machines) in the host's namespace."""
    vsids = {machine.vsid: machine.encapsulation for machine in host.machines}
    switch = None
    if "nvgre" in vsids.values():
        switch = Switch(host.name, namespace, directory / host.name, processes)
        switch.start()
        switch.take_uplink(UPLINK, host.address, lab.provider_mtu)
    else:
        configure(namespace, [f"addr add {host.address} dev {UPLINK}"])
    configure(namespace, [f"route add default via {host.router}"])
    execute(namespaces.enter(namespace, "ping", "-c1", "-W5", "-q", lab.gateway_provider_address))
    if switch:
        switch.build_overlay(lab, host)
    for vsid, encapsulation in vsids.items():
        if encapsulation == "vxlan":
            _build_vxlan(lab, host, namespace, vsid)


def _build_vxlan(lab: Lab, host: Host, namespace: str, vsid: int) -> None:
    """Make the device without a lower link, with a full MTU: then it answers itself where its provider has no room."""
    bridge, device = f"br{vsid}", f"vx{vsid}"
    local = [machine for machine in host.machines if machine.vsid == vsid]
    configure(
        namespace,
        [
            f"link add {bridge} mtu 1500 type bridge mcast_snooping 0",
            f"link add {device} mtu 1500 type vxlan id {vsid} local {host.provider_address} dstport 4789 nolearning",
            f"link set {device} master {bridge} up",
            *(f"link set {machine.name} master {bridge}" for machine in local),
            f"link set {bridge} up",
        ],
    )
    entries = [f"fdb append 00:00:00:00:00:00 dev {device} dst {lab.gateway_provider_address}"]
    entries += [f"fdb add {m.mac} dev {device} dst {m.provider_address}" for m in peers(lab, host, vsid)]
    execute(namespaces.enter(namespace, "bridge", "-batch", "-"), text="\n".join(entries))


def peers(lab: Lab, host: Host, vsid: int) -> list[Machine]:
    """Return the virtual machines of a virtual subnet that live on other hosts."""
    return [m for m in lab.machines if m.vsid == vsid and m.provider_address != host.provider_address]
