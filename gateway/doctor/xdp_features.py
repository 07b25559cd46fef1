"""Which parts of XDP each driver has: the generic netlink family `netdev`, since Linux 6.3."""

from collections.abc import Mapping

from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, genlmsg  # type: ignore[import-untyped]
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]
from pyroute2.netlink.generic import GenericNetlinkSocket  # type: ignore[import-untyped]

NETDEV_CMD_DEV_GET = 1


class _NetdevMessage(genlmsg):  # type: ignore[misc]
    prefix = "NETDEV_A_DEV_"
    nla_map = (
        ("NETDEV_A_DEV_UNSPEC", "none"),
        ("NETDEV_A_DEV_IFINDEX", "uint32"),
        ("NETDEV_A_DEV_PAD", "none"),
        ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
    )


def read_xdp_features() -> Mapping[int, int]:
    """Return the NETDEV_XDP_ACT_* bits by interface index; nothing from a kernel that does not tell them."""
    with GenericNetlinkSocket() as netlink:
        try:
            netlink.bind("netdev", _NetdevMessage)
        except NetlinkError:
            return {}
        request = _NetdevMessage()
        request["cmd"] = NETDEV_CMD_DEV_GET
        request["version"] = 1
        answers = netlink.nlm_request(request, msg_type=netlink.prid, msg_flags=NLM_F_REQUEST | NLM_F_DUMP)
        return {
            answer.get_attr("NETDEV_A_DEV_IFINDEX"): answer.get_attr("NETDEV_A_DEV_XDP_FEATURES") for answer in answers
        }
