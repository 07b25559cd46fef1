"""The gateway's side of compartments: the network namespace where the datapath meets them."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

from gateway.compartments import changes, entering, namespaces, settings
from gateway.underlay.netlink import Requests


@dataclass(frozen=True, slots=True)
class GatewaySide:
    """The gateway's own namespace, usable from any thread: requests to it, and its interfaces' indexes by name.

    `router_mac` is the datapath's MAC, with colons.
    """

    namespace: int
    requests: Requests
    interfaces: Mapping[str, int]
    router_mac: str

    def take_up(self, interface: str, mtu: int) -> int:
        """Take a leg's end up and return its index; for a thread in a compartment. Raises OSError."""
        with entering.visiting(self.namespace):
            index = socket.if_nametoindex(interface)
            settings.set_outer_end(interface)
        changes.make(self.requests, [changes.link_up(index, interface, IFLA_MTU=mtu)])
        return index


@contextmanager
def gateway_side(router_mac: str) -> Iterator[GatewaySide]:
    """Give the side that the calling thread is on. Raises OSError."""
    interfaces = {name: index for index, name in socket.if_nameindex()}
    namespace = os.open(namespaces.OF_THIS_THREAD, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with closing(Requests()) as requests:
            yield GatewaySide(namespace, requests, interfaces, router_mac)
    finally:
        os.close(namespace)
