"""Frames made up at random for a world: most make sense, many nearly do, some are noise."""

from collections.abc import Callable
from random import Random

from gateway.datapath.model.world import World
from tests.worlds import wire
from tests.worlds.random_packets import random_packet
from tests.worlds.scenery import Link, Scenery, Site, Vm, scenery

BROADCAST = b"\xff" * 6
HOST_MAC = bytes.fromhex("02000000dd02")
STRANGER_MAC = bytes.fromhex("02000000dd77")
STRANGER = {4: bytes((192, 168, 200, 200)), 6: bytes.fromhex("fd00009900000000000000000000dead")}

# Of neighbour discovery: the two link-layer addresses, alone, behind another, cut off, or of another length.
OPTIONS = (
    b"",
    b"\1\1" + HOST_MAC,
    b"\1\1" + HOST_MAC,
    b"\2\1" + HOST_MAC,
    b"\2\1" + HOST_MAC,
    b"\x0e\1nonce!" + b"\1\1" + HOST_MAC,
    b"\1\1" + HOST_MAC[:4],
    b"\1\2" + HOST_MAC + bytes(8),
)

Sent = tuple[str, bytes]


def random_frame(random: Random, world: World) -> Sent:
    """An interface of the world and a frame for it."""
    view = scenery(world)
    draw = random.random()
    for share, build in _KINDS:
        if draw < share:
            interface, frame = build(random, view)
            return interface, _spoiled(random, frame)
        draw -= share
    interface = random.choice(view.providers)[0]
    return interface, random.randbytes(random.randint(14, 200))


def _spoiled(random: Random, frame: bytes) -> bytes:
    """One frame in ten is cut off, padded, or has a byte changed, mostly in the headers."""
    draw = random.random()
    if draw > 0.1:
        return frame
    if draw < 0.03:
        return frame[: random.randint(14, max(14, len(frame) - 1))]
    if draw < 0.05:
        return frame + random.randbytes(random.randint(1, 40))
    at = random.randrange(12, min(len(frame), random.choice((30, 60, 120))))
    return frame[:at] + bytes((random.randrange(256),)) + frame[at + 1 :]


def _family(random: Random) -> int:
    return 4 if random.random() < 0.6 else 6


def _vm(random: Random, site: Site, version: int) -> Vm | None:
    candidates = [vm for vm in site.vms if len(vm.address) == (4 if version == 4 else 16)]
    return random.choice(candidates) if candidates else None


def _tunnelled(
    random: Random, view: Scenery, site: Site, vsid: int, outer_source: bytes | None, encapsulation: str, inner: bytes
) -> Sent:
    source = outer_source
    if source is None or random.random() < 0.1:
        source = random.choice(site.admitted) if site.admitted else STRANGER[4]
    if random.random() < 0.03:
        source = STRANGER[4 if len(source) == 4 else 6]
    if random.random() < 0.03:
        vsid = random.choice((random.choice(random.choice(view.sites).vsids), random.randrange(1 << 24)))
    destination = random.choice(view.own[4 if len(source) == 4 else 6])
    tos = random.choice((0, 0, 0, 0, 0, 0, 1, 2, 3, 0xB8, 0xB8, 0x29))
    kind, packet = wire.tunnel(encapsulation, source, destination, vsid, inner, random.randrange(256), tos)
    if random.random() < 0.03:
        packet = _odd_outer(random, source, destination, vsid, encapsulation, inner)
    interface, vlan, mac = random.choice(view.providers)
    return interface, wire.ethernet(mac, HOST_MAC, kind, packet, vlan or (0 if random.random() < 0.02 else None))


def _odd_outer(random: Random, source: bytes, destination: bytes, vsid: int, encapsulation: str, inner: bytes) -> bytes:
    """Fragments, options, wrong lengths and flags in the outer headers."""
    if encapsulation == "nvgre":
        flags = random.choice((0x2000, 0x3000, 0xA000, 0x0000))
        protocol, payload = wire.GRE, wire.nvgre(vsid, 1, inner, flags, random.choice((0x6558, 0x6558, 0x0800)))
    else:
        payload = wire.vxlan(vsid, 50000, inner, random.choice((8, 8, 0, 0xFF)), random.choice((0, 0x1234)))
        protocol = wire.UDP
    payload = payload[: random.choice((len(payload), random.randint(0, len(payload))))]
    length = random.choice((None, random.randint(0, 40 + len(payload)), len(payload) + 60))
    if len(source) == 16:
        return wire.ipv6(source, destination, protocol, payload, length=length)
    fragment = random.choice((0, 0x4000, 0x2000, 0x0003, 0x2003))
    options = random.choice((b"", b"", b"\1" * 8))
    return wire.ipv4(source, destination, protocol, payload, fragment=fragment, length=length, options=options)


def _overlay(random: Random, view: Scenery) -> Sent:
    site = random.choice(view.sites)
    version = _family(random)
    vm = _vm(random, site, version)
    if vm is None or random.random() < 0.05:
        vsid, source_mac, outer, encapsulation = random.choice(site.vsids), STRANGER_MAC, None, "vxlan"
        source = random.choice(site.destinations[version])
    else:
        vsid, source_mac, outer, encapsulation = vm.vsid, vm.mac, vm.provider_address, vm.encapsulation
        source = vm.address
    if encapsulation == "rewrite":
        outer, encapsulation = None, random.choice(("vxlan", "nvgre"))
    packet = random_packet(random, source, random.choice(site.destinations[version]))
    destination_mac, kind = view.router_mac, wire.kind_of(source)
    if random.random() < 0.05:
        destination_mac = random.choice((BROADCAST, STRANGER_MAC, b"\x33\x33\0\0\0\1"))
        kind = random.choice((kind, 0x8100, 0x88A8, 0x88CC, 0x0806))
    return _tunnelled(
        random, view, site, vsid, outer, encapsulation, wire.ethernet(destination_mac, source_mac, kind, packet)
    )


