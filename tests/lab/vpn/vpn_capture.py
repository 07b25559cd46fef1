"""What leaves a compartment by its outside and should not."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from vpn_rig import Domain, Rig


class Capture:
    """What comes out of the compartment by the outside besides IKE, ESP and neighbour discovery."""

    def __init__(self) -> None:
        self.packets: list[str] = []


@contextmanager
def capture_in_clear(rig: Rig, domain: Domain) -> Iterator[Capture]:
    assert domain.compartment.outside
    leg = domain.compartment.outside
    expected = "(udp port 500 or udp port 4500 or esp or arp or icmp6[0] = 135 or icmp6[0] = 136)"
    words = f"ether src {leg.mac.replace('-', ':')} and not {expected}"
    tcpdump = ("tcpdump", "-l", "-n", "--immediate-mode", "-i", leg.interface, words)
    process = subprocess.Popen(
        ["ip", "netns", "exec", rig.internet.name, *tcpdump],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    for line in process.stderr:
        if "listening on" in line:
            break
    captured = Capture()
    yield captured
    process.send_signal(signal.SIGINT)
    captured.packets = [line for line in process.communicate()[0].splitlines() if line]
