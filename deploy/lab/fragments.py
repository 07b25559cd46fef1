"""Datagrams in fragments that overtake each other: the last of each goes first.

python -m deploy.lab.fragments answer NAME PORT        says what it hears, with its name; until it is told to end
python -m deploy.lab.fragments ask ADDRESS PORT COUNT  prints who answered how often, as JSON; "" stands for nobody
python -m deploy.lab.fragments flood ADDRESS COUNT     sends later fragments alone
"""

import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence

from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.packet import Packet, Raw

FRAGMENT = 1280  # bytes
DATAGRAM = 3000
PATIENCE = 2.0  # seconds until a datagram counts as lost
FLOOD_RATE = 20_000  # fragments a second: five times what is put in order, and nothing that the lab's own queues lose
BURST = 20
FLOOD_ID = 0xFFFF
IDS_PER_SECOND = 2000  # more than are sent, and none comes again within the 30 s that the gateway keeps them for


def backwards(source: str, destination: str, ports: tuple[int, int], payload: bytes) -> list[bytes]:
    """Return the fragments of a datagram, the last one first."""
    return [bytes(one) for one in reversed(_parts(source, destination, ports, payload))]


def _parts(source: str, destination: str, ports: tuple[int, int], payload: bytes) -> list[Packet]:
    transport = UDP(sport=ports[0], dport=ports[1]) / Raw(payload)
    if ":" in source:
        header = IPv6(src=source, dst=destination) / IPv6ExtHdrFragment(id=_identification())
        return list(fragment6(header / transport, FRAGMENT))  # type: ignore[no-untyped-call]
    packet = IP(src=source, dst=destination, id=_identification()) / transport
    return list(fragment(packet, FRAGMENT))  # type: ignore[no-untyped-call]


def _identification() -> int:
    """Return what tells a datagram from all others between its ends (RFC 6864 section 4.1); Linux would replace a 0."""
    return int(time.monotonic() * IDS_PER_SECOND) % (FLOOD_ID - 1) + 1


def send(packets: Sequence[bytes], destination: str) -> None:
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for packet in packets:
            raw.sendto(packet, (destination, 0))


def connected(address: str, port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    found.connect((address, port))
    found.settimeout(PATIENCE)
    return found


def answer(name: str, port: int) -> None:
    listening = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    listening.bind(("::", port))
    print("bound", flush=True)
    while True:
        heard, (client, client_port, *_) = listening.recvfrom(1 << 16)
        client = client.removeprefix("::ffff:")
        with connected(client, client_port) as towards:
            own = towards.getsockname()[0]
        send(backwards(own, client, (port, client_port), name.encode() + b" " + heard), client)


def ask(address: str, port: int) -> str:
    payload = os.urandom(DATAGRAM)
    with connected(address, port) as asking:
        own, own_port, *_ = asking.getsockname()
        send(backwards(own, address, (own_port, port), payload), address)
        try:
            name, _, said = asking.recv(1 << 16).partition(b" ")
        except TimeoutError:
            return ""
    return name.decode() if said == payload else "what was said is not what was heard"


def flood(address: str, count: int) -> None:
    with connected(address, 9) as asking:
        own = asking.getsockname()[0]
    packet = IP(src=own, dst=address, id=FLOOD_ID, proto=socket.IPPROTO_UDP, frag=100) / Raw(bytes(64))
    began = time.monotonic()
    for sent in range(0, count, BURST):
        send([bytes(packet)] * min(BURST, count - sent), address)
        time.sleep(max(0.0, began + (sent + BURST) / FLOOD_RATE - time.monotonic()))


def main() -> None:
    what, whom, *numbers = sys.argv[1:]
    if what == "answer":
        answer(whom, int(numbers[0]))
    elif what == "flood":
        flood(whom, int(numbers[0]))
    else:
        print(json.dumps(Counter(ask(whom, int(numbers[0])) for _ in range(int(numbers[1])))))


if __name__ == "__main__":
    main()
