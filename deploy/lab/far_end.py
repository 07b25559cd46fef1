"""The far end of a gateway's veth."""

import platform
from pathlib import Path

from deploy.lab.namespaces import execute
from deploy.lab.running import RunningLab

SOURCE = Path(__file__).with_name("pass.bpf.c")


def compile_program(lab: RunningLab) -> None:
    headers = f"/usr/include/{platform.machine()}-linux-gnu"
    execute(["clang", "-O2", "-target", "bpf", "-idirafter", headers, "-c", str(SOURCE), "-o", str(_object(lab))])


def take_up(lab: RunningLab, node: str, interface: str) -> None:
    """Let an interface take up what XDP at its other end sends: GRO would do for redirects, but not for XDP_TX."""
    lab.configure(node, f"link set dev {interface} xdpdrv object {_object(lab)} section xdp")


def _object(lab: RunningLab) -> Path:
    return lab.directory / "pass.bpf.o"
