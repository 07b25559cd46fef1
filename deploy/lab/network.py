"""The wiring of a lab: provider network, gateway, hosts, virtual machines and sites, each in a namespace of its own."""

import ipaddress

from deploy.lab.hosts import UPLINK
from deploy.lab.namespaces import configure, connect, create, poll, set_sysctls
from deploy.lab.topology import Host, Lab, Machine, Site, router_of

FORWARDING = {"ipv4__ip_forward": 1, "ipv6__conf__all__forwarding": 1}


def namespace_of(lab: Lab, node: str) -> str:
    return f"tgw-{lab.name}-{node}"


def build_provider_network(lab: Lab) -> None:
    """Make a bridge per provider subnet, and let Linux route between them."""
    provider = namespace_of(lab, "provider")
    create(provider)
    set_sysctls(provider, **FORWARDING)
    for index, subnet in enumerate(lab.provider_subnets()):
        prefix_length = ipaddress.ip_network(subnet).prefixlen
        configure(
            provider,
            [
                f"link add switch{index} mtu {lab.provider_mtu} type bridge mcast_snooping 0",
                f"addr add {router_of(subnet)}/{prefix_length} dev switch{index}",
                f"link set switch{index} up",
            ],
        )


def attach_to_provider(lab: Lab, node: str, interface: str, address: str) -> None:
    """Plug a node into the switch of its address's subnet; the node gives itself the address."""
    provider = namespace_of(lab, "provider")
    subnet = str(ipaddress.ip_interface(address).network)
    connect((namespace_of(lab, node), interface), (provider, node), mtu=lab.provider_mtu)
    configure(provider, [f"link set {node} master switch{lab.provider_subnets().index(subnet)}"])


def build_gateway_links(lab: Lab) -> None:
    gateway = namespace_of(lab, "gateway")
    create(gateway)
    attach_to_provider(lab, "gateway", "eth1", lab.gateway_address)
    poll(namespace_of(lab, "provider"), "gateway")
    router = router_of(str(ipaddress.ip_interface(lab.gateway_address).network))
    configure(gateway, [f"addr add {lab.gateway_address} dev eth1", f"route add default via {router}"])


def build_host_links(lab: Lab, host: Host) -> None:
    create(namespace_of(lab, host.name))
    attach_to_provider(lab, host.name, UPLINK, host.address)
    for machine in host.machines:
        build_machine(lab, host, machine)


def build_machine(lab: Lab, host: Host, machine: Machine) -> None:
    """Make a virtual machine with a full MTU of 1500, whatever the provider network leaves."""
    namespace = namespace_of(lab, machine.name)
    create(namespace)
    connect((namespace, "eth0"), (namespace_of(lab, host.name), machine.name), near_mac=machine.mac)
    configure(namespace, [f"addr add {address} dev eth0" for address in machine.addresses])
    configure(namespace, [f"route add default via {router}" for router in machine.routers])


def build_site(lab: Lab, site: Site) -> None:
    namespace = namespace_of(lab, site.name)
    create(namespace)
    if site.behind_machine:
        _put_behind_machine(lab, site, namespace, site.behind_machine)
    elif lab.one_nic:
        attach_to_provider(lab, site.name, "eth0", lab.gateway_address)
    else:
        connect((namespace, "eth0"), (namespace_of(lab, "gateway"), lab.site_interface(site)))
        poll(namespace, "eth0")
    configure(namespace, [f"addr add {address} dev eth0" for address in site.addresses])
    configure(namespace, [f"route add {prefix} via {next_hop}" for prefix, next_hop in site.routes])


def _put_behind_machine(lab: Lab, site: Site, namespace: str, machine: str) -> None:
    router = namespace_of(lab, machine)
    connect((namespace, "eth0"), (router, "eth1"))
    set_sysctls(router, **FORWARDING)
    configure(router, [f"addr add {address} dev eth1" for address in site.machine_addresses])
