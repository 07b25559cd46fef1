"""A universe small enough to go through whole: two domains with equal prefixes, two virtual subnets each."""

from collections.abc import Iterator
from itertools import product
from typing import Literal

from gateway.datapath.model.world import World
from gateway.policy.model import (
    AccessControlList,
    AccessRule,
    AppliesTo,
    ConnectionRoute,
    CustomerRoute,
    Host,
    LookupRecord,
    NetworkConnection,
    Policy,
    ProviderAddress,
    RoutingDomain,
    VirtualSubnet,
)
from tests.worlds import places, wire
from tests.worlds.random_frames import HOST_MAC, STRANGER, STRANGER_MAC, Sent
from tests.worlds.scenery import Link, Scenery, Site, Vm, packed, scenery

Encapsulation = Literal["vxlan", "nvgre", "rewrite"]
Kind = Literal["static", "gateway_wildcard"]

ROUTED = {
    4: ("10.1.1.99", "10.1.2.99", "10.1.1.77", "172.16.1.1", "8.8.8.8", "157.1.0.9", "157.1.0.10"),
    6: ("fd00:1::99", "2001:db8::1", "fd00:157::9"),
}
KNOWN_NEIGHBOURS = ("157.1.0.1", "157.1.0.2", "157.1.0.9", "fd00:157::2", "fd00:157::9", "10.1.2.32", "fd00:1::32")


def small_worlds() -> Iterator[World]:
    """The universe with and without access lists, in either DSCP model."""
    for dscp, with_lists in product(("uniform", "pipe"), (False, True)):
        policy = Policy(
            hosts=(Host(id="host1", provider_addresses=(_pa("192.168.1.10"), _pa("192.168.1.11"))),),
            routing_domains=(_domain("blue", 6001, with_lists), _domain("red", 5001, with_lists)),
        )
        records = [record for domain in policy.routing_domains for record in domain.lookup_records]
        underlay = {record.provider_address: places.hop(record.provider_address, 1600) for record in records}
        world = World(
            policy,
            places.PORTS,
            places.ROUTER_MAC,
            places.interfaces(),
            {**underlay, "192.168.2.20": None, "192.168.6.3": None, "fd00:99::3": None},
            dscp=dscp,
        )
        for vlan, address in product((0, 10), KNOWN_NEIGHBOURS):
            world.neighbours["x0", vlan, address] = f"02-00-00-00-DD-{vlan:02X}"
        yield world


def _pa(address: str) -> ProviderAddress:
    return ProviderAddress(address, 24)


def _domain(name: str, vsid: int, with_lists: bool) -> RoutingDomain:
    is_blue = name == "blue"
    own = "192.168.6.3" if is_blue else "fd00:99::3"
    outside = "10.1.2.32" if is_blue else "fd00:1::32"
    return RoutingDomain(
        id=f"11111111-2222-3333-4444-{vsid:012d}",
        name=name,
        virtual_subnets=(
            VirtualSubnet(vsid=vsid, prefixes=("10.1.1.0/24", "fd00:1::/64")),
            VirtualSubnet(vsid=vsid + 1, prefixes=("10.1.2.0/24",), gateways=("10.1.2.254",)),
        ),
        lookup_records=(
            _record(vsid, "10.1.1.11", "192.168.1.10", "nvgre"),
            _record(vsid, "10.1.1.12", "fd00:99::10", "vxlan" if is_blue else "nvgre"),
            _record(vsid, "10.1.1.13", "192.168.2.20", "vxlan"),
            _record(vsid, "fd00:1::11", "192.168.1.10", "vxlan"),
            _record(vsid + 1, "10.1.2.21", "192.168.6.4", "vxlan"),
            _record(vsid + 1, "10.1.2.22", "192.168.6.4", "nvgre"),
            _record(vsid + 1, "10.1.2.31", "192.168.50.1" if is_blue else "192.168.50.2", "rewrite"),
            _record(vsid, "fd00:1::31", "fd00:50::1" if is_blue else "fd00:50::2", "rewrite"),
            _record(vsid if ":" in outside else vsid + 1, outside, own, "rewrite"),
            *([_record(vsid + 1, "0.0.0.0", "192.168.6.4", "vxlan", "gateway_wildcard")] if is_blue else []),
        ),
        customer_routes=(
            CustomerRoute(prefix="172.16.0.0/12", next_hop="10.1.2.21"),
            CustomerRoute(prefix="172.16.0.0/12", next_hop="10.1.2.22"),
            CustomerRoute(prefix="10.1.1.0/24", vsid=vsid),
        ),
        network_connections=(
            NetworkConnection(
                name="corpnet",
                port="corpnet",
                vlan=0 if is_blue else 10,
                local_addresses=("157.1.0.254/16", "fd00:157::fe/64"),
                routes=(
                    ConnectionRoute(prefix="157.1.0.0/16"),
                    ConnectionRoute(prefix="10.1.1.77/32", next_hop="157.1.0.1"),
                    ConnectionRoute(prefix=f"{outside}/{128 if ':' in outside else 32}"),
                    *([ConnectionRoute(prefix="0.0.0.0/0", next_hop="157.1.0.1")] if is_blue else []),
                ),
            ),
        ),
        access_control_lists=_lists(vsid) if with_lists else (),
    )


