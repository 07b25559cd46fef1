"""IP packets made up at random between two addresses."""

from random import Random

from tests.worlds import wire

PORTS = (80, 443, 53, 8085, 1024, 40000, 4789)
SYN, ACK, FIN, RST = 2, 16, 1, 4
MSS_OPTIONS = (
    b"\2\4\x05\xb4",
    b"\1\1\1\2\4\x05\xb4\0",
    b"\2\4\x23\x00\1\3\3\7",
    b"\1" * 12,
    b"\3\3\7\2\4\xff\xff\0",
    b"\2\3\x05\2\4\x22\x22\0",
    b"\2\1\0\0",
    b"\x08\x28\0\0",
    b"\0\0\0\0\2\4\x23\x00",
)


def random_packet(random: Random, source: bytes, destination: bytes) -> bytes:
    """Mostly proper; one in ten has lengths, fragments, options or extension headers that a router must look at."""
    protocol, payload = _transport(random, source, destination)
    ttl = 64 if random.random() < 0.94 else random.choice((0, 1, 2, 255))
    tos = random.choice((0, 0, 0, 1, 2, 3, 0x28, 0xBA))
    draw = random.random()
    if len(source) == 4:
        if draw > 0.12:
            return wire.ipv4(source, destination, protocol, payload, ttl=ttl, tos=tos, fragment=0x4000)
        return _odd_ipv4(random, source, destination, protocol, payload)
    if draw > 0.12:
        return wire.ipv6(source, destination, protocol, payload, hop_limit=ttl, traffic_class=tos, flow_label=5)
    return _odd_ipv6(random, source, destination, protocol, payload)


def _ports(random: Random) -> tuple[int, int]:
    """Mostly those of two flows, in either direction, so that replies and errors meet what they belong to."""
    if random.random() < 0.7:
        return random.choice(((40000, 80), (80, 40000), (1024, 53), (53, 1024)))
    return random.choice(PORTS), random.choice(PORTS)


def _transport(random: Random, source: bytes, destination: bytes) -> tuple[int, bytes]:
    draw = random.random()
    size = random.choice((0, 0, 4, 32, 100))
    if draw < 0.02:
        size = random.randint(1300, 1700)
    payload = bytes(size)
    ports = _ports(random)
    if draw < 0.35:
        flags = random.choice((SYN, SYN, SYN | ACK, ACK, ACK, FIN | ACK, RST))
        segment = wire.tcp(*ports, flags, random.choice(MSS_OPTIONS) if flags & SYN else b"", payload)
        return wire.TCP, _odd_segment(random, segment) if random.random() < 0.05 else segment
    if draw < 0.6:
        return wire.UDP, wire.udp(*ports, payload, random.choice((0, 0xBEEF)))
    if draw < 0.8:
        return wire.echo(source, random.choice((1, 2, 3)), payload, reply=random.random() < 0.4)
    if draw < 0.93:
        return _icmp_other(random, source, destination)
    return random.choice((132, 50, 47, 1, 58, 2)), random.randbytes(random.choice((0, 4, 8, 20)))


def _odd_segment(random: Random, segment: bytes) -> bytes:
    """A TCP header that claims to be longer or shorter than it is, or is cut off."""
    if random.random() < 0.5:
        return segment[: random.randint(8, len(segment))]
    return segment[:12] + bytes((random.randrange(16) << 4,)) + segment[13:]


def _icmp_other(random: Random, source: bytes, destination: bytes) -> tuple[int, bytes]:
    """An ICMP error about a packet that went the other way, now and then cut off; or another message."""
    ports = _ports(random)
    quoted = random.choice((wire.udp(*ports, b""), wire.tcp(*ports, ACK), wire.echo(source, 1)[1]))
    protocol = {8: wire.UDP, 20: wire.TCP}.get(len(quoted), wire.UDP)
    quote = _odd_quote(random, destination, source, protocol, quoted)
    quote = quote[: random.choice((len(quote), len(quote), random.randint(0, len(quote))))]
    if len(source) == 4:
        return wire.ICMP, wire.icmp(random.choice((3, 3, 11, 5, 13)), 1, 0, quote)
    return wire.ICMPV6, wire.icmp(random.choice((1, 1, 3, 100, 134)), 0, 0, quote)


def _odd_quote(random: Random, source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    """Mostly a proper packet; or a fragment of one, one with options, or another ICMP message."""
    if random.random() < 0.8:
        return wire.ip(source, destination, protocol, payload)
    if len(source) == 16:
        kind = random.choice((protocol, 44, wire.ICMPV6))
        return wire.ipv6(source, destination, kind, random.choice((payload, wire.icmp(130, 0, 1 << 16))))
    options = random.choice((b"", b"\1\1\1\0"))
    fragment = random.choice((0, 0x2000, 5))
    if random.random() < 0.5:
        protocol, payload = wire.ICMP, wire.icmp(random.choice((3, 13)), 0, random.choice((1, 2)) << 16)
    return wire.ipv4(source, destination, protocol, payload, fragment=fragment, options=options)


def _odd_ipv4(random: Random, source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    kind = random.random()
    if kind < 0.55:
        # few identifications, so that later fragments meet a first one
        fragment = random.choice((0x2000, 0x2000, 0x2005, 0x0005, 0x0001))
        number = random.choice((1, 2, 3))
        return wire.ipv4(source, destination, protocol, payload, fragment=fragment, identification=number)
    if kind < 0.7:
        return wire.ipv4(source, destination, protocol, payload, options=b"\x94\4\0\0")
    if kind < 0.85:
        length = random.choice((0, 19, 20, 24, 27, 20 + len(payload) + random.randint(-8, 8)))
        return wire.ipv4(source, destination, protocol, payload, length=max(length, 0))
    packet = bytearray(wire.ipv4(source, destination, protocol, payload))
    packet[0] = random.choice((0x44, 0x65, 0x40, 0x4F, 0x05))
    return bytes(packet)


def _odd_ipv6(random: Random, source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    kind = random.random()
    if kind < 0.55:
        offset = random.choice((0x0001, 0x0001, 0x0029, 0x0028, 0x0000))
        header = wire.fragment_header(protocol, offset, random.choice((1, 2, 3)))
        return wire.ipv6(source, destination, 44, header + payload)
    if kind < 0.7:
        header = bytes((protocol, 0, 1, 4, 0, 0, 0, 0))
        return wire.ipv6(source, destination, random.choice((0, 43, 60)), header + payload)
    if kind < 0.75:
        header = wire.fragment_header(random.choice((0, 43, 44, 60)), 0, 1)
        return wire.ipv6(source, destination, 44, (header + payload)[: random.choice((4, 60))])
    length = random.choice((0, 4, 7, len(payload) + random.randint(-8, 8)))
    packet = bytearray(wire.ipv6(source, destination, protocol, payload, length=max(length, 0)))
    if kind > 0.9:
        packet[0] = random.choice((0x45, 0x50, 0x00))
    return bytes(packet)
