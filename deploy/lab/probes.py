"""What a user would try from a machine of a lab, with stock tools: ping, curl, traceroute, tracepath, iperf3."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

from deploy.lab import gateway, iperf3
from deploy.lab.errors import LabError
from deploy.lab.offices import DATABASE_PORT, Router
from deploy.lab.processes import wait_until
from deploy.lab.running import RunningLab

CURL_TIMEOUT = 28
CURL_UNREACHABLE = 7
QUESTIONS, QUESTIONS_AT_MOST = 24, 240


@dataclass(frozen=True, slots=True)
class Path:
    """What tracepath found: the path MTU in bytes, and the routers on the way before the destination."""

    mtu: int
    routers: tuple[str, ...]
    arrived: bool


def pings(lab: RunningLab, node: str, address: str, count: int = 3, payload: int = 56, fragment: bool = True) -> bool:
    """Tell whether echo requests are answered, of which a missing neighbour may cost one; not `fragment` means DF."""
    options = ("-M", "dont" if fragment else "do", "-s", str(payload), "-c", str(count), "-i", "0.1", "-W", "2", "-n")
    return _attempt(lab, node, "ping", *options, address).returncode == 0


def ping_error(lab: RunningLab, node: str, address: str) -> str:
    """Return what a router said about an echo request, e.g. "Destination Host Unreachable"; empty for silence."""
    output = _attempt(lab, node, "ping", "-c", "1", "-W", "2", "-n", address).stdout
    found = re.search(r"^From \S+ icmp_seq=\d+ (.+)$", output, re.MULTILINE)
    return found[1].strip() if found else ""


def page(lab: RunningLab, node: str, address: str, port: int = 80, path: str = "", seconds: int = 5) -> str | None:
    """Return the words of a web server's page, None where the connection was refused or nothing answered."""
    host = f"[{address}]" if ":" in address else address
    done = _attempt(lab, node, "curl", "-sS", "-g", "--max-time", str(seconds), f"http://{host}:{port}/{path}")
    if done.returncode in (CURL_TIMEOUT, CURL_UNREACHABLE):
        return None
    if done.returncode:
        raise RuntimeError(f"curl on {node}: {done.stderr.strip()}")
    return done.stdout.strip()


def servers(lab: RunningLab, node: str, address: str, expected: Set[str], port: int = 80) -> set[str | None]:
    """Return whose pages new connections open: 24 of them, and more until each of those expected has answered.

    A hash of its ports says where a connection goes: one of four servers is missed by 24 of them once in 250 times.
    """
    seen = {page(lab, node, address, port) for _ in range(QUESTIONS)}
    for _ in range(QUESTIONS, QUESTIONS_AT_MOST):
        if expected <= seen:
            break
        seen.add(page(lab, node, address, port))
    return seen


def resolve(lab: RunningLab, node: str, name: str, server: str) -> str | None:
    """Return the address that a node finds for a name with that DNS server in its resolv.conf, None for no answer."""
    file = lab.directory / f"{node}-resolv.conf"
    file.write_text(f"nameserver {server}\noptions timeout:1 attempts:2\n")
    script = f"mount --bind {shlex.quote(str(file))} /etc/resolv.conf && exec getent ahostsv4 {shlex.quote(name)}"
    found = _attempt(lab, node, "unshare", "--mount", "sh", "-c", script)
    return found.stdout.split()[0] if found.returncode == 0 else None


def query(
    lab: RunningLab, node: str, address: str, question: str, port: int = DATABASE_PORT, seconds: int = 3
) -> str | None:
    """Return what a database answers, None where the connection was refused or nothing answered."""
    script = f"exec 3<>/dev/tcp/{address}/{port} && echo {shlex.quote(question)} >&3 && read -r answer <&3"
    done = _attempt(lab, node, "timeout", str(seconds), "bash", "-c", f'{script} && echo "$answer"')
    return done.stdout.strip() if done.returncode == 0 else None


def routers(lab: RunningLab, node: str, address: str) -> tuple[str, ...]:
    """Return the addresses that traceroute shows on the way, the destination last; "*" for silence."""
    output = lab.run(node, "traceroute", "-n", "-q", "1", "-w", "2", "-m", "6", address)
    return tuple(line.split()[1] for line in output.splitlines()[1:])


