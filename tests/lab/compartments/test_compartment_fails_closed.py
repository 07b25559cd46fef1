"""Nothing of the tenant passes the outside in clear, in either direction; IKE and ESP do."""

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from select import select

import pytest
from compartment_rig import (
    OUTSIDE,
    OUTSIDE6,
    PATIENCE,
    PEER,
    PEER6,
    ROUTER_MAC,
    SERVICE,
    SERVICE6,
    SITE,
    SITE6,
    VM,
    VM6,
    colons,
    internet,
    run,
    to_compartment,
    wires,
)
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.ipsec import ESP
from scapy.packet import Packet, Raw

from gateway.compartments import entering
from gateway.compartments.specification import Compartment, Leg

MARK = b"the mark"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
FAMILIES = pytest.mark.parametrize(
    ("service", "outside", "vm", "site", "peer"),
    [(SERVICE, OUTSIDE, VM, SITE, PEER), (SERVICE6, OUTSIDE6, VM6, SITE6, PEER6)],
    ids=["IPv4", "IPv6"],
)


def send_from(compartment: Compartment, packet: Packet, link: str = "") -> None:
    """Send a packet whole as a process in the compartment that may do all; multicast needs a link."""
    family = socket.AF_INET6 if packet.version == 6 else socket.AF_INET
    with entering.socket_in(compartment.namespace, family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        if link:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
        raw.sendto(bytes(packet), (packet.dst, 0))


def mark_outside(compartment: Compartment, outside: str, peer: str) -> None:
    """Send what may pass by the outside, to be seen after all that was sent before."""
    send_from(compartment, internet(outside, peer) / UDP(sport=500, dport=500) / Raw(MARK))


def leg(one: Leg | None) -> Leg:
    assert one is not None
    return one


def echo(address: str) -> Packet:
    return ICMPv6EchoRequest() if ":" in address else ICMP(type="echo-request")


@contextmanager
def tunnel(compartment: Compartment, *prefixes: str) -> Iterator[int]:
    """What libipsec makes: a TUN device, with routes to the site."""

    def make() -> int:
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", b"ipsec0", IFF_TUN | IFF_NO_PI))
        return descriptor

    descriptor = entering.run_in(compartment.namespace, make)
    try:
        run(compartment.namespace, "ip link set ipsec0 up")
        for prefix in prefixes:
            run(compartment.namespace, f"ip route add {prefix} dev ipsec0")
        yield descriptor
    finally:
        os.close(descriptor)


def read(descriptor: int) -> bytes:
    assert select([descriptor], [], [], PATIENCE)[0]
    return os.read(descriptor, 65536)


@FAMILIES
def test_ike_esp_and_echo_of_our_address_leave_by_the_outside(
    compartment: Compartment, service: str, outside: str, vm: str, site: str, peer: str
) -> None:
    ours = internet(outside, peer)
    with wires(compartment.outside) as (wire,):
        for packet in (
            ours / UDP(sport=500, dport=500) / Raw(MARK),
            ours / UDP(sport=4500, dport=61234) / Raw(MARK),
            ours / ESP(spi=1, seq=1, data=MARK),
            ours / echo(peer) / Raw(MARK),
        ):
            send_from(compartment, packet)
            frame = wire.received()
            assert bytes(frame).endswith(MARK)
            assert frame.dst == colons(ROUTER_MAC)
            assert frame.src == colons(leg(compartment.outside).mac)


@FAMILIES
def test_nothing_else_leaves_by_the_outside(
    compartment: Compartment, service: str, outside: str, vm: str, site: str, peer: str
) -> None:
    ours, tenants = internet(outside, peer), internet(service, site)
    error = ICMPv6DestUnreach() if ":" in peer else ICMP(type="dest-unreach")
    with wires(compartment.outside) as (wire,):
        for packet in (
            tenants / UDP(sport=500, dport=500),
            tenants / TCP(dport=80, flags="S"),
            tenants / echo(site),
            tenants / ESP(spi=1, seq=1, data=b"a tenant's own"),
            internet(vm, site) / echo(site),
            ours / UDP(sport=53, dport=53),
            ours / TCP(dport=80, flags="S"),
            ours / tenants / UDP(sport=1, dport=1),
            ours / error / tenants / UDP(sport=1, dport=1),
        ):
            with pytest.raises(PermissionError):
                send_from(compartment, packet)
        mark_outside(compartment, outside, peer)
        assert wire.until(MARK) == []


def test_membership_reports_leave_by_neither_leg(compartment: Compartment) -> None:
    report = internet("::", "ff02::16") / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLReport2()
    for link in ("inside", "outside"):
        with pytest.raises(PermissionError):
            send_from(compartment, report, link)


@FAMILIES
def test_with_its_tunnel_gone_a_vms_packet_goes_nowhere(
    compartment: Compartment, service: str, outside: str, vm: str, site: str, peer: str
) -> None:
    packet = to_compartment(compartment.inside, internet(vm, site) / UDP(sport=1, dport=1) / Raw(b"secret"))
    with wires(compartment.inside, compartment.outside) as (inside_wire, outside_wire):
        with tunnel(compartment, "10.2.0.0/24", "fd00:2::/64") as descriptor:
            inside_wire.send(packet)
            assert read(descriptor).endswith(b"secret")
        inside_wire.send(packet)
        mark_outside(compartment, outside, peer)
        assert outside_wire.until(MARK) == []


@FAMILIES
def test_no_error_about_a_tenants_packet_leaves_by_the_outside(
    compartment: Compartment, service: str, outside: str, vm: str, site: str, peer: str
) -> None:
    packet = internet(peer, site, ttl=1) / UDP(sport=1, dport=1) / Raw(b"secret")
    with wires(compartment.inside, compartment.outside) as (inside_wire, outside_wire):
        inside_wire.send(to_compartment(compartment.inside, packet))
        mark_outside(compartment, outside, peer)
        assert outside_wire.until(MARK) == []


@FAMILIES
def test_what_comes_out_of_a_tunnel_reaches_the_vm(
    compartment: Compartment, service: str, outside: str, vm: str, site: str, peer: str
) -> None:
    with wires(compartment.inside) as (wire,), tunnel(compartment) as descriptor:
        os.write(descriptor, bytes(internet(site, vm) / UDP(sport=1, dport=1) / Raw(MARK)))
        assert bytes(wire.received()).endswith(MARK)


@FAMILIES
def test_what_comes_in_clear_by_the_outside_is_not_forwarded(
    compartment: Compartment, service: str, outside: str, vm: str, site: str, peer: str
) -> None:
    with wires(compartment.inside, compartment.outside) as (inside_wire, outside_wire):
        for packet in (internet(site, vm), internet(peer, vm)):
            outside_wire.send(to_compartment(leg(compartment.outside), packet / UDP(sport=4500, dport=4500)))
        ping = internet(peer, outside) / echo(outside) / Raw(MARK)
        outside_wire.send(to_compartment(leg(compartment.outside), ping))
        assert outside_wire.until(MARK) == []
        send_from(compartment, internet(service, vm) / UDP(sport=1, dport=1) / Raw(MARK))
        assert inside_wire.until(MARK) == []


@FAMILIES
def test_by_the_outside_only_ike_reaches_a_socket(
    compartment: Compartment, service: str, outside: str, vm: str, site: str, peer: str
) -> None:
    family = socket.AF_INET6 if ":" in outside else socket.AF_INET
    with (
        wires(compartment.outside) as (wire,),
        entering.socket_in(compartment.namespace, family, socket.SOCK_DGRAM) as ike,
        entering.socket_in(compartment.namespace, family, socket.SOCK_DGRAM) as other,
    ):
        for daemon, port in ((ike, 500), (other, 501)):
            daemon.settimeout(PATIENCE)
            daemon.bind(("", port))
        for destination, port, payload in ((service, 500, b"to inside"), (outside, 501, b""), (outside, 500, MARK)):
            packet = internet(peer, destination) / UDP(sport=500, dport=port) / Raw(payload)
            wire.send(to_compartment(leg(compartment.outside), packet))
        assert ike.recv(100) == MARK
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(100)


@FAMILIES
def test_ike_reaches_its_daemon_in_fragments_too(
    compartment: Compartment, service: str, outside: str, vm: str, site: str, peer: str
) -> None:
    family = socket.AF_INET6 if ":" in outside else socket.AF_INET
    with (
        entering.socket_in(compartment.namespace, family, socket.SOCK_DGRAM) as daemon,
        wires(compartment.outside) as (wire,),
    ):
        daemon.settimeout(PATIENCE)
        daemon.bind((outside, 4500))
        for fragment in fragments(internet(peer, outside) / UDP(sport=4500, dport=4500) / Raw(b"x" * 1600 + MARK)):
            wire.send(to_compartment(leg(compartment.outside), fragment))
        assert daemon.recv(4000) == b"x" * 1600 + MARK


def fragments(packet: Packet) -> list[Packet]:
    if packet.version == 4:
        return list(packet.fragment(1400))
    whole = bytes(IPv6(bytes(packet)).payload)  # with its checksum
    header = IPv6(src=packet.src, dst=packet.dst)
    return [
        header / IPv6ExtHdrFragment(nh=socket.IPPROTO_UDP, id=7, offset=0, m=1) / Raw(whole[:1400]),
        header / IPv6ExtHdrFragment(nh=socket.IPPROTO_UDP, id=7, offset=1400 // 8, m=0) / Raw(whole[1400:]),
    ]