def _record(
    vsid: int, address: str, provider_address: str, encapsulation: Encapsulation, kind: Kind = "static"
) -> LookupRecord:
    last = packed(address)[-1]
    return LookupRecord(
        vsid=vsid,
        customer_address=address,
        mac=f"02-10-{vsid % 251:02X}-00-{6 if ':' in address else 4:02X}-{last:02X}",
        provider_address=provider_address,
        encapsulation=encapsulation,
        type=kind,
    )


def _lists(vsid: int) -> tuple[AccessControlList, ...]:
    web = AccessRule(priority=10, direction="inbound", action="allow", protocol="tcp", destination_ports="80")
    other = AccessRule(priority=20, direction="inbound", action="allow", protocol=132)
    no_udp = AccessRule(priority=5, direction="outbound", action="deny", protocol="udp", destination_prefix="8.0.0.0/8")
    return (
        AccessControlList(
            name="web", applies_to=(AppliesTo(vsid=vsid + 1),), default_inbound="deny", rules=(web, other)
        ),
        AccessControlList(name="quiet", applies_to=(AppliesTo(customer_address="10.1.1.11"),), rules=(no_udp,)),
    )


def small_frames(world: World) -> Iterator[Sent]:
    """Every frame of the universe: who sends, to whom, what, and how it arrives."""
    view = scenery(world)
    for site in view.sites:
        yield from _overlay_packets(view, site)
        yield from _overlay_questions(view, site)
        for link in site.links:
            yield from _external_packets(site, link)
            yield from _external_questions(link)
    yield from _marks(view)
    yield from _rewritten(view)
    yield from _cut_off(view)
    yield from _tagged_and_strange(view)


def _packets(source: bytes, destination: bytes) -> Iterator[bytes]:
    """One IP packet of each sort."""
    four = len(source) == 4
    echo = wire.echo(source, 7, b"abcd")
    yield wire.ip(source, destination, *echo)
    yield wire.ip(source, destination, *echo, ttl=1)
    yield wire.ip(source, destination, *wire.echo(source, 7, reply=True))
    yield wire.ip(source, destination, wire.TCP, wire.tcp(4000, 80, 2, b"\2\4\x23\x28"))
    yield wire.ip(source, destination, wire.TCP, wire.tcp(80, 4000, 16))
    yield wire.ip(source, destination, wire.UDP, wire.udp(53, 53, b"", 0xBEEF))
    yield wire.ip(source, destination, wire.UDP, wire.udp(53, 9, bytes(1600)))
    yield wire.ip(source, destination, 132, bytes(12))
    if four:
        yield wire.ipv4(source, destination, *echo, options=b"\1\1\1\0")
    else:
        yield wire.ipv6(source, destination, wire.HOP_BY_HOP, bytes((wire.ICMPV6, 0, 1, 4, 0, 0, 0, 0)) + echo[1])
    yield from _fragments(source, destination, *echo)
    yield from _errors(source, destination)


def _errors(source: bytes, destination: bytes) -> Iterator[bytes]:
    """ICMP errors about packets that went the other way: quoted whole, cut off before padding, or unlike a flow."""
    four = len(source) == 4
    protocol, kind = (wire.ICMP, 3) if four else (wire.ICMPV6, 1)
    segment = wire.tcp(80, 4000, 16)[:8]
    whole = wire.ip(destination, source, wire.TCP, segment)
    query = wire.icmp(13 if four else 130, 0, 7 << 16, bytes(4))
    if four:
        fragment = wire.ipv4(destination, source, wire.TCP, segment, fragment=5)
        options = wire.ipv4(destination, source, wire.TCP, segment, options=bytes(4))
    else:
        fragment = wire.ipv6(destination, source, 44, wire.fragment_header(wire.TCP, 5 << 3, 1) + segment)
        options = wire.ipv6(destination, source, wire.HOP_BY_HOP, bytes((wire.TCP, *bytes(7))) + segment)
    for quote in (whole, fragment, options, wire.ip(destination, source, protocol, query)):
        yield wire.ip(source, destination, protocol, wire.icmp(kind, 1, 0, quote))
    cut_off = wire.icmp(kind, 1, 0, whole[:-1])
    yield wire.ip(source, destination, protocol, cut_off) + whole[-1:]


