"""Check of the underlay's MTU against what encapsulation adds."""

from collections.abc import Iterator, Sequence

from gateway.configuration import Port
from gateway.doctor.facts import Interface
from gateway.doctor.finding import Finding

INNER_ETHERNET, NVGRE, VXLAN = 14, 8, 16
OUTER_IPV4, OUTER_IPV6 = 20, 40
ORDINARY_MTU, IPV6_LEAST_MTU = 1500, 1280  # RFC 8200 section 5


def examine_mtu(interface: Interface, ports: Sequence[Port]) -> Iterator[Finding]:
    """Judge the packets that VMs can send through a provider port; nothing of other ports."""
    addresses = [address for port in ports if port.role == "provider" for address in port.addresses]
    if not any(port.role == "provider" for port in ports):
        return
    outer = OUTER_IPV6 if any(":" in address for address in addresses) else OUTER_IPV4
    over_vxlan = interface.mtu - outer - VXLAN - INNER_ETHERNET
    over_nvgre = interface.mtu - outer - NVGRE - INNER_ETHERNET
    detail = (
        f"MTU {interface.mtu} lets VMs send {over_vxlan} bytes over VXLAN and {over_nvgre} over NVGRE "
        f"({'IPv6' if outer == OUTER_IPV6 else 'IPv4'} outside)"
    )
    needed = ORDINARY_MTU + interface.mtu - over_vxlan
    mend = (
        f"ip link set dev {interface.name} mtu {needed}, as on every host and switch of the provider network; "
        f"or give VMs an MTU of {over_vxlan}"
    )
    if over_vxlan < IPV6_LEAST_MTU:
        yield Finding(interface.name, "mtu", "failed", f"{detail}; IPv6 needs {IPV6_LEAST_MTU}", mend)
    elif over_vxlan < ORDINARY_MTU:
        yield Finding(interface.name, "mtu", "warning", detail, mend)
    else:
        yield Finding(interface.name, "mtu", "ok", detail)
