"""Checks of the kernel: version, BPF, what the underlay needs."""

from collections.abc import Iterator

from gateway.doctor.facts import Machine
from gateway.doctor.finding import Finding

OLDEST, TESTED = (5, 18), (6, 1)  # 5.16 manages neighbours, 5.18 has XDP over several buffers
_UPGRADE = "boot the kernel of Debian 12 (6.1) or later"


def examine_kernel(machine: Machine) -> Iterator[Finding]:
    """Judge what the datapath asks of the kernel."""
    yield _version(machine)
    yield _bpf(machine)
    yield _jit(machine)
    yield _btf(machine)
    yield _pins(machine)
    yield _membarrier(machine)


def _version(machine: Machine) -> Finding:
    detail = f"Linux {machine.kernel[0]}.{machine.kernel[1]}"
    if machine.kernel < OLDEST:
        lacking = "managed neighbours or XDP over several buffers"
        return Finding("kernel", "version", "failed", f"{detail} lacks {lacking}", _UPGRADE)
    if machine.kernel < TESTED:
        return Finding("kernel", "version", "warning", f"{detail} is older than what is tested", _UPGRADE)
    return Finding("kernel", "version", "ok", f"{detail}: managed neighbours, XDP over several buffers")


def _bpf(machine: Machine) -> Finding:
    if machine.missing_bpf is None:
        return Finding("kernel", "bpf", "failed", "libbpf.so.1 is not installed", "apt-get install libbpf1")
    if "CAP_BPF" in machine.missing_capabilities:
        return Finding("kernel", "bpf", "unknown", "needs CAP_BPF to find out", "run `tgw doctor` as root")
    if machine.missing_bpf:
        return Finding("kernel", "bpf", "failed", f"the kernel lacks {', '.join(machine.missing_bpf)}", _UPGRADE)
    return Finding("kernel", "bpf", "ok", "XDP, all map types and all helpers are there")


def _jit(machine: Machine) -> Finding:
    if machine.jit is None:
        how = "cat /proc/sys/net/core/bpf_jit_enable outside of network namespaces: it should print 1"
        return Finding("kernel", "bpf jit", "unknown", "a network namespace hides the switch", how)
    if not machine.jit:
        return Finding(
            "kernel",
            "bpf jit",
            "failed",
            "programs are interpreted, at a fraction of the rate",
            "sysctl -w net.core.bpf_jit_enable=1",
        )
    return Finding("kernel", "bpf jit", "ok", "programs run as machine code")


def _btf(machine: Machine) -> Finding:
    if not machine.btf:
        detail = "/sys/kernel/btf/vmlinux is missing"
        return Finding("kernel", "btf", "failed", detail, f"{_UPGRADE}, built with CONFIG_DEBUG_INFO_BTF=y")
    return Finding("kernel", "btf", "ok", "/sys/kernel/btf/vmlinux is there")


def _pins(machine: Machine) -> Finding:
    if machine.pin_file_system == "bpf":
        return Finding("kernel", "bpffs", "ok", "the pin directory lies in a BPF file system")
    detail = f"the pin directory lies in {machine.pin_file_system}, not in a BPF file system"
    return Finding("kernel", "bpffs", "warning", detail, "mount -t bpf bpf /sys/fs/bpf")


def _membarrier(machine: Machine) -> Finding:
    if machine.membarrier:
        return Finding("kernel", "membarrier", "ok", "a commit can wait for running programs")
    detail = "membarrier(2) cannot wait for all CPUs: the gateway must be allowed to run on each of them"
    return Finding("kernel", "membarrier", "warning", detail, "boot without nohz_full, and leave CPUAffinity= unset")
