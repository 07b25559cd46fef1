"""Reads what the machine as a whole offers."""

import ctypes
import os
import re
from collections.abc import Iterator
from pathlib import Path

from gateway.doctor.commands import json_output, output
from gateway.doctor.facts import Machine

_SYSTEM = Path("/proc/sys/net")
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_BPF": 39}
_BPF_PROG_TYPE_XDP = 6
_MAP_TYPES = {"ARRAY": 2, "PROG_ARRAY": 3, "PERCPU_ARRAY": 6, "DEVMAP": 14, "RINGBUF": 27}
_HELPERS = {
    "bpf_tail_call": 12,
    "bpf_xdp_adjust_head": 44,
    "bpf_redirect_map": 51,
    "bpf_xdp_adjust_tail": 65,
    "bpf_ktime_get_boot_ns": 125,
    "bpf_ringbuf_output": 130,
    "bpf_ktime_get_coarse_ns": 160,
    "bpf_xdp_get_buff_len": 188,
    "bpf_xdp_load_bytes": 189,
    "bpf_xdp_store_bytes": 190,
}
_SYS_MEMBARRIER = {"x86_64": 324, "aarch64": 283}
_MEMBARRIER_CMD_QUERY, _MEMBARRIER_CMD_GLOBAL = 0, 1
_DEFAULT_RULES = {0, 32766, 32767}


def read_machine(pin_directory: Path) -> Machine:
    """Read everything; `pin_directory` need not exist."""
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return Machine(
        kernel=(int(major), int(minor)),
        cpus=os.cpu_count() or 1,
        jit=_switch(_SYSTEM / "core/bpf_jit_enable"),
        btf=Path("/sys/kernel/btf/vmlinux").exists(),
        pin_file_system=file_system_of(pin_directory, Path("/proc/self/mounts").read_text()),
        missing_bpf=_missing_bpf(),
        membarrier=_has_membarrier(),
        missing_capabilities=missing_capabilities(Path("/proc/thread-self/status").read_text()),
        forwarding=tuple(_forwarding_families()),
        forwarding_guard=_has_forwarding_guard(),
        policy_rules=_policy_rules(),
    )


def _switch(path: Path) -> bool | None:
    return path.read_text().strip() != "0" if path.exists() else None


def file_system_of(path: Path, mounts: str) -> str:
    """Return the type of the file system, by the text of /proc/self/mounts, that holds `path`; the last mount wins."""
    fields = [line.split() for line in mounts.splitlines()]
    holding = [
        (len(Path(at).parts), number, kind)
        for number, (_, at, kind, *_) in enumerate(fields)
        if path.is_relative_to(at.replace("\\040", " "))
    ]
    return max(holding)[2]


def missing_capabilities(status: str) -> tuple[str, ...]:
    """Return the capabilities that the gateway needs and the effective set of /proc/…/status lacks."""
    (effective,) = re.findall(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return tuple(name for name, bit in _CAPABILITIES.items() if not int(effective, 16) >> bit & 1)


def _missing_bpf() -> tuple[str, ...] | None:
    try:
        libbpf = ctypes.CDLL("libbpf.so.1")
    except OSError:
        return None
    maps = [name for name, number in _MAP_TYPES.items() if libbpf.libbpf_probe_bpf_map_type(number, None) != 1]
    helpers = [
        name
        for name, number in _HELPERS.items()
        if libbpf.libbpf_probe_bpf_helper(_BPF_PROG_TYPE_XDP, number, None) != 1
    ]
    return (*(f"map type {name}" for name in maps), *helpers)


def _has_membarrier() -> bool:
    number = _SYS_MEMBARRIER.get(os.uname().machine)
    if number is None:
        return False
    commands = ctypes.CDLL(None).syscall(ctypes.c_long(number), _MEMBARRIER_CMD_QUERY, 0, 0)
    return commands > 0 and bool(commands & _MEMBARRIER_CMD_GLOBAL)


def _forwarding_families() -> Iterator[str]:
    for family, path in (("IPv4", "ipv4/ip_forward"), ("IPv6", "ipv6/conf/all/forwarding")):
        if _switch(_SYSTEM / path):
            yield family


def _has_forwarding_guard() -> bool | None:
    tables = output("nft", "list", "tables")
    return None if tables is None else "table inet tenant_gateway" in tables.splitlines()


def _policy_rules() -> int:
    rules = [rule for family in ("-4", "-6") for rule in json_output("ip", "-j", family, "rule", "show")]
    return sum(rule["priority"] not in _DEFAULT_RULES for rule in rules)
