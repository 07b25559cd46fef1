"""A mirror of Linux's links, addresses, main routing table and neighbours, as plain data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IPAddress = IPv4Address | IPv6Address
NeighbourKey = tuple[int, str]  # interface index, address


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. `mac` is empty where there is none. An 802.1Q device has its parent's index and a `vlan`.

    `parent_index` is 0 for any other device, and -1 for a VLAN device that we cannot send through (802.1ad, a parent in
    another namespace).
    """

    name: str
    index: int
    mac: bytes
    mtu: int
    up: bool
    parent_index: int = 0
    vlan: int = 0


@dataclass(frozen=True, slots=True)
class NextHop:
    """One way of a route; without a gateway the destination itself is on the link.

    One that is not `usable` is dead, or wants another encapsulation (MPLS, SRv6), which we do not speak.
    """

    interface_index: int
    gateway: str | None
    usable: bool = True


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table; a blackhole or unreachable one has no next hops. `mtu` 0 is not set."""

    prefix: IPv4Network | IPv6Network
    metric: int
    next_hops: tuple[NextHop, ...]
    preferred_source: str | None = None
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A neighbour entry. `mac` is None while it is not resolved. `ours`: installed by this program, at any time."""

    mac: bytes | None
    managed: bool
    fixed: bool
    ours: bool


class RoutingTable:
    """Longest prefix, then lowest metric, then the order in which Linux lists the routes."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        by_length: dict[int, dict[int, dict[int, Route]]] = {4: {}, 6: {}}
        self.interfaces: set[int] = set()  # that a route leads through, usable or not
        for route in routes:
            self.interfaces.update(hop.interface_index for hop in route.next_hops)
            prefix = route.prefix
            same_length = by_length[prefix.version].setdefault(prefix.prefixlen, {})
            bits = int(prefix.network_address)
            if bits not in same_length or route.metric < same_length[bits].metric:
                same_length[bits] = route
        self._by_mask = {
            version: [(_mask(version, length), routes) for length, routes in sorted(lengths.items(), reverse=True)]
            for version, lengths in by_length.items()
        }

    def lookup(self, address: IPAddress) -> Route | None:
        """Return the route that Linux would take to `address`, None if there is none."""
        bits = int(address)
        for mask, routes in self._by_mask[address.version]:
            route = routes.get(bits & mask)
            if route is not None:
                return route
        return None


def _mask(version: int, length: int) -> int:
    width = 32 if version == 4 else 128
    return ((1 << length) - 1) << (width - length)


@dataclass(slots=True)
class Network:
    """All that is mirrored. Addresses are kept per interface, in Linux's order."""

    links: dict[int, Link] = field(default_factory=dict)
    addresses: dict[int, dict[str, None]] = field(default_factory=dict)
    routes: RoutingTable = field(default_factory=RoutingTable)
    neighbours: dict[NeighbourKey, Neighbour] = field(default_factory=dict)

    def owns(self, address: str) -> bool:
        """Tell whether an interface has this address."""
        return any(address in held for held in self.addresses.values())

    def may_carry(self, link: Link) -> bool:
        """Tell whether a path may lead through a link, or through a VLAN of it."""
        used = self.routes.interfaces
        return link.index in used or any(
            self.links[index].parent_index == link.index for index in used & self.links.keys()
        )

    def links_by_name(self) -> Mapping[str, Link]:
        """Return the links of this namespace by their names."""
        return {link.name: link for link in self.links.values()}
