"""A switch with VLANs before a gateway that has one card for all: Open vSwitch, as the kernel may lack VLANs."""

from deploy.lab import far_end, namespaces
from deploy.lab.openvswitch import Switch
from deploy.lab.running import RunningLab
from deploy.lab.topology import Site

BRIDGE = "br-trunk"


def build(lab: RunningLab) -> None:
    """Give the gateway's eth1 all VLANs of the switch."""
    mtu = lab.topology.provider_mtu
    namespaces.create(lab.namespace("trunk"))
    lab.connect("gateway", "eth1", "trunk", "gateway", mtu=mtu)
    far_end.take_up(lab, "trunk", "gateway")
    for node, interface in ("gateway", "eth1"), ("trunk", "gateway"):
        lab.run(node, "ethtool", "-K", interface, "txvlan", "off", "rxvlan", "off")
    switch = _switch(lab)
    switch.start()
    switch.add_bridge(BRIDGE, "gateway")


def plug_provider(lab: RunningLab) -> None:
    """Join the provider network, untagged unless it has a VLAN there."""
    _switch(lab).add_port(BRIDGE, f"provider tag={lab.topology.provider_vlan}")


def plug(lab: RunningLab, site: Site) -> None:
    lab.connect(site.name, "eth0", "trunk", site.name)
    _switch(lab).add_port(BRIDGE, f"{site.name} tag={site.vlan}")


def _switch(lab: RunningLab) -> Switch:
    return Switch(lab, "trunk")
