"""The gateway around which random and small worlds are built: its ports, interfaces and provider network."""

from gateway.configuration import Port
from gateway.datapath.model.world import Interface, UnderlayHop

ROUTER_MAC = "00-1D-D8-B7-1C-00"

PORTS = (
    Port(
        name="provider",
        role="provider",
        interface="p0",
        addresses=("192.168.6.2/24", "192.168.6.3/24", "fd00:99::2/64", "fd00:99::3/64"),
    ),
    Port(name="fabric", role="provider", interface="p1", vlan=100, addresses=("192.168.7.2/24",)),
    Port(name="corpnet", role="external", interface="x0"),
    Port(name="branch", role="external", interface="x1", vlan=30),
    Port(name="single", role="external", interface="p0"),
    Port(name="shared", role="external", interface="p1"),
)

# One port and VLAN for each connection; p0 untagged and p1's VLAN 100 are provider ports too.
ATTACHMENTS = (("corpnet", 0), ("corpnet", 10), ("corpnet", 20), ("branch", 0), ("single", 0), ("shared", 100))

# Provider addresses of ours that no tunnel record names, for records of what lies behind the gateway.
OWN_REWRITTEN = ("192.168.6.3", "fd00:99::3")
OWN_ADDRESSES = ("192.168.6.2", "192.168.7.2", "fd00:99::2")

HOST_ADDRESSES = ("192.168.1.10", "192.168.2.20", "192.168.6.4", "192.168.7.7", "fd00:99::10", "fd00:98::20")
SECOND_HOST_ADDRESSES = ("192.168.1.11", "192.168.2.21", "fd00:99::11", "fd00:98::21", "192.168.1.12", "fd00:99::12")
REWRITTEN_ADDRESSES = tuple(f"192.168.50.{n}" for n in range(1, 30)) + tuple(f"fd00:50::{n:x}" for n in range(1, 30))


def interfaces(provider_mtu: int = 1600, external_mtu: int = 1500) -> dict[str, Interface]:
    return {
        "p0": Interface("p0", "02-00-00-00-0A-00", provider_mtu),
        "p1": Interface("p1", "02-00-00-00-0A-01", provider_mtu),
        "x0": Interface("x0", "02-00-00-00-0E-00", external_mtu),
        "x1": Interface("x1", "02-00-00-00-0E-01", external_mtu),
    }


def hop(address: str, mtu: int, interface: str = "p0") -> UnderlayHop:
    """A way to a provider address from our first address of its family."""
    six = ":" in address
    source = "fd00:99::2" if six else "192.168.6.2" if interface == "p0" else "192.168.7.2"
    return UnderlayHop(interface, 0 if interface == "p0" else 100, source, "02-00-00-00-0F-0F", mtu)
