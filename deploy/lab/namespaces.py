"""Network namespaces, entered by `nsenter --net`, as `ip netns exec` would hide the BPF file system."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.lab.errors import CommandError

NAMESPACES = Path("/run/netns")


def enter(namespace: str, *command: str) -> list[str]:
    return ["nsenter", f"--net={NAMESPACES / namespace}", "--", *command]


def execute(command: Sequence[str], text: str = "", seconds: float = 30) -> str:
    """Return the output of a command that must succeed. Errors: CommandError."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds)
    if done.returncode:
        raise CommandError(f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def configure(namespace: str, commands: Sequence[str]) -> None:
    """Run commands of `ip` in one process inside the namespace. Errors: CommandError, with the line at fault."""
    execute(enter(namespace, "ip", "-batch", "-"), text="\n".join(commands))


def set_sysctls(namespace: str, **values: int) -> None:
    """Keys are names below /proc/sys/net with `__` for the slash."""
    lines = (f"echo {value} > /proc/sys/net/{key.replace('__', '/')}" for key, value in values.items())
    execute(enter(namespace, "sh", "-e", "-c", "\n".join(lines)))


def create(namespace: str) -> None:
    """Make a namespace with loopback up and addresses that are usable at once (no duplicate address detection)."""
    execute(["ip", "netns", "add", namespace])
    set_sysctls(namespace, ipv6__conf__all__accept_dad=0, ipv6__conf__default__accept_dad=0)
    configure(namespace, ["link set lo up"])


def remove(namespace: str) -> None:
    if (NAMESPACES / namespace).exists():
        execute(["ip", "netns", "del", namespace])


def connect(near: tuple[str, str], far: tuple[str, str], mtu: int = 1500, near_mac: str = "") -> None:
    """Join two (namespace, interface) ends by a veth pair, both up.

    Transmit offloads are off, since partial checksums do not survive XDP at the other end.
    """
    (near_namespace, near_name), (far_namespace, far_name) = near, far
    address = f"address {near_mac} " if near_mac else ""
    near_part = f"link add {near_name} {address}mtu {mtu} netns {near_namespace}"
    execute(["ip", *f"{near_part} type veth peer name {far_name} mtu {mtu} netns {far_namespace}".split()])
    for namespace, name in (near, far):
        execute(enter(namespace, "ethtool", "-K", name, "tx", "off"))
        configure(namespace, [f"link set {name} up"])
