"""Keeps a Network equal to Linux's: the whole at first and after a loss, then event by event."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from socket import AF_INET, AF_INET6, AF_UNSPEC

from pyroute2.netlink import rtnl  # type: ignore[import-untyped]

from gateway.underlay.messages import address_of, link_of, neighbour_of, route_of
from gateway.underlay.netlink import RT_TABLE_MAIN, RTM_DELNEXTHOP, RTM_NEWNEXTHOP, Message, Requests
from gateway.underlay.network import NeighbourKey, Network, RoutingTable

_IP = (AF_INET, AF_INET6)


@dataclass(slots=True)
class Changes:
    """How far a batch of events reaches: `links` are new, changed or gone; whether a path may have changed."""

    links: set[str] = field(default_factory=set)
    paths: bool = False
    neighbours: set[NeighbourKey] = field(default_factory=set)


def read_network(requests: Requests) -> Network:
    """Read everything."""
    network = Network()
    apply(network, [message for kind in _WHOLE for message in requests.dump(kind)])
    network.routes = read_routes(requests)
    return network


_WHOLE = (rtnl.RTM_NEWLINK, rtnl.RTM_NEWADDR, rtnl.RTM_NEWNEIGH)


def read_routes(requests: Requests) -> RoutingTable:
    """Read the main table, both families."""
    return RoutingTable(
        route_of(message.decode())
        for message in requests.dump(rtnl.RTM_NEWROUTE)
        if message.family in _IP and message.table == RT_TABLE_MAIN
    )


def apply(network: Network, messages: Sequence[Message]) -> Changes:
    """Bring links, addresses and neighbours up to date; routes are only noted, since Linux tells too little of them."""
    changes = Changes()
    for message in messages:
        match message.kind:
            case rtnl.RTM_NEWLINK | rtnl.RTM_DELLINK if message.family == AF_UNSPEC:  # others are of bridge ports
                _apply_link(network, message, changes)
            case rtnl.RTM_NEWADDR | rtnl.RTM_DELADDR:
                _apply_address(network, message)
                changes.paths = True
            case rtnl.RTM_NEWNEIGH | rtnl.RTM_DELNEIGH if message.family in _IP:
                changes.neighbours.add(_apply_neighbour(network, message))
            case rtnl.RTM_NEWROUTE | rtnl.RTM_DELROUTE if message.table == RT_TABLE_MAIN:
                changes.paths = True
            case _ if message.kind in (RTM_NEWNEXTHOP, RTM_DELNEXTHOP):
                changes.paths = True
    return changes


def _apply_link(network: Network, message: Message, changes: Changes) -> None:
    """A link that goes down and an address that is removed take IPv4 routes with them without a word of those.

    Links that no route leads through, such as hundreds of compartments', change no path.
    """
    link = link_of(message.data)
    before = network.links.get(link.index)
    if message.kind == rtnl.RTM_NEWLINK:
        if link == before:
            return
        network.links[link.index] = link
    else:
        network.links.pop(link.index, None)
        changes.paths |= bool(network.addresses.pop(link.index, None))
    changes.links |= {one.name for one in (before, link) if one}
    changes.paths |= network.may_carry(link)


def _apply_address(network: Network, message: Message) -> None:
    index, address = address_of(message.decode())
    if message.kind == rtnl.RTM_NEWADDR:
        network.addresses.setdefault(index, {})[address] = None
    else:
        network.addresses.get(index, {}).pop(address, None)


def _apply_neighbour(network: Network, message: Message) -> NeighbourKey:
    key, neighbour = neighbour_of(message.data)
    if message.kind == rtnl.RTM_NEWNEIGH:
        network.neighbours[key] = neighbour
    else:
        network.neighbours.pop(key, None)
    return key
