"""A gateway and a host in namespaces of their own, and an underlay to watch."""

import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyroute2 import netns

from gateway.underlay.hop import Hop
from gateway.underlay.network import Link
from gateway.underlay.underlay import Underlay

GATEWAY, HOST = f"tgwu-gw{os.getpid()}", f"tgwu-host{os.getpid()}"
PATIENCE = 20.0  # seconds until a test gives up; nothing waits this long when all is well


def run(command: str) -> str:
    result = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}: {result.stderr}"
    return result.stdout


def gateway(command: str) -> str:
    return run(f"ip -n {GATEWAY} {command}")


def host(command: str) -> str:
    return run(f"ip -n {HOST} {command}")


def in_gateway(function: Callable[[], Any]) -> Any:
    """Call `function` in a thread that has entered the gateway's namespace."""
    results: list[Any] = []

    def enter_and_call() -> None:
        netns.setns(GATEWAY)
        results.append(function())

    thread = threading.Thread(target=enter_and_call)
    thread.start()
    thread.join()
    return results[0]


@dataclass
class Watched:
    """An underlay and all that it told, to be awaited."""

    underlay: Underlay = field(init=False)
    hops: dict[str, Hop | None] = field(default_factory=dict)
    link_changes: list[Mapping[str, Link | None]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def on_change(self, hops: Mapping[str, Hop | None]) -> None:
        with self.changed:
            self.hops.update(hops)
            self.changed.notify_all()

    def on_link_change(self, links: Mapping[str, Link | None]) -> None:
        with self.changed:
            self.link_changes.append(links)
            self.changed.notify_all()

    def until(self, holds: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, PATIENCE), f"never told so; told last: {self.hops}"

    def until_hop(self, address: str, holds: Callable[[Hop], bool]) -> Hop:
        def found() -> bool:
            hop = self.hops.get(address)
            return hop is not None and holds(hop)

        self.until(found)
        hop = self.hops[address]
        assert hop is not None
        return hop


def wire(gateway_end: str, host_end: str) -> None:
    gateway(f"link add name {gateway_end} type veth peer name {host_end} netns {HOST}")
    gateway(f"link set {gateway_end} up")
    host(f"link set {host_end} up")


def mac(namespace: Callable[[str], str], interface: str) -> bytes:
    words = namespace(f"-o link show dev {interface}").split()
    return bytes.fromhex(words[words.index("link/ether") + 1].replace(":", ""))
