"""A counted packet stream: every payload names its tenant and its number, so that what is lost or misrouted is known.

python -m deploy.lab.stream send ADDRESS PORT OWNER RATE
    prints `flowing` once it flows, goes on until SIGTERM, and prints how many packets there were
python -m deploy.lab.stream receive PORT
    prints `bound`, and after a sender's last packets a JSON report
"""

import json
import math
import signal
import socket
import sys
import time
from types import FrameType

SO_RCVBUFFORCE = 33  # asm-generic/socket.h; Python does not name it
TICK_SECONDS = 0.005
PAYLOAD_BYTES = 64
RECEIVE_BUFFER_BYTES = 16 << 20
LAST_WORDS = 20
SILENCE_SECONDS = 20
AFTER_END_SECONDS = 0.5


def send(address: str, port: int, owner: str, rate: int) -> None:
    """Send `rate` packets a second, in small bursts by the clock, half a second long before and after what happens."""
    last: float = math.inf
    start, sent = time.monotonic(), 0

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal last
        last = sent + rate / 2

    signal.signal(signal.SIGTERM, stop)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.connect((address, port))
        while sent < last:
            due = int((time.monotonic() - start) * rate)
            for sequence in range(sent, due):
                sender.send(f"{owner} {sequence} ".encode().ljust(PAYLOAD_BYTES, b"."))
            if sent < rate // 2 <= due:
                print("flowing", flush=True)
            sent = due
            time.sleep(TICK_SECONDS)
        for _ in range(LAST_WORDS):
            sender.send(f"{owner} end ".encode())
    print(sent)


def receive(port: int) -> None:
    """Count what arrives until a sender's end was heard and nothing more comes, or all is silent for long."""
    seen: dict[str, set[int]] = {}
    duplicates = 0
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        receiver.bind(("::", port))
        print("bound", flush=True)
        receiver.settimeout(SILENCE_SECONDS)
        while True:
            try:
                owner, number, *_ = receiver.recv(2048).decode().split()
            except TimeoutError:
                break
            if number == "end":
                receiver.settimeout(AFTER_END_SECONDS)
                continue
            numbers = seen.setdefault(owner, set())
            duplicates += int(number) in numbers
            numbers.add(int(number))
    received = {owner: len(numbers) for owner, numbers in seen.items()}
    print(json.dumps({"received": received, "duplicates": duplicates}))


def main() -> None:
    match sys.argv[1:]:
        case ["send", address, port, owner, rate]:
            send(address, int(port), owner, int(rate))
        case ["receive", port]:
            receive(int(port))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
