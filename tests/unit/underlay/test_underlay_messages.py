"""Netlink messages that not every kernel here can be made to send."""

from ipaddress import ip_network
from typing import Any

import pytest
from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl.ifinfmsg import IFF_LOWER_UP, IFF_NOARP, IFF_UP, ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import RTNH_F_DEAD, rtmsg

from gateway.underlay.messages import link_of, route_of
from gateway.underlay.netlink import Message
from gateway.underlay.network import Link, NextHop, Route

MAC = bytes.fromhex("020000000010")
ETHER, TUNNEL = 1, 65534


def link(attributes: list[Any] | None = None, flags: int = IFF_UP | IFF_LOWER_UP, kind: int = ETHER) -> Link:
    message = ifinfmsg()
    message["index"], message["flags"], message["ifi_type"] = 3, flags, kind
    named = [("IFLA_IFNAME", "eth1.10"), ("IFLA_MTU", 1496), ("IFLA_ADDRESS", "02:00:00:00:00:10")]
    message["attrs"] = named + (attributes or [])
    return link_of(received(message, rtnl.RTM_NEWLINK).data)


def received(message: Any, kind: int) -> Message:
    message["header"]["type"] = kind
    message.encode()
    return Message(kind, 0, bytes(message.data))


def vlan(protocol: int) -> list[Any]:
    data = {"attrs": [("IFLA_VLAN_ID", 10), ("IFLA_VLAN_PROTOCOL", protocol)]}
    return [("IFLA_LINK", 2), ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", data)]})]


def test_an_8021q_device_has_a_parent_and_a_vlan() -> None:
    assert link(vlan(0x8100)) == Link("eth1.10", 3, MAC, 1496, up=True, parent_index=2, vlan=10)


def test_a_vlan_device_of_another_kind_or_with_a_parent_elsewhere_is_no_way() -> None:
    assert link(vlan(0x88A8)).parent_index == -1
    assert link([*vlan(0x8100), ("IFLA_LINK_NETNSID", 0)]).parent_index == -1


def test_the_link_index_of_a_veth_peer_is_no_parent() -> None:
    assert link([("IFLA_LINK", 2), ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth")]})]).parent_index == 0


def test_a_link_without_neighbours_has_no_mac() -> None:
    assert link(kind=TUNNEL).mac == b""
    assert link(flags=IFF_UP | IFF_LOWER_UP | IFF_NOARP).mac == b""


@pytest.mark.parametrize(("flags", "up"), [(IFF_UP | IFF_LOWER_UP, True), (IFF_UP, False), (IFF_LOWER_UP, False)])
def test_a_link_is_up_when_it_is_set_up_and_has_carrier(flags: int, up: bool) -> None:
    assert link(flags=flags).up is up


def route(attributes: list[Any], flags: int = 0) -> Route:
    message = rtmsg()
    message["family"], message["dst_len"], message["type"], message["flags"] = 2, 16, 1, flags
    message["attrs"] = [("RTA_DST", "10.60.0.0"), ("RTA_OIF", 2), *attributes]
    return route_of(received(message, rtnl.RTM_NEWROUTE).decode())


def test_a_dead_way_and_one_with_another_encapsulation_are_no_use() -> None:
    prefix = ip_network("10.60.0.0/16")
    assert route([("RTA_GATEWAY", "192.168.6.4")]) == Route(prefix, 0, (NextHop(2, "192.168.6.4"),))
    assert route([("RTA_GATEWAY", "192.168.6.4")], RTNH_F_DEAD).next_hops == (NextHop(2, "192.168.6.4", False),)
    mpls = {"attrs": [("MPLS_IPTUNNEL_DST", [{"label": 100, "bos": 1}])]}
    assert route([("RTA_ENCAP_TYPE", 1), ("RTA_ENCAP", mpls)]).next_hops == (NextHop(2, None, False),)
