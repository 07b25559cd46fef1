"""Sends one forged packet to a gateway: python -m deploy.lab.inject --vsid 7777 [--encapsulation nvgre] GATEWAY.

Run it in a host's namespace. The inner packet is an echo request to the router's MAC.
"""

import argparse

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import GRE, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw
from scapy.sendrecv import send

ROUTER_MAC = "00:1d:d8:b7:1c:00"


def tunnel(encapsulation: str, vsid: int) -> Packet:
    if encapsulation == "nvgre":
        return GRE(key_present=1, proto=0x6558, key=vsid << 8 | 7)
    return UDP(sport=50000, dport=4789, chksum=0) / VXLAN(vni=vsid, flags="Instance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gateway", help="provider address of the gateway")
    parser.add_argument("--vsid", type=int, required=True)
    parser.add_argument("--encapsulation", choices=("vxlan", "nvgre"), default="vxlan")
    parser.add_argument("--outer-source", help="provider address to pretend (default: the host's own)")
    parser.add_argument("--inner-source", default="10.1.1.11")
    parser.add_argument("--inner-destination", default="10.1.6.21")
    arguments = parser.parse_args()
    inner = Ether(src="02:00:00:00:00:01", dst=ROUTER_MAC)
    inner /= IP(src=arguments.inner_source, dst=arguments.inner_destination) / ICMP() / Raw(b"forged")
    outer = IP(src=arguments.outer_source, dst=arguments.gateway)
    send(outer / tunnel(arguments.encapsulation, arguments.vsid) / inner, verbose=False)


if __name__ == "__main__":
    main()
