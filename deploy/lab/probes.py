"""What a user would try from a machine of a lab, with stock tools: ping, curl, traceroute, tracepath, iperf3."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from deploy.lab import gateway
from deploy.lab.offices import DATABASE_PORT
from deploy.lab.running import RunningLab

CURL_TIMEOUT = 28
CURL_UNREACHABLE = 7


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


def resolve(lab: RunningLab, node: str, name: str, server: str) -> str | None:
    """Return the address that a node finds for a name with that DNS server in its resolv.conf, None for no answer."""
    file = lab.directory / f"{node}-resolv.conf"
    file.write_text(f"nameserver {server}\noptions timeout:1 attempts:2\n")
    script = f"mount --bind {shlex.quote(str(file))} /etc/resolv.conf && exec getent ahostsv4 {shlex.quote(name)}"
    found = _attempt(lab, node, "unshare", "--mount", "sh", "-c", script)
    return found.stdout.split()[0] if found.returncode == 0 else None


def query(lab: RunningLab, node: str, address: str, question: str, port: int = DATABASE_PORT) -> str | None:
    """Return what a database answers, None where the connection was refused or nothing answered."""
    script = f"exec 3<>/dev/tcp/{address}/{port} && echo {shlex.quote(question)} >&3 && read -r -t 5 answer <&3"
    done = _attempt(lab, node, "timeout", "10", "bash", "-c", f'{script} && echo "$answer"')
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
    """Return the megabits per second that iperf3's receiver counted. Errors: CommandError."""
    report = lab.run(node, "iperf3", "-J", "-c", address, "-t", str(seconds), *options, seconds=seconds + 20)
    received: dict[str, Any] = json.loads(report)["end"]["sum_received"]
    return float(received["bits_per_second"]) / 1e6


def status(lab: RunningLab) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(gateway.tgw(lab, "status", "--json"))
    return document


def drops(lab: RunningLab, domain: str | None, reason: str) -> int:
    """Return the packets dropped for a reason in a routing domain, or outside all of them."""
    document = status(lab)
    if domain is None:
        return int(document["drops"].get(reason, 0))
    found = next(entry for entry in document["routing_domains"] if entry["name"] == domain)
    return int(found["drops"].get(reason, 0))


def inject(lab: RunningLab, host: str, *options: str) -> None:
    """Send one forged packet from a host to the gateway; the options are those of `deploy.lab.inject`."""
    command = (sys.executable, "-m", "deploy.lab.inject", lab.topology.gateway_provider_address, *options)
    lab.run(host, *command)


def _attempt(lab: RunningLab, node: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(lab.inside(node, *command), capture_output=True, text=True, timeout=60)
