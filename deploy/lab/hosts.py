"""Hypervisors that are not our code: the kernel's VXLAN, Open vSwitch in user space for NVGRE, nftables for rewriting.

A host sends to the other virtual machines of a virtual subnet directly and all else, broadcasts too, to the gateway.
"""

from deploy.lab import namespaces
from deploy.lab.openvswitch import Switch
from deploy.lab.running import RunningLab
from deploy.lab.topology import Host, Lab, Machine

UPLINK = "uplink"
VXLAN_OPTIONS = "dstport 4789 nolearning udp6zerocsumrx udp6zerocsumtx"


def build(lab: RunningLab, host: Host) -> None:
    """Needs the uplink and the virtual machines' interfaces (named like the machines) on the host's node."""
    vsids = {machine.vsid: machine.encapsulation for machine in host.machines}
    switch = None
    if "nvgre" in vsids.values():
        switch = Switch(lab, host.name)
        switch.start()
        switch.take_uplink(UPLINK, host.address, lab.topology.provider_mtu)
    else:
        lab.configure(host.name, f"addr add {host.address} dev {UPLINK}")
    lab.configure(host.name, f"route add default via {host.router}")
    lab.run(host.name, "ping", "-c1", "-W5", "-q", lab.topology.gateway_provider_address)
    if switch:
        switch.build_overlay(host)
    for vsid, encapsulation in vsids.items():
        if encapsulation == "vxlan":
            _build_vxlan(lab, host, vsid)
    for machine in host.machines:
        if machine.encapsulation == "rewrite":
            _build_rewriting(lab, host, machine)


def _build_vxlan(lab: RunningLab, host: Host, vsid: int) -> None:
    """Join the virtual machines to a device of their virtual subnet, by a bridge that has no addresses of its own.

    The device has no lower link and a full MTU: then it tells the machines itself where the provider has no room.
    """
    bridge, device = f"br{vsid}", f"vx{vsid}"
    local = [machine for machine in host.machines if machine.vsid == vsid]
    lab.configure(
        host.name,
        f"link add {bridge} mtu 1500 type bridge mcast_snooping 0",
        f"link add {device} mtu 1500 type vxlan id {vsid} local {host.provider_address} {VXLAN_OPTIONS}",
        *(f"link set {name} addrgenmode none" for name in (bridge, device)),
        f"link set {device} master {bridge} up",
        *(f"link set {machine.name} master {bridge}" for machine in local),
        f"link set {bridge} up",
    )
    entries = [f"fdb append 00:00:00:00:00:00 dev {device} dst {lab.topology.gateway_provider_address}"]
    entries += [f"fdb add {m.mac} dev {device} dst {m.provider_address}" for m in _peers(lab.topology, host, vsid)]
    lab.run(host.name, "bridge", "-batch", "-", text="\n".join(entries))


def _build_rewriting(lab: RunningLab, host: Host, machine: Machine) -> None:
    """Route, with the destination exchanged before and the source after, and answer ARP for the rest of the subnet."""
    behind = ", ".join(f"{customer} : {provider}" for customer, provider in lab.topology.lent_addresses.items())
    senders = ", ".join(f"{provider} : {customer}" for customer, provider in lab.topology.lent_addresses.items())
    rules = f"""
table ip rewriting {{
  chain before {{
    type filter hook prerouting priority raw
    iifname {machine.name} ip daddr set ip daddr map {{ {behind} }}
    iifname {UPLINK} ip daddr set ip daddr map {{ {host.provider_address} : {machine.address} }}
  }}
  chain after {{
    type filter hook postrouting priority srcnat
    oifname {UPLINK} ip saddr set ip saddr map {{ {machine.address} : {host.provider_address} }}
    oifname {machine.name} ip saddr set ip saddr map {{ {senders} }}
  }}
}}"""
    namespaces.set_sysctls(
        lab.namespace(host.name), ipv4__ip_forward=1, **{f"ipv4__conf__{machine.name}__proxy_arp": 1}
    )
    lab.configure(host.name, f"route add {machine.address} dev {machine.name}")
    lab.run(host.name, "nft", "-f", "-", text=rules)


def _peers(lab: Lab, host: Host, vsid: int) -> list[Machine]:
    """Return the virtual machines of a virtual subnet that live on other hosts."""
    return [m for m in lab.machines if m.vsid == vsid and m.provider_address != host.provider_address]