def _fragments(source: bytes, destination: bytes, protocol: int, payload: bytes) -> Iterator[bytes]:
    for offset, more in ((0, 1), (1, 0)):
        if len(source) == 4:
            word = more << 13 | offset
            yield wire.ipv4(source, destination, protocol, payload, fragment=word, identification=9)
        else:
            header = wire.fragment_header(protocol, offset << 3 | more, 9)
            yield wire.ipv6(source, destination, 44, header + payload)


def _destinations(site: Site, version: int) -> list[bytes]:
    size = 4 if version == 4 else 16
    links = [address for link in site.links for address in link.local[version]]
    routed = [packed(text) for text in ROUTED[version]]
    odd = ("0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255") if version == 4 else ("::1", "ff02::1", "fe80::1")
    vms = [vm.address for vm in site.vms if len(vm.address) == size]
    return vms + site.routers[version] + links + routed + [packed(text) for text in odd]


def _version(address: bytes) -> int:
    return 4 if len(address) == 4 else 6


def _own(view: Scenery, source: bytes) -> bytes:
    return view.own[_version(source)][0]


def _in_tunnel(
    view: Scenery, vm: Vm, encapsulation: str, inner: bytes, outer_source: bytes | None = None, tos: int = 0
) -> Sent:
    source = outer_source or (packed("192.168.1.10") if vm.encapsulation == "rewrite" else vm.provider_address)
    interface, vlan, mac = view.providers[0]
    kind, packet = wire.tunnel(encapsulation, source, _own(view, source), vm.vsid, inner, 3, tos)
    return interface, wire.ethernet(mac, HOST_MAC, kind, packet, vlan or None)


def _overlay_packets(view: Scenery, site: Site) -> Iterator[Sent]:
    for vm in site.vms:
        for destination in _destinations(site, _version(vm.address)):
            for packet in _packets(vm.address, destination):
                inner = wire.ethernet(view.router_mac, vm.mac, wire.kind_of(vm.address), packet)
                yield _in_tunnel(view, vm, "nvgre", inner)
                yield _in_tunnel(view, vm, "vxlan", inner)


def _overlay_questions(view: Scenery, site: Site) -> Iterator[Sent]:
    for vm in site.vms:
        version = _version(vm.address)
        for target in _destinations(site, version):
            if version == 4:
                for operation, sender in product((1, 2), (vm.address, target)):
                    data = wire.arp(operation, vm.mac, sender, bytes(6), target)
                    yield _in_tunnel(view, vm, "nvgre", wire.ethernet(b"\xff" * 6, vm.mac, wire.ARP, data))
            else:
                for source in (vm.address, bytes(16), target):
                    data = wire.discovery(135, source, target, target, b"\1\1" + vm.mac)
                    yield _in_tunnel(view, vm, "vxlan", wire.ethernet(b"\x33\x33\0\0\0\1", vm.mac, wire.IPV6, data))


def _external_packets(site: Site, link: Link) -> Iterator[Sent]:
    for version in (4, 6):
        for source in (*link.others[version][:1], packed(ROUTED[version][0])):
            for destination in _destinations(site, version):
                for packet in _packets(source, destination):
                    frame = wire.ethernet(link.mac, HOST_MAC, wire.kind_of(source), packet, link.vlan or None)
                    yield link.interface, frame


def _external_questions(link: Link) -> Iterator[Sent]:
    vlan = link.vlan or None
    addresses = (link.local[4][0], packed("157.1.0.9"), packed("157.1.0.55"), bytes(4))
    for operation, sender, target in product((1, 2, 3), addresses, addresses):
        data = wire.arp(operation, STRANGER_MAC, sender, bytes(6), target)
        yield link.interface, wire.ethernet(b"\xff" * 6, STRANGER_MAC, wire.ARP, data, vlan)
    six = (link.local[6][0], packed("fd00:157::9"), packed("fd00:157::55"), bytes(16))
    for kind, source, destination, target in product((135, 136, 137), six, six, six):
        option = bytes((kind - 134, 1)) + STRANGER_MAC
        data = wire.discovery(kind, source, destination, target, option)
        yield link.interface, wire.ethernet(link.mac, STRANGER_MAC, wire.IPV6, data, vlan)


