"""How far netlink's events reach."""

from ipaddress import ip_network
from typing import Any

from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl.ifinfmsg import IFF_LOWER_UP, IFF_UP, ifinfmsg

from gateway.underlay.mirror import Changes, apply
from gateway.underlay.netlink import Message
from gateway.underlay.network import Network, NextHop, Route, RoutingTable

PARENT, VLAN, LEG = 2, 3, 4


def event(index: int, flags: int = IFF_UP | IFF_LOWER_UP, kind: int = rtnl.RTM_NEWLINK) -> Message:
    message: Any = ifinfmsg()
    message["header"]["type"] = kind
    message["index"], message["flags"], message["ifi_type"] = index, flags, 1
    named = [("IFLA_IFNAME", f"eth{index}"), ("IFLA_MTU", 1500), ("IFLA_ADDRESS", "02:00:00:00:00:10")]
    data = {"attrs": [("IFLA_VLAN_ID", 10), ("IFLA_VLAN_PROTOCOL", 0x8100)]}
    tag = [("IFLA_LINK", PARENT), ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", data)]})]
    message["attrs"] = named + (tag if index == VLAN else [])
    message.encode()
    return Message(kind, 0, bytes(message.data))


def mirrored() -> Network:
    network = Network(routes=RoutingTable([Route(ip_network("10.60.0.0/16"), 0, (NextHop(VLAN, None, usable=False),))]))
    apply(network, [event(PARENT), event(VLAN)])
    return network


def test_a_link_that_no_route_leads_through_changes_no_path() -> None:
    network = mirrored()
    assert apply(network, [event(LEG, 0), event(LEG)]) == Changes({"eth4"}, paths=False)
    assert apply(network, [event(LEG, kind=rtnl.RTM_DELLINK)]) == Changes({"eth4"}, paths=False)


def test_a_link_of_a_route_changes_paths_and_so_does_the_one_beneath_a_vlan() -> None:
    for index in (VLAN, PARENT):
        assert apply(mirrored(), [event(index, IFF_UP)]) == Changes({f"eth{index}"}, paths=True)
        assert apply(mirrored(), [event(index, kind=rtnl.RTM_DELLINK)]).paths


def test_a_link_that_is_gone_with_an_address_changes_paths() -> None:
    network = mirrored()
    apply(network, [event(LEG)])
    network.addresses[LEG] = {"10.60.255.1": None}
    assert apply(network, [event(LEG, kind=rtnl.RTM_DELLINK)]).paths


def test_an_event_that_tells_nothing_new_changes_nothing() -> None:
    assert apply(mirrored(), [event(VLAN), event(PARENT)]) == Changes()
