"""What a world offers to whoever builds frames for it: addresses as bytes, by domain and family."""

from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from weakref import WeakKeyDictionary

from gateway.configuration import Port
from gateway.datapath.model.world import World
from gateway.policy.model import NetworkConnection, RoutingDomain
from tests.worlds import places
from tests.worlds.wire import mac

STRAY = {
    4: ("8.8.8.8", "10.99.0.1", "0.1.2.3", "127.0.0.1", "224.0.0.5", "255.255.255.255", "192.168.6.2", "192.168.1.11"),
    6: ("2001:db8::1", "fd00:99:1::1", "::", "::1", "ff02::1", "fe80::1", "fd00:99::2", "fd00:99::11"),
}


def packed(text: str) -> bytes:
    return ip_address(text).packed


@dataclass(slots=True)
class Vm:
    """A record's end: its address, MAC and where its host is."""

    vsid: int
    address: bytes
    mac: bytes
    provider_address: bytes
    encapsulation: str


@dataclass(slots=True)
class Link:
    """An external attachment: where it is, who the gateway is there and who else is."""

    interface: str
    vlan: int
    mac: bytes
    local: dict[int, list[bytes]]
    others: dict[int, list[bytes]]


@dataclass
class Site:
    """A routing domain."""

    vsids: list[int]
    routers: dict[int, list[bytes]]
    vms: list[Vm]
    links: list[Link]
    admitted: list[bytes]
    routed: dict[int, list[bytes]]

    @cached_property
    def destinations(self) -> dict[int, list[bytes]]:
        """Addresses by family; what is worth most stands there most often."""
        found: dict[int, list[bytes]] = {}
        for version, size in ((4, 4), (6, 16)):
            vms = [vm.address for vm in self.vms if len(vm.address) == size]
            outside = [address for link in self.links for address in link.others[version]]
            local = self.routers[version] + [address for link in self.links for address in link.local[version]]
            stray = [packed(text) for text in STRAY[version]]
            found[version] = vms * 12 + outside * 6 + self.routed[version] * 2 + local * 2 + stray
        return found


@dataclass
class Scenery:
    """All of a world."""

    router_mac: bytes
    sites: list[Site]
    own: dict[int, list[bytes]]
    providers: list[tuple[str, int, bytes]]
    rewritten: list[Vm] = field(default_factory=list)
    own_rewritten: list[Vm] = field(default_factory=list)

    @cached_property
    def links(self) -> list[Link]:
        return [link for site in self.sites for link in site.links]


_known: WeakKeyDictionary[World, Scenery] = WeakKeyDictionary()


def scenery(world: World) -> Scenery:
    """The scenery of a world's policy; made once, so a change of policy is not seen."""
    if world not in _known:
        _known[world] = _survey(world)
    return _known[world]


def _survey(world: World) -> Scenery:
    ports = {port.name: port for port in world.ports}
    sites = [_site(world, domain, ports) for domain in world.policy.routing_domains]
    own_addresses = [packed(text) for text in (*places.OWN_ADDRESSES, *places.OWN_REWRITTEN)]
    result = Scenery(
        router_mac=mac(world.router_mac),
        sites=sites,
        own={version: [one for one in own_addresses if len(one) == size] for version, size in ((4, 4), (6, 16))},
        providers=[
            (port.interface, port.vlan, mac(world.interfaces[port.interface].mac))
            for port in world.ports
            if port.role == "provider"
        ],
    )
    own = set(own_addresses)
    for vm in (vm for site in sites for vm in site.vms if vm.encapsulation == "rewrite"):
        (result.own_rewritten if vm.provider_address in own else result.rewritten).append(vm)
    return result


def _site(world: World, domain: RoutingDomain, ports: dict[str, Port]) -> Site:
    vms = [
        Vm(
            record.vsid,
            packed(record.customer_address),
            mac(record.mac),
            packed(record.provider_address),
            record.encapsulation,
        )
        for record in domain.lookup_records
    ]
    routers = [packed(address) for subnet in domain.virtual_subnets for address in subnet.router_addresses().values()]
    prefixes = [prefix for subnet in domain.virtual_subnets for prefix in subnet.prefixes]
    prefixes += [route.prefix for route in domain.customer_routes]
    prefixes += [route.prefix for connection in domain.network_connections for route in connection.routes]
    inside = [address for prefix in prefixes for address in _some_of(ip_network(prefix))]
    provider_addresses = {vm.provider_address for vm in vms}
    for host in world.policy.hosts:
        of_host = {packed(one.address) for one in host.provider_addresses}
        if of_host & provider_addresses:
            provider_addresses |= of_host
    also = {packed(text) for text in world.also_admitted.get(domain.id, ())}
    return Site(
        vsids=[subnet.vsid for subnet in domain.virtual_subnets],
        routers=_by_family(routers),
        vms=[vm for vm in vms if any(vm.address)],
        links=[_link(world, connection, ports[connection.port]) for connection in domain.network_connections],
        admitted=sorted(provider_addresses | also),
        routed=_by_family(inside),
    )


def _by_family(addresses: list[bytes]) -> dict[int, list[bytes]]:
    return {
        4: [address for address in addresses if len(address) == 4],
        6: [address for address in addresses if len(address) == 16],
    }


def _some_of(network: IPv4Network | IPv6Network) -> list[bytes]:
    offsets = {0, 1, 4, network.num_addresses // 3, network.num_addresses - 1}
    return [network[offset].packed for offset in offsets if offset < network.num_addresses]


def _link(world: World, connection: NetworkConnection, port: Port) -> Link:
    local = [ip_interface(text) for text in connection.local_addresses]
    others = [
        address
        for one in local
        for offset in (2, 3, 0x99)
        if offset < one.network.num_addresses and (address := one.network[offset].packed) != one.ip.packed
    ]
    return Link(
        interface=port.interface,
        vlan=connection.vlan or port.vlan,
        mac=mac(world.interfaces[port.interface].mac),
        local=_by_family([one.ip.packed for one in local]),
        others=_by_family(others),
    )
