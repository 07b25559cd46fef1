"""Frames for worlds with load balancers: to addresses that stand for others, and in answer to what has left."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from random import Random

from gateway.datapath.model import ethernet, tunnels
from gateway.datapath.model.checksum import store
from gateway.datapath.model.tunnels import Tunnel
from gateway.datapath.model.verdict import Verdict
from gateway.datapath.model.world import World
from gateway.policy.model import LookupRecord, Policy, RoutingDomain
from tests.worlds import places, wire
from tests.worlds.random_balancers import INTERNET_PORTS
from tests.worlds.random_frames import HOST_MAC, Sent, random_frame
from tests.worlds.random_packets import ACK, FIN, RST, SYN, random_packet
from tests.worlds.scenery import packed
from tests.worlds.wire import mac

CLIENTS = {4: ("198.18.0.7", "198.18.0.8", "203.0.113.77"), 6: ("2001:db8:7::7", "2001:db8:113::77")}
ROUTERS = {4: "198.18.9.9", 6: "2001:db8:9::9"}
PROVIDER = {4: packed("192.168.6.2"), 6: packed("fd00:99::2")}
OWN = frozenset(packed(text) for text in places.OWN_ADDRESSES)
REMEMBERED = 24

Reply = Callable[[bytes], Sent]


@dataclass
class Conversation:
    """Who talks through a world: begins, answers, complains by ICMP, and says things again."""

    world: World
    left: deque[tuple[bytes, Reply]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    came: deque[Sent] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def next_frame(self, random: Random) -> Sent:
        draw = random.random()
        if draw < 0.35 and self.left:
            packet, reply = random.choice(self.left)
            return reply((_complaint if random.random() < 0.25 else _answer)(random, packet))
        if draw < 0.45 and self.came:
            return random.choice(self.came)
        if draw > 0.9:
            return random_frame(random, self.world)
        sent = self._from_outside(random) if draw < 0.65 else self._from_machine(random)
        self.came.append(sent)
        return sent

    def heard(self, verdict: Verdict) -> None:
        """What the world made of the last frame."""
        if verdict.action == "ordered" and verdict.frame is not None and verdict.interface is not None:
            self.came.append((verdict.interface, _a_hop_further(verdict.frame)))
        if verdict.action != "forwarded" or verdict.frame is None or verdict.interface is None:
            return
        interface, frame = verdict.interface, ethernet.parse(verdict.frame)
        assert frame is not None
        outer = tunnels.parse_outer(frame)
        tunnel = None
        if outer is not None and outer.source.packed in OWN and interface in ("p0", "p1"):
            tunnel = tunnels.decapsulate(outer, frozenset((outer.destination,)))
        if tunnel is not None:
            self.left.append((tunnel.inner[14:], self._from_host(tunnel)))
            return
        vlan, back_to = frame.vlan or None, frame.source

        def reply(packet: bytes) -> Sent:
            return interface, wire.ethernet(back_to, HOST_MAC, _kind(packet), packet, vlan)

        self.left.append((frame.payload, reply))

    def _from_host(self, tunnel: Tunnel) -> Reply:
        def reply(packet: bytes) -> Sent:
            inner = wire.ethernet(tunnel.inner[6:12], tunnel.inner[:6], _kind(packet), packet)
            return self._tunnelled(tunnel.encapsulation, tunnel.destination.packed, tunnel.vsid, inner)

        return reply

    def _tunnelled(self, encapsulation: str, host: bytes, vsid: int, inner: bytes) -> Sent:
        kind, packet = wire.tunnel(encapsulation, host, PROVIDER[4 if len(host) == 4 else 6], vsid, inner)
        return "p0", wire.ethernet(mac(self.world.interfaces["p0"].mac), HOST_MAC, kind, packet)

    def _from_outside(self, random: Random) -> Sent:
        port = random.choice((INTERNET_PORTS[0], INTERNET_PORTS[0], INTERNET_PORTS[1]))
        vlan = port.vlan or None
        destination = packed(random.choice(self._public))
        source = packed(random.choice(CLIENTS[4 if len(destination) == 4 else 6]))
        if random.random() < 0.04 and len(destination) == 4:
            question = wire.arp(1, HOST_MAC, packed("203.0.113.254"), bytes(6), destination)
            return port.interface, wire.ethernet(b"\xff" * 6, HOST_MAC, wire.ARP, question, vlan)
        own = mac(self.world.interfaces[port.interface].mac)
        if random.random() < 0.04 and len(destination) == 16:
            question = wire.discovery(135, packed("2001:db8:113::fe"), destination, destination, b"\1\1" + HOST_MAC)
            return port.interface, wire.ethernet(own, HOST_MAC, wire.IPV6, question, vlan)
        packet = random_packet(random, source, destination)
        return port.interface, wire.ethernet(own, HOST_MAC, _kind(packet), packet, vlan)

    @cached_property
    def _public(self) -> list[str]:
        own = [address for port in INTERNET_PORTS for address in port.own_addresses()]
        return own + [one for domain in self.world.policy.routing_domains for one in _public(domain) * 6]

    @cached_property
    def _machines(self) -> list[tuple[LookupRecord, list[str]]]:
        """Whoever is encapsulated, and the addresses that are worth sending to from there."""
        return [
            (record, _targets(domain, self.world.policy, ":" in record.customer_address))
            for domain in self.world.policy.routing_domains
            for record in domain.lookup_records
            if record.type in ("static", "dynamic") and record.encapsulation != "rewrite"
        ]

    def _from_machine(self, random: Random) -> Sent:
        if not self._machines:
            return self._from_outside(random)
        machine, targets = random.choice(self._machines)
        source, destination = packed(machine.customer_address), packed(random.choice(targets))
        destination_mac, kind = mac(self.world.router_mac), wire.kind_of(source)
        packet = random_packet(random, source, destination)
        if random.random() < 0.05:
            destination_mac = b"\xff" * 6
            kind, packet = _question(mac(machine.mac), source, destination)
        inner = wire.ethernet(destination_mac, mac(machine.mac), kind, packet)
        return self._tunnelled(machine.encapsulation, packed(machine.provider_address), machine.vsid, inner)


def _a_hop_further(frame: bytes) -> bytes:
    """What Linux gives back of a fragment that it has put in order."""
    data, at = bytearray(frame), 14
    data[:6], data[6:12] = frame[6:12], frame[:6]
    if data[at] >> 4 == 6:
        data[at + 7] -= 1
    else:
        store(data, at + 8, bytes([data[at + 8] - 1]), at + 10)
    return bytes(data)


def _kind(packet: bytes) -> int:
    return wire.IPV4 if packet[:1] and packet[0] >> 4 == 4 else wire.IPV6


def _question(asker_mac: bytes, source: bytes, target: bytes) -> tuple[int, bytes]:
    if len(target) == 4:
        return wire.ARP, wire.arp(1, asker_mac, source, bytes(6), target)
    return wire.IPV6, wire.discovery(135, source, target, target, b"\1\1" + asker_mac)


def _public(domain: RoutingDomain) -> list[str]:
    frontends = [one.address for balancer in domain.load_balancers for one in balancer.frontends if one.public]
    return frontends + [one.address for one in domain.public_addresses]


def _targets(domain: RoutingDomain, policy: Policy, is_six: bool) -> list[str]:
    inside = [one.address for balancer in domain.load_balancers for one in balancer.frontends if not one.public]
    machines = [one.customer_address for one in domain.lookup_records if one.type in ("static", "dynamic")]
    public = [address for one in policy.routing_domains for address in _public(one)]
    everywhere = inside * 5 + machines + public + list(CLIENTS[6 if is_six else 4]) * 4
    return [one for one in everywhere if (":" in one) == is_six]


def _parts(packet: bytes) -> tuple[bytes, bytes, int, bytes]:
    """Source, destination, protocol and what is behind the IP header; of a fragment too."""
    if packet[0] >> 4 == 4:
        return packet[12:16], packet[16:20], packet[9], packet[20 : int.from_bytes(packet[2:4])]
    end = 40 + int.from_bytes(packet[4:6])
    if packet[6] == 44:
        return packet[8:24], packet[24:40], packet[40], packet[48:end]
    return packet[8:24], packet[24:40], packet[6], packet[40:end]


def _answer(random: Random, packet: bytes) -> bytes:
    """What the receiver may say to that: ports and addresses the other way round; now and then in fragments."""
    source, destination, protocol, transport = _parts(packet)
    ports = int.from_bytes(transport[2:4]), int.from_bytes(transport[:2])
    if protocol == wire.TCP:
        flags = random.choice((SYN | ACK, ACK, ACK, FIN | ACK, RST))
        said = wire.tcp(*ports, flags, payload=bytes(random.choice((0, 20))))
    elif protocol == wire.UDP:
        said = wire.udp(*ports, bytes(random.choice((0, 20))), random.choice((0, 0xBEEF)))
    elif protocol in (wire.ICMP, wire.ICMPV6):
        said = bytes((0 if protocol == wire.ICMP else 129,)) + transport[1:]
    else:
        said = transport
    if random.random() > 0.15:
        return wire.ip(destination, source, protocol, said)
    return _fragment(random, destination, source, protocol, said)


def _fragment(random: Random, source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    number, is_first = random.choice((1, 2)), random.random() < 0.5
    if len(source) == 4:
        word = 0x2000 if is_first else 0x0003
        return wire.ipv4(source, destination, protocol, payload, fragment=word, identification=number)
    header = wire.fragment_header(protocol, 1 if is_first else 3 << 3, number)
    return wire.ipv6(source, destination, 44, header + payload)


def _complaint(random: Random, packet: bytes) -> bytes:
    """An ICMP error about the packet, from its receiver or a router on the way; of it, more or less is quoted."""
    source, destination, _, _ = _parts(packet)
    version = 4 if len(source) == 4 else 6
    least = (20 if version == 4 else 40) + 8
    quote = packet[: random.choice((least, least, len(packet), least + 12, least - 1))]
    sender = random.choice((destination, destination, packed(ROUTERS[version])))
    if version == 4:
        return wire.ip(sender, source, wire.ICMP, wire.icmp(random.choice((3, 11)), 1, 0, quote))
    return wire.ip(sender, source, wire.ICMPV6, wire.icmp(random.choice((1, 2, 3)), 0, 0, quote))
