"""What a compartment sends reaches the datapath, correct in itself, and nobody else."""

import socket
from dataclasses import replace

from compartment_rig import (
    BLUE,
    GATEWAY,
    RED,
    ROUTER_MAC,
    SERVICE,
    SERVICE6,
    VM,
    VM6,
    VPN,
    Wire,
    colons,
    internet,
    reconcile,
    run,
    to_compartment,
    wires,
)
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from gateway.compartments import entering
from gateway.compartments.compartments import Compartments
from gateway.compartments.specification import Compartment

MARK = b"the mark"


def both(compartments: Compartments) -> tuple[Compartment, Compartment]:
    """Two domains with the very same addresses."""
    made = reconcile(compartments, VPN, replace(VPN, routing_domain=BLUE))
    return made[RED], made[BLUE]


def send_udp(compartment: Compartment, address: str, payload: bytes) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with entering.socket_in(compartment.namespace, family, socket.SOCK_DGRAM) as udp:
        udp.sendto(payload, (address, 4000))


def with_right_checksums(packet: Packet) -> Packet:
    again = packet.copy()
    for layer, field in ((IP, "chksum"), (UDP, "chksum"), (TCP, "chksum")):
        if layer in again:
            again[layer].delfieldval(field)
    return again.__class__(bytes(again))


def test_what_a_compartment_sends_comes_whole_to_the_datapath(compartment: Compartment) -> None:
    with wires(compartment.inside) as (wire,):
        for address, source, layer in ((VM, SERVICE, IP), (VM6, SERVICE6, IPv6)):
            send_udp(compartment, address, MARK)
            frame = wire.received()
            assert (frame.dst, frame.src) == (colons(ROUTER_MAC), colons(compartment.inside.mac))
            assert (frame[layer].src, frame[layer].dst) == (source, address)
            assert bytes(frame) == bytes(with_right_checksums(frame))


def test_tcp_segments_leave_cut_and_with_their_checksums(compartment: Compartment) -> None:
    with (
        wires(compartment.inside) as (wire,),
        entering.socket_in(compartment.namespace, socket.AF_INET, socket.SOCK_STREAM) as tcp,
    ):
        tcp.setblocking(False)
        tcp.connect_ex((VM, 80))
        syn = wire.received()
        answer = TCP(sport=80, dport=syn[TCP].sport, seq=1, ack=syn[TCP].seq + 1, flags="SA", options=[("MSS", 1460)])
        wire.send(to_compartment(compartment.inside, internet(VM, SERVICE) / answer))
        assert wire.received()[TCP].flags == "A"
        tcp.send(b"x" * 4000)
        frames = [syn, *(wire.received() for _ in range(3))]
    for frame in frames:
        assert len(frame) <= 1514
        assert bytes(frame) == bytes(with_right_checksums(frame))


def test_a_compartment_hears_only_its_own_leg(compartments: Compartments) -> None:
    red, blue = both(compartments)
    with wires(red.inside, blue.inside) as (red_wire, blue_wire):
        send_udp(red, VM, b"of red")
        send_udp(blue, VM, b"of blue" + MARK)
        assert blue_wire.until(MARK) == []
        assert red_wire.received().load == b"of red"


def test_linux_routes_nothing_from_one_compartment_to_another(compartments: Compartments) -> None:
    run(GATEWAY, "sysctl -q net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    red, blue = both(compartments)
    run(GATEWAY, f"ip route add 10.9.0.0/16 dev {blue.inside.interface}")
    run(GATEWAY, f"ip neighbour add 10.9.0.9 lladdr {colons(blue.inside.mac)} dev {blue.inside.interface}")
    gateways_end = next(
        line.split()[1]
        for line in run(GATEWAY, f"ip link show {red.inside.interface}").splitlines()
        if "link/ether" in line
    )
    inside_red, inside_blue = (Wire(one.namespace, "inside") for one in (red, blue))
    inside_red.send(Ether(dst=gateways_end) / internet(SERVICE, "10.9.0.9") / UDP(dport=1) / Raw(b"of red"))
    with wires(blue.inside) as (wire,):
        wire.send(to_compartment(blue.inside, internet(VM, SERVICE) / UDP(dport=1) / Raw(MARK)))
    assert inside_blue.until(MARK) == []
    inside_red.close()
    inside_blue.close()


def test_a_compartment_learns_no_address_of_the_gateway(compartments: Compartments) -> None:
    run(GATEWAY, "ip address add 192.0.2.1/32 dev lo")
    run(GATEWAY, "ip link set lo up")
    (compartment,) = reconcile(compartments, VPN).values()
    inside = Wire(compartment.namespace, "inside")
    inside.send(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst="192.0.2.1", psrc=SERVICE))
    with wires(compartment.inside) as (wire,):
        wire.send(to_compartment(compartment.inside, internet(VM, SERVICE) / UDP(dport=1) / Raw(MARK)))
    assert inside.until(MARK) == []
    inside.close()