def path(lab: RunningLab, node: str, address: str) -> Path:
    """Follow the path MTU to an address with tracepath."""
    output = lab.run(node, "tracepath", "-n", "-m", "6", address, seconds=60)
    mtus = [int(mtu) for mtu in re.findall(r"pmtu (\d+)", output)]
    hops = re.findall(r"^ ?\d+: +(\S+) .*ms", output, re.MULTILINE)
    ways = tuple(dict.fromkeys(hop for hop in hops if hop != address))
    return Path(mtu=min(mtus), routers=ways, arrived="reached" in output)


def throughput(lab: RunningLab, node: str, address: str, seconds: int = 2, *options: str) -> float:
    """Return the megabits per second that iperf3's receiver counted. Errors: LabError, in iperf3's words."""
    received = iperf3.run(lab, node, address, "-t", str(seconds), *options)["end"]["sum_received"]
    return float(received["bits_per_second"]) / 1e6


def datagrams(lab: RunningLab, node: str, address: str, length: int, rate: str = "4M") -> tuple[int, int]:
    """Return how many datagrams of so many bytes iperf3 sent in a second, and how many were lost.

    Those that are longer than the MTU go in fragments. Errors: LabError, in iperf3's words.
    """
    counted = iperf3.run(lab, node, address, "-u", "-l", str(length), "-b", rate, "-t", "1")["end"]["sum"]
    return int(counted["packets"]), int(counted["lost_packets"])


def status(lab: RunningLab) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(gateway.tgw(lab, "status", "--json"))
    return document


def drops(lab: RunningLab, domain: str | None, reason: str) -> int:
    """Return the packets dropped for a reason in a routing domain, or outside all of them."""
    counted = status(lab) if domain is None else _domain(lab, domain)
    return int(counted["drops"].get(reason, 0))


def members(lab: RunningLab, domain: str, pool: str) -> dict[str, tuple[str, str | None]]:
    """Return what the gateway does with each member of a pool, and what its probe says, by customer address.

    Where several probes ask about a pool, one that is not healthy for any of them is not healthy.
    """
    found: dict[str, tuple[str, str | None]] = {}
    for balancer in _domain(lab, domain)["load_balancers"]:
        for seen in (one for one in balancer["pools"] if one["pool"] == pool):
            for member in seen["members"]:
                known = found.get(member["customer_address"])
                if known is None or known[1] == "healthy":
                    found[member["customer_address"]] = member["state"], member["status"]
    return found


def tunnel(lab: RunningLab, domain: str, name: str) -> dict[str, Any]:
    """Return a tunnel's status."""
    found: dict[str, Any] = next(one for one in _domain(lab, domain)["tunnels"] if one["name"] == name)
    return found


def await_tunnels(lab: RunningLab, seconds: float = 30) -> None:
    """Return when all tunnels of the lab's policy are up at both ends. Errors: LabError, in the words of their status.

    The offices are asked first: the gateway holds a tunnel that its peer has forgotten until it misses the answers.
    """
    far_ends = [Router(lab, office) for office in lab.topology.offices]
    wanted = [
        (domain["name"], connection["name"])
        for domain in lab.topology.document["routing_domains"]
        for connection in domain.get("network_connections", ())
        if connection["type"] == "ipsec"
    ]

    def connected() -> bool:
        return all(router.connected() for router in far_ends) and all(
            tunnel(lab, *which)["state"] == "connected" for which in wanted
        )

    try:
        wait_until(connected, "all tunnels are up", seconds)
    except TimeoutError as error:
        states = "; ".join(
            [f"{domain} {name}: {tunnel(lab, domain, name)['text']}" for domain, name in wanted]
            + [f"{router.office.name} has no tunnel" for router in far_ends if not router.connected()]
        )
        raise LabError(f"{error}: {states}") from error


def inject(lab: RunningLab, host: str, *options: str) -> None:
    """Send one forged packet from a host to the gateway; the options are those of `deploy.lab.inject`."""
    command = (sys.executable, "-m", "deploy.lab.inject", lab.topology.gateway_provider_address, *options)
    lab.run(host, *command)


def _domain(lab: RunningLab, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in status(lab)["routing_domains"] if entry["name"] == name)
    return found


def _attempt(lab: RunningLab, node: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(lab.inside(node, *command), capture_output=True, text=True, timeout=60)