def _marks(view: Scenery) -> Iterator[Sent]:
    """Every congestion mark inside and outside, every DSCP bit, every outer source, every VSID."""
    vm = next(vm for vm in view.sites[0].vms if len(vm.address) == 4)
    destination = view.sites[0].vms[4].address
    for inner_tos, outer_tos in product((0, 1, 2, 3, 0xB8, 0xBB), (0, 1, 2, 3, 0x29)):
        packet = wire.ip(vm.address, destination, *wire.echo(vm.address, 1), tos=inner_tos)
        inner = wire.ethernet(view.router_mac, vm.mac, wire.IPV4, packet)
        yield _in_tunnel(view, vm, "vxlan", inner, tos=outer_tos)
    packet = wire.ip(vm.address, destination, *wire.echo(vm.address, 1))
    inner = wire.ethernet(view.router_mac, vm.mac, wire.IPV4, packet)
    sources = {source for site in view.sites for source in site.admitted} | set(STRANGER.values())
    vsids = [vsid for site in view.sites for vsid in site.vsids]
    for source, vsid in product(sorted(sources), (*vsids, 0, 4999, 0xFFFFFF)):
        yield _in_tunnel(view, Vm(vsid, vm.address, vm.mac, source, "vxlan"), "vxlan", inner)


def _rewritten(view: Scenery) -> Iterator[Sent]:
    interface, vlan, mac = view.providers[0]
    for receiver in view.own_rewritten:
        size = len(receiver.provider_address)
        senders = [vm.provider_address for vm in (*view.rewritten, *view.own_rewritten)]
        for source in (*senders, *STRANGER.values()):
            if len(source) == size:
                for packet in _packets(source, receiver.provider_address):
                    yield interface, wire.ethernet(mac, HOST_MAC, wire.kind_of(source), packet, vlan or None)


def _cut_off(view: Scenery) -> Iterator[Sent]:
    """Four good frames, cut off at every length, and with every byte of their headers changed."""
    site = view.sites[0]
    for vm in site.vms[:2] + [vm for vm in site.vms if len(vm.address) == 16][:1]:
        destination = site.links[0].others[_version(vm.address)][0]
        packet = wire.ip(vm.address, destination, wire.TCP, wire.tcp(4000, 80, 2, b"\1\1\2\4\x23\x28\1\0"))
        inner = wire.ethernet(view.router_mac, vm.mac, wire.kind_of(vm.address), packet)
        for encapsulation in ("nvgre", "vxlan"):
            interface, frame = _in_tunnel(view, vm, encapsulation, inner)
            for length in range(14, len(frame)):
                yield interface, frame[:length]
            for at, change in product(range(len(frame)), (0x01, 0x80, 0xFF)):
                yield interface, frame[:at] + bytes((frame[at] ^ change,)) + frame[at + 1 :]


def _tagged_and_strange(view: Scenery) -> Iterator[Sent]:
    """Inner frames that are not for the router, tags that no port has, and what is no tunnel."""
    vm = view.sites[0].vms[0]
    packet = wire.ip(vm.address, packed("157.1.0.9"), *wire.echo(vm.address, 1))
    for destination, kind in product(
        (view.router_mac, STRANGER_MAC, b"\xff" * 6), (wire.IPV4, wire.IPV6, wire.ARP, wire.VLAN, 0x88A8, 0x88CC)
    ):
        yield _in_tunnel(view, vm, "nvgre", wire.ethernet(destination, vm.mac, kind, packet))
    interface, _, mac = view.providers[0]
    for kind, tag in product((wire.IPV4, wire.IPV6, wire.ARP, wire.VLAN, 0x88A8, 0x88CC), (None, 0, 1, 10, 4095)):
        yield interface, wire.ethernet(mac, HOST_MAC, kind, packet, tag)
        yield "x0", wire.ethernet(view.links[0].mac, HOST_MAC, kind, packet, tag)
    for protocol, fragment, options in product((wire.GRE, wire.UDP, 1), (0, 0x2000, 1), (b"", b"\1" * 4)):
        payload = wire.vxlan(vm.vsid, 1, bytes(20)) if protocol == wire.UDP else wire.nvgre(vm.vsid, 1, bytes(20))
        outer = wire.ipv4(vm.provider_address, view.own[4][0], protocol, payload, fragment=fragment, options=options)
        yield interface, wire.ethernet(mac, HOST_MAC, wire.IPV4, outer)