def _overlay_question(random: Random, view: Scenery) -> Sent:
    """ARP or neighbour discovery inside a virtual subnet."""
    site = random.choice(view.sites)
    version = _family(random)
    vm = _vm(random, site, version)
    if vm is None:
        return _overlay(random, view)
    asked = random.choice(site.routers[version] + site.destinations[version] + [vm.address])
    asker_mac = random.choice((vm.mac, vm.mac, STRANGER_MAC))
    if version == 4:
        data = wire.arp(random.choice((1, 1, 1, 2)), asker_mac, random.choice((vm.address, asked)), bytes(6), asked)
        inner = wire.ethernet(BROADCAST, vm.mac, wire.ARP, data + bytes(random.choice((0, 18))))
    else:
        source = random.choice((vm.address, vm.address, vm.address, bytes(16), asked))
        data = wire.discovery(random.choice((135, 135, 135, 136)), source, asked, asked, b"\1\1" + asker_mac)
        inner = wire.ethernet(b"\x33\x33\xff" + asked[13:], vm.mac, wire.IPV6, data)
    encapsulation = random.choice(("vxlan", "nvgre"))
    vsid = vm.vsid if random.random() < 0.9 else random.choice(site.vsids)
    return _tunnelled(random, view, site, vsid, None, encapsulation, inner)


def _on_link(link: Link, destination_mac: bytes, kind: int, payload: bytes) -> Sent:
    frame = wire.ethernet(destination_mac, HOST_MAC, kind, payload, link.vlan or None)
    return link.interface, frame


def _external(random: Random, view: Scenery) -> Sent:
    if not view.links:
        return _overlay(random, view)
    site = random.choice([site for site in view.sites if site.links])
    link = random.choice(site.links)
    version = _family(random)
    source = random.choice(link.others[version] + site.destinations[version])
    packet = random_packet(random, source, random.choice(site.destinations[version]))
    destination_mac = link.mac if random.random() < 0.97 else random.choice((BROADCAST, STRANGER_MAC))
    kind = wire.kind_of(source) if random.random() < 0.98 else 0x88CC
    return _on_link(link, destination_mac, kind, packet)


def _external_question(random: Random, view: Scenery) -> Sent:
    """ARP or neighbour discovery between the gateway and its neighbours outside."""
    if not view.links:
        return _overlay_question(random, view)
    link = random.choice(view.links)
    version = _family(random)
    if not link.local[version] or not link.others[version]:
        version = 10 - version
    if not link.local[version] or not link.others[version]:
        return _external(random, view)
    local, other = random.choice(link.local[version]), random.choice(link.others[version])
    target = random.choice((local, local, local, other))
    if version == 4:
        sender = random.choice((other, other, other, target, bytes(4)))
        data = wire.arp(random.choice((1, 2)), HOST_MAC, sender, link.mac, target) + bytes(random.choice((0, 18)))
        if random.random() < 0.05:
            data = data[:4] + random.randbytes(2) + data[6:]
        return _on_link(link, random.choice((BROADCAST, link.mac)), wire.ARP, data)
    if random.random() < 0.5:
        source = random.choice((other, other, bytes(16)))
        option = random.choice(OPTIONS)
        data = wire.discovery(135, source, b"\xff\2" + bytes(9) + b"\1\xff" + target[13:], target, option)
        return _on_link(link, b"\x33\x33\xff" + target[13:], wire.IPV6, data)
    data = wire.discovery(136, other, target, other, random.choice(OPTIONS))
    return _on_link(link, link.mac, wire.IPV6, data)


def _rewritten(random: Random, view: Scenery) -> Sent:
    """Between provider addresses that stand for customer addresses, or nearly so."""
    if not view.own_rewritten:
        return _overlay(random, view)
    receiver = random.choice(view.own_rewritten)
    size = len(receiver.provider_address)
    senders = [vm for vm in view.rewritten if len(vm.provider_address) == size]
    sender = random.choice(senders) if senders and random.random() < 0.9 else None
    source = sender.provider_address if sender else STRANGER[4 if size == 4 else 6]
    packet = random_packet(random, source, receiver.provider_address)
    interface, vlan, mac = random.choice(view.providers)
    source_mac = sender.mac if sender and random.random() < 0.3 else HOST_MAC
    return interface, wire.ethernet(mac, source_mac, wire.kind_of(source), packet, vlan or None)


def _not_for_us(random: Random, view: Scenery) -> Sent:
    """On a provider port, but no tunnel: for Linux."""
    interface, vlan, mac = random.choice(view.providers)
    version = _family(random)
    source, destination = STRANGER[version], random.choice(view.own[version] + [STRANGER[version]])
    packet = random_packet(random, source, destination)
    kind = random.choice((wire.kind_of(source),) * 4 + (wire.ARP, 0x88CC, 0x8100, 0x88A8))
    return interface, wire.ethernet(mac, HOST_MAC, kind, packet, random.choice((vlan or None, vlan or None, 999)))


_KINDS: tuple[tuple[float, Callable[[Random, Scenery], Sent]], ...] = (
    (0.52, _overlay),
    (0.08, _overlay_question),
    (0.22, _external),
    (0.06, _external_question),
    (0.07, _rewritten),
    (0.03, _not_for_us),
)
