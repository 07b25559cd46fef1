"""Route netlink requests that make and change a compartment's links, addresses, neighbours and routes."""

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2.netlink import rtnl  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl import ndmsg, rt_scope, rt_type, rtmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, ifaddrmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP, ifinfmsg  # type: ignore[import-untyped]

from gateway.underlay.messages import OUR_PROTOCOL
from gateway.underlay.netlink import RT_TABLE_MAIN, Requests

NEXT_HOPS = {4: "169.254.0.1", 6: "fe80::1"}  # the datapath, by whose MAC alone it is reached
_DOOMED = 0x74677740  # a group of interfaces that nobody else uses
_LOCKED_MTU = 1 << 2  # of RTAX_MTU: a forwarded packet heeds it
_FAMILIES = {4: AF_INET, 6: AF_INET6}


@dataclass(frozen=True, slots=True)
class Change:
    """A request, and in words what it does."""

    what: str
    request: Any


@dataclass(frozen=True, slots=True)
class End:
    """One end of a veth pair to be made. MACs with colons."""

    name: str
    mac: str


@dataclass(frozen=True, slots=True)
class AssignedAddress:
    """An address of an interface."""

    interface: int
    address: str
    length: int


@dataclass(frozen=True, slots=True)
class RouteToDatapath:
    """A prefix by an interface to the datapath; `source` is the address that packets get by themselves.

    `mtu` is the largest packet that goes there whole, in bytes; 0: what the interface takes.
    """

    prefix: IPv4Network | IPv6Network
    interface: int
    source: str | None
    mtu: int = 0


def make(requests: Requests, changes: Iterable[Change]) -> None:
    """Make changes in their order. Raises OSError of the first that failed; those after it are tried all the same."""
    wanted = list(changes)
    for change, code in zip(wanted, requests.change([change.request for change in wanted]), strict=True):
        if code:
            raise OSError(code, os.strerror(code), change.what)


def remove_links(requests: Requests, names: Iterable[str]) -> None:
    """Remove interfaces, and with them their peers; some may be gone already. Raises OSError.

    As a group, since Linux waits some 20 ms for each removal, of however many.
    """
    doomed = [request(ifinfmsg, rtnl.RTM_SETLINK, [("IFLA_IFNAME", name), ("IFLA_GROUP", _DOOMED)]) for name in names]
    codes = set(requests.change(doomed)) - {errno.ENODEV}
    if codes == {0}:
        make(requests, [Change("removing interfaces", request(ifinfmsg, rtnl.RTM_DELLINK, [("IFLA_GROUP", _DOOMED)]))])
    elif codes:
        raise OSError(max(codes), os.strerror(max(codes)), "removing interfaces")


def new_pair(near: End, far: End, far_namespace: int, mtu: int) -> Change:
    """Make a veth pair, one end here, the other in the namespace of a file descriptor; both down."""
    peer = {"attrs": [*_named(far, mtu), ("IFLA_NET_NS_FD", far_namespace)]}
    data = {"attrs": [("VETH_INFO_PEER", peer)]}
    veth = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}
    message = request(ifinfmsg, rtnl.RTM_NEWLINK, [*_named(near, mtu), ("IFLA_LINKINFO", veth)])
    return Change(f"making {near.name} and {far.name}", message)


def new_xfrm_interface(name: str, below: int, number: int) -> Change:
    """Make an interface for the IPsec policies and SAs that have this interface identifier (`if_id`)."""
    data = {"attrs": [("IFLA_XFRM_LINK", below), ("IFLA_XFRM_IF_ID", number)]}
    kind = {"attrs": [("IFLA_INFO_KIND", "xfrm"), ("IFLA_INFO_DATA", data)]}
    return Change(
        f"making {name}", request(ifinfmsg, rtnl.RTM_NEWLINK, [("IFLA_IFNAME", name), ("IFLA_LINKINFO", kind)])
    )


def _named(end: End, mtu: int) -> list[tuple[str, Any]]:
    return [("IFLA_IFNAME", end.name), ("IFLA_ADDRESS", end.mac), ("IFLA_MTU", mtu)]


def link_up(index: int, name: str, **attributes: Any) -> Change:
    """Take an interface up, after setting attributes of it such as `IFLA_MTU`."""
    message = request(ifinfmsg, rtnl.RTM_SETLINK, list(attributes.items()))
    message["index"] = index
    message["flags"] = message["change"] = IFF_UP
    return Change(f"taking {name} up", message)


def address(assigned: AssignedAddress) -> Change:
    """Give an interface an address that is usable at once."""
    return Change(f"adding the address {assigned.address}", _address(rtnl.RTM_NEWADDR, assigned))


def no_address(assigned: AssignedAddress) -> Change:
    """Take an address from an interface."""
    return Change(f"removing the address {assigned.address}", _address(rtnl.RTM_DELADDR, assigned))


def _address(kind: int, assigned: AssignedAddress) -> Any:
    text = assigned.address
    message = request(ifaddrmsg, kind, [("IFA_LOCAL", text), ("IFA_ADDRESS", text), ("IFA_FLAGS", IFA_F_NODAD)])
    message["family"] = AF_INET6 if ":" in text else AF_INET
    message["index"] = assigned.interface
    message["prefixlen"] = assigned.length
    return message


def neighbour(interface: int, version: int, mac: str) -> Change:
    """Fix the datapath's MAC as that of the next hop."""
    message = request(ndmsg.ndmsg, rtnl.RTM_NEWNEIGH, [("NDA_DST", NEXT_HOPS[version]), ("NDA_LLADDR", mac)])
    message["family"] = _FAMILIES[version]
    message["ifindex"] = interface
    message["state"] = ndmsg.NUD_PERMANENT
    return Change(f"setting the neighbour {NEXT_HOPS[version]}", message)


def route(wanted: RouteToDatapath) -> Change:
    """Route a prefix to the datapath, in the main table, marked as ours."""
    return Change(f"routing {wanted.prefix}", _route(rtnl.RTM_NEWROUTE, wanted))


def no_route(held: RouteToDatapath) -> Change:
    """Remove a route that `route` made."""
    return Change(f"removing the route to {held.prefix}", _route(rtnl.RTM_DELROUTE, held))


def _route(kind: int, wanted: RouteToDatapath) -> Any:
    version = wanted.prefix.version
    attributes: list[tuple[str, Any]] = [
        ("RTA_DST", str(wanted.prefix.network_address)),
        ("RTA_GATEWAY", NEXT_HOPS[version]),
        ("RTA_OIF", wanted.interface),
    ]
    if wanted.source:
        attributes.append(("RTA_PREFSRC", wanted.source))
    if wanted.mtu:
        metrics = [("RTAX_LOCK", _LOCKED_MTU), ("RTAX_MTU", wanted.mtu)]
        attributes.append(("RTA_METRICS", {"attrs": metrics}))
    message = request(rtmsg.rtmsg, kind, attributes)
    message["family"] = _FAMILIES[version]
    message["dst_len"] = wanted.prefix.prefixlen
    message["table"] = RT_TABLE_MAIN
    message["proto"] = OUR_PROTOCOL
    message["scope"] = rt_scope["universe"]
    message["type"] = rt_type["unicast"]
    message["flags"] = rtmsg.RTNH_F_ONLINK
    return message


def request(message_class: Any, kind: int, attributes: list[tuple[str, Any]]) -> Any:
    """Build a message of pyroute2's with these attributes; its own fields are the caller's to set."""
    message = message_class()
    message["header"]["type"] = kind
    message["attrs"] = attributes
    return message
