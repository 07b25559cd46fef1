"""Route netlink messages, as pyroute2 decodes them, turned into plain data and back."""

import struct
import sys
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any

from pyroute2.netlink import rtnl  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl import ndmsg, rt_type, rtmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.ifinfmsg import IFF_LOWER_UP, IFF_NOARP, IFF_UP  # type: ignore[import-untyped]

from gateway.underlay.network import Link, Neighbour, NeighbourKey, NextHop, Route

NTF_EXT_MANAGED = 1  # linux/neighbour.h, flag of NDA_FLAGS_EXT, since Linux 5.16
OUR_PROTOCOL = 84  # NDA_PROTOCOL marks the entries that we made, so that a restarted daemon knows them again
NDA_DST, NDA_LLADDR, NDA_PROTOCOL, NDA_FLAGS_EXT = 1, 2, 12, 15
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_QDISC, IFLA_LINKINFO, IFLA_LINK_NETNSID = 1, 3, 4, 5, 6, 18, 37
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_VLAN_ID, _IFLA_VLAN_PROTOCOL = 1, 2, 1, 5
ETH_P_8021Q = 0x8100
ARPHRD_ETHER = 1
_HEADER_BYTES = 16
IFINFOMSG = struct.Struct("=2xHiI4x")  # type, index, flags
_NDMSG = struct.Struct("=B3xiH2x")  # family, interface index, state; flags and type do not matter
_ATTRIBUTE = struct.Struct("=HH")
_RESOLVED = ndmsg.NUD_REACHABLE | ndmsg.NUD_STALE | ndmsg.NUD_DELAY | ndmsg.NUD_PROBE | ndmsg.NUD_PERMANENT
_FIXED = ndmsg.NUD_PERMANENT | ndmsg.NUD_NOARP


def link_of(data: bytes) -> Link:
    """Read an RTM_NEWLINK or RTM_DELLINK as it came: with compartments thousands come at once."""
    device_type, index, flags = IFINFOMSG.unpack_from(data, _HEADER_BYTES)
    attributes = dict(attributes_of(data, _HEADER_BYTES + IFINFOMSG.size))
    ethernet = device_type == ARPHRD_ETHER and not flags & IFF_NOARP
    running = IFF_UP | IFF_LOWER_UP
    parent_index, vlan = _tag_of(attributes)
    return Link(
        name=text_of(attributes[IFLA_IFNAME]),
        index=index,
        mac=attributes[IFLA_ADDRESS] if ethernet else b"",
        mtu=number_of(attributes[IFLA_MTU]),
        up=flags & running == running,
        parent_index=parent_index,
        vlan=vlan,
    )


def _tag_of(attributes: Mapping[int, bytes]) -> tuple[int, int]:
    information = dict(attributes_of(attributes.get(IFLA_LINKINFO, b""), 0))
    if text_of(information.get(_IFLA_INFO_KIND, b"")) != "vlan":
        return 0, 0
    tag = dict(attributes_of(information[_IFLA_INFO_DATA], 0))
    if IFLA_LINK_NETNSID in attributes or int.from_bytes(tag[_IFLA_VLAN_PROTOCOL], "big") != ETH_P_8021Q:
        return -1, 0
    return number_of(attributes[IFLA_LINK]), number_of(tag[_IFLA_VLAN_ID])


def address_of(message: Any) -> tuple[int, str]:
    """Read an RTM_NEWADDR or RTM_DELADDR: interface index and address."""
    attributes = dict(message["attrs"])
    return message["index"], attributes.get("IFA_LOCAL") or attributes["IFA_ADDRESS"]


def route_of(message: Any) -> Route:
    """Read an RTM_NEWROUTE."""
    attributes = dict(message["attrs"])
    any_address = "0.0.0.0" if message["family"] == AF_INET else "::"
    metrics = attributes.get("RTA_METRICS")
    return Route(
        prefix=ip_network((attributes.get("RTA_DST", any_address), message["dst_len"])),
        metric=attributes.get("RTA_PRIORITY", 0),
        next_hops=_next_hops_of(message, attributes),
        preferred_source=attributes.get("RTA_PREFSRC"),
        mtu=(metrics.get_attr("RTAX_MTU") or 0) if metrics else 0,
    )


