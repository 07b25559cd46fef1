"""The wiring of a lab: provider network, gateway, hosts, virtual machines and sites, each in a namespace of its own."""

import ipaddress

from deploy.lab import far_end, namespaces, trunk
from deploy.lab.hosts import UPLINK
from deploy.lab.running import RunningLab
from deploy.lab.topology import Host, Machine, Site, router_of

FORWARDING = {"ipv4__ip_forward": 1, "ipv6__conf__all__forwarding": 1}


def build_provider_network(lab: RunningLab) -> None:
    """Make a bridge per provider subnet, and let Linux route between them."""
    namespaces.create(lab.namespace("provider"))
    namespaces.set_sysctls(lab.namespace("provider"), **FORWARDING)
    for index, subnet in enumerate(lab.topology.provider_subnets()):
        prefix_length = ipaddress.ip_network(subnet).prefixlen
        lab.configure(
            "provider",
            f"link add switch{index} mtu {lab.topology.provider_mtu} type bridge mcast_snooping 0",
            f"addr add {router_of(subnet)}/{prefix_length} dev switch{index}",
            f"link set switch{index} up",
        )


def attach_to_provider(lab: RunningLab, node: str, interface: str, address: str, name: str = "") -> None:
    """Plug a node into the switch of an address's subnet; `name` is of the switch's end."""
    subnet = str(ipaddress.ip_interface(address).network)
    lab.connect(node, interface, "provider", name or node, mtu=lab.topology.provider_mtu)
    switch = lab.topology.provider_subnets().index(subnet)
    lab.configure("provider", f"link set {name or node} master switch{switch}")


def build_gateway_links(lab: RunningLab) -> None:
    address = lab.topology.gateway_address
    namespaces.create(lab.namespace("gateway"))
    if lab.topology.tagged:
        trunk.build(lab)
        attach_to_provider(lab, "trunk", "provider", address, name="gateway")
        trunk.plug_provider(lab)
    else:
        attach_to_provider(lab, "gateway", "eth1", address)
        far_end.take_up(lab, "provider", "gateway")
    device, vlan = "eth1", lab.topology.provider_vlan
    if vlan:
        device = f"eth1.{vlan}"
        lab.configure("gateway", f"link add link eth1 name {device} type vlan id {vlan}", f"link set {device} up")
    router = router_of(str(ipaddress.ip_interface(address).network))
    lab.configure("gateway", f"addr add {address} dev {device}", f"route add default via {router}")


def build_host_links(lab: RunningLab, host: Host) -> None:
    namespaces.create(lab.namespace(host.name))
    attach_to_provider(lab, host.name, UPLINK, host.address)
    for machine in host.machines:
        _build_machine(lab, host, machine)


def _build_machine(lab: RunningLab, host: Host, machine: Machine) -> None:
    """Make a virtual machine with a full MTU of 1500, whatever the provider network leaves."""
    namespaces.create(lab.namespace(machine.name))
    lab.connect(machine.name, "eth0", host.name, machine.name, mac=machine.mac)
    lab.configure(machine.name, *(f"addr add {address} dev eth0" for address in machine.addresses))
    lab.configure(machine.name, *(f"route add default via {router}" for router in machine.routers))


def build_site(lab: RunningLab, site: Site) -> None:
    namespaces.create(lab.namespace(site.name))
    plug_site(lab, site)


def plug_site(lab: RunningLab, site: Site) -> None:
    """Connect a site's node, also again after its link was lost."""
    if site.behind_machine:
        _put_behind_machine(lab, site, site.behind_machine)
    elif site.vlan:
        trunk.plug(lab, site)
    elif lab.topology.one_nic:
        attach_to_provider(lab, site.name, "eth0", lab.topology.gateway_address)
        lab.configure(site.name, "link set eth0 mtu 1500")
    else:
        lab.connect(site.name, "eth0", "gateway", lab.topology.external_ports()[site.port])
        far_end.take_up(lab, site.name, "eth0")
    lab.configure(site.name, *(f"addr add {address} dev eth0" for address in site.addresses))
    lab.configure(site.name, *(f"route add {prefix} via {next_hop}" for prefix, next_hop in site.routes))


def _put_behind_machine(lab: RunningLab, site: Site, machine: str) -> None:
    lab.connect(site.name, "eth0", machine, "eth1")
    namespaces.set_sysctls(lab.namespace(machine), **FORWARDING)
    lab.configure(machine, *(f"addr add {address} dev eth1" for address in site.machine_addresses))
