"""From the mirrored network to the path that a packet to a provider address takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2s
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_ntop

from gateway.underlay.hop import Hop
from gateway.underlay.network import IPAddress, Link, NeighbourKey, Network, NextHop, Route


@dataclass(frozen=True, slots=True)
class Path:
    """A hop that lacks only the MAC of `neighbour`."""

    neighbour: NeighbourKey
    hop: Hop


def find_path(network: Network, provider_addresses: Sequence[str], address: str) -> Path | None:
    """Return the path to a provider address; None without one: no route, our own address, no address to send from."""
    if address in provider_addresses or network.owns(address):
        return None
    destination = ip_address(address)
    route = network.routes.lookup(destination)
    next_hops = [hop for hop in route.next_hops if hop.usable] if route else []
    if route is None or not next_hops:
        return None
    next_hop = _choose(next_hops, destination)
    link = network.links.get(next_hop.interface_index)
    if link is None or not link.mac:
        return None
    carrier = _carrier(network, link)
    source = _source(network, provider_addresses, route, link, destination.version)
    if carrier is None or source is None:
        return None
    hop = Hop(
        interface=carrier.name,
        interface_index=carrier.index,
        vlan=link.vlan,
        source=source,
        source_mac=link.mac,
        destination_mac=None,
        mtu=min(route.mtu, link.mtu) if route.mtu else link.mtu,
    )
    return Path((link.index, next_hop.gateway or _as_linux_writes(destination)), hop)


def _choose(next_hops: Sequence[NextHop], destination: IPAddress) -> NextHop:
    """Rendezvous hashing: an address keeps its next hop for as long as that one lives."""
    if len(next_hops) == 1:
        return next_hops[0]

    def weight(next_hop: NextHop) -> bytes:
        identity = f"{next_hop.interface_index} {next_hop.gateway}".encode()
        return blake2s(destination.packed + identity, digest_size=8).digest()

    return max(next_hops, key=weight)


def _carrier(network: Network, link: Link) -> Link | None:
    if not link.parent_index:
        return link
    parent = network.links.get(link.parent_index)
    return parent if parent is not None and not parent.parent_index else None


def _source(network: Network, provider_addresses: Sequence[str], route: Route, link: Link, version: int) -> str | None:
    if route.preferred_source in provider_addresses:
        return route.preferred_source
    of_family = [address for address in provider_addresses if (":" in address) == (version == 6)]
    on_link = network.addresses.get(link.index, {})
    return next((address for address in of_family if address in on_link), next(iter(of_family), None))


def _as_linux_writes(address: IPAddress) -> str:
    return inet_ntop(AF_INET if address.version == 4 else AF_INET6, address.packed)