def _next_hops_of(message: Any, attributes: dict[str, Any]) -> tuple[NextHop, ...]:
    if message["type"] != rt_type["unicast"]:
        return ()
    if "RTA_MULTIPATH" in attributes:
        ways = [(way["oif"], way["flags"], dict(way["attrs"])) for way in attributes["RTA_MULTIPATH"]]
    else:
        ways = [(attributes["RTA_OIF"], message["flags"], attributes)]
    return tuple(_next_hop(index, flags, way) for index, flags, way in ways)


def _next_hop(interface_index: int, flags: int, attributes: Mapping[str, Any]) -> NextHop:
    via = attributes.get("RTA_VIA")  # an IPv4 route through an IPv6 neighbour, RFC 5549
    gateway = via["addr"] if via else attributes.get("RTA_GATEWAY")
    return NextHop(interface_index, gateway, not flags & rtmsg.RTNH_F_DEAD and "RTA_ENCAP_TYPE" not in attributes)


def neighbour_of(data: bytes) -> tuple[NeighbourKey, Neighbour]:
    """Read an RTM_NEWNEIGH or RTM_DELNEIGH as it came, since a thousand of them may come at once (10 times as fast)."""
    family, interface_index, state = _NDMSG.unpack_from(data, _HEADER_BYTES)
    attributes = dict(attributes_of(data, _HEADER_BYTES + _NDMSG.size))
    extended_flags = number_of(attributes.get(NDA_FLAGS_EXT, b""))
    managed = bool(extended_flags & NTF_EXT_MANAGED)
    neighbour = Neighbour(
        mac=attributes.get(NDA_LLADDR) if state & _RESOLVED else None,
        managed=managed,
        fixed=bool(state & _FIXED),
        ours=managed and attributes.get(NDA_PROTOCOL) == bytes([OUR_PROTOCOL]),
    )
    return (interface_index, inet_ntop(family, attributes[NDA_DST])), neighbour


def attributes_of(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and value of each attribute of a netlink message, from this offset on."""
    while offset < len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        yield kind, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def number_of(value: bytes) -> int:
    """Read a number of the machine's byte order."""
    return int.from_bytes(value, sys.byteorder)


def text_of(value: bytes) -> str:
    """Read a name, which a zero ends."""
    return value.rstrip(b"\0").decode()


def managed_neighbour(key: NeighbourKey) -> Any:
    """Build the request that has Linux resolve a neighbour and keep it so.

    NTF_EXT_LEARNED keeps the entry off the garbage collector's list and out of gc_thresh3.
    """
    message = _neighbour_request(key)
    message["flags"] = ndmsg.NTF_EXT_LEARNED
    message["attrs"] += [("NDA_FLAGS_EXT", NTF_EXT_MANAGED), ("NDA_PROTOCOL", OUR_PROTOCOL)]
    return message


def forgotten_neighbour(key: NeighbourKey) -> Any:
    """Build the request that removes a neighbour."""
    message = _neighbour_request(key)
    message["header"]["type"] = rtnl.RTM_DELNEIGH
    return message


def _neighbour_request(key: NeighbourKey) -> Any:
    interface_index, address = key
    message = ndmsg.ndmsg()
    message["header"]["type"] = rtnl.RTM_NEWNEIGH
    message["family"] = AF_INET6 if ":" in address else AF_INET
    message["ifindex"] = interface_index
    message["attrs"] = [("NDA_DST", address)]
    return message


def mac_of(text: str) -> bytes:
    """Turn "00:1d:d8:b7:1c:00" into its six bytes."""
    return bytes.fromhex(text.replace(":", ""))
