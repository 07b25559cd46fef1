"""A gateway's network namespace, and what is seen and sent at both ends of its compartments' legs."""

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from gateway.compartments import entering
from gateway.compartments.compartments import Compartments
from gateway.compartments.specification import Compartment, CompartmentSpecification, Leg

Result = TypeVar("Result")

NAME = f"c{os.getpid()}"
GATEWAY = f"/run/netns/tgc-{NAME}"
ROUTER_MAC = "00-1D-D8-B7-1C-00"
PATIENCE = 10.0  # seconds until a test gives up; nothing waits this long when all is well

RED = "6f0f1c1e-0000-4000-8000-00000000000a"
BLUE = "6f0f1c1e-0000-4000-8000-00000000000b"
SERVICE, SERVICE6 = "10.1.0.254", "fd00:1::fe"
OUTSIDE, OUTSIDE6 = "198.18.0.11", "2001:db8::11"
VM, VM6 = "10.1.0.10", "fd00:1::10"
SITE, SITE6 = "10.2.0.10", "fd00:2::10"  # in the tenant's network behind a tunnel
PEER, PEER6 = "198.18.0.111", "2001:db8::111"

PROBER = CompartmentSpecification(RED, (SERVICE, SERVICE6), (), ("10.1.0.0/24", "fd00:1::/64"))
VPN = replace(PROBER, outside_addresses=(OUTSIDE, OUTSIDE6))


def many(count: int) -> dict[str, CompartmentSpecification]:
    """Domains with the very same addresses inside, by RDID."""
    rdids = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(count)]
    return {rdid: replace(VPN, routing_domain=rdid) for rdid in rdids}


def at_gateway(function: Callable[[], Result]) -> Result:
    return entering.run_in(GATEWAY, function)


def reconcile(compartments: Compartments, *wanted: CompartmentSpecification) -> dict[str, Compartment]:
    return at_gateway(lambda: compartments.reconcile({one.key: one for one in wanted}))


def run(namespace: str, command: str) -> str:
    """Run a command in a namespace; it must succeed."""
    whole = entering.command_in(namespace, *command.split())
    result = subprocess.run(whole, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}: {result.stderr}"
    return result.stdout


def ip(namespace: str, command: str) -> Any:
    return json.loads(run(namespace, f"ip -j {command}") or "[]")


def interfaces() -> Mapping[str, int]:
    """The interfaces on the gateway's side, but for loopback."""
    return {name: index for index, name in at_gateway(socket.if_nameindex) if name != "lo"}


def state(compartment: Compartment) -> dict[str, Any]:
    """All that is set in a compartment, as iproute2, nft and ethtool tell it."""
    namespace = compartment.namespace
    links = ip(namespace, "link show")
    return {
        "namespace": Path(namespace).stat().st_ino,
        "links": [_lasting(link) for link in links],
        "addresses": [link["addr_info"] for link in ip(namespace, "address show")],
        "routes": ip(namespace, "route show table all"),
        "routes6": ip(namespace, "-6 route show table all"),
        "neighbours": ip(namespace, "neighbour show"),
        "rules": run(namespace, "nft -a list ruleset"),
        "sysctls": run(namespace, "sysctl -a --pattern ^net.ipv[46].conf"),
        "features": [run(namespace, f"ethtool -k {link['ifname']}") for link in links],
        "gateway": [_lasting(link) for link in ip(GATEWAY, "link show")],
    }


def _lasting(link: Mapping[str, Any]) -> tuple[Any, ...]:
    """What does not follow a while after."""
    return link["ifindex"], link["ifname"], link.get("link_index"), link["address"], link["mtu"], "UP" in link["flags"]


class Wire:
    """One side of a leg: sees what the other sends, and sends to it. Frames are in the order of the wire."""

    def __init__(self, namespace: str, interface: str) -> None:
        self._socket = entering.run_in(namespace, lambda: _packet_socket(interface))
        self._socket.settimeout(PATIENCE)

    def send(self, packet: Packet) -> None:
        self._socket.send(bytes(packet))

    def received(self) -> Packet:
        """The next frame that the other side sent."""
        while True:
            frame, (_, _, kind, _, _) = self._socket.recvfrom(65536)
            if kind != socket.PACKET_OUTGOING:
                return Ether(frame)

    def until(self, payload: bytes) -> list[Packet]:
        """What was sent before the frame that ends with `payload`."""
        frames = [self.received()]
        while not bytes(frames[-1]).endswith(payload):
            frames.append(self.received())
        return frames[:-1]

    def close(self) -> None:
        self._socket.close()


def _packet_socket(interface: str) -> socket.socket:
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
    packets.bind((interface, 3))
    return packets


def to_compartment(leg: Leg, packet: Packet) -> Packet:
    """The packet as the datapath would send it."""
    return Ether(src=colons(ROUTER_MAC), dst=colons(leg.mac)) / packet


def internet(source: str, destination: str, ttl: int = 64) -> Packet:
    if ":" in source:
        return IPv6(src=source, dst=destination, hlim=ttl)
    return IP(src=source, dst=destination, ttl=ttl)


def colons(mac: str) -> str:
    return mac.replace("-", ":").lower()


@contextmanager
def wires(*legs: Leg | None) -> Iterator[tuple[Wire, ...]]:
    """The gateway's ends of legs."""
    with ExitStack() as open_wires:
        made = tuple(Wire(GATEWAY, leg.interface) for leg in legs if leg)
        for wire in made:
            open_wires.callback(wire.close)
        yield made
