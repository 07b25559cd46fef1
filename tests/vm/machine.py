"""A machine under QEMU that has a stock kernel, and of this machine Python, the project and its compiled datapath."""

import json
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gateway.datapath.build import build
from tests.vm import service_manager
from tests.vm.guest import BOOTED
from tests.vm.initramfs import Initramfs
from tests.vm.kernels import Kernel

QEMU = "qemu-system-x86_64"
PROJECT = Path(__file__).parents[2]
PARTS_OF_THE_PROJECT = ("gateway", "plugins", "deploy", "lb", "vpn", "tests", "pyproject.toml")
TOOLS = ("ip", "mount", "umount")
# Parts of the virtual environment that nothing in the guest imports, and that are large.
LEFT_OUT = ("pip", "setuptools", "mypy", "ruff")
# QEMU 7.2 emulates a cmpxchg16b on per-CPU memory wrongly, on which Linux 6.12 dies: the kernel is told to do without.
KERNEL_OPTIONS = "console=ttyS0 quiet panic=-1 clearcpuid=cx16"
# Emulated, not by KVM: /dev/kvm of a virtual machine may open and yet boot nothing. Here a boot takes some ten seconds.
BOOT_SECONDS, SECONDS = 60, 900
TEST_SECONDS = BOOT_SECONDS + SECONDS + 120  # what is copied into the machine takes its time too
MEMORY_MB = 2560
_PYTHON = Path(sys.executable).resolve()
_PACKAGES = Path(site.getsitepackages()[0])
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin",
    "PYTHONPATH": f"{PROJECT}:{_PACKAGES}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TGW_BUILD_DIR": "/object",
}
TGW = "from gateway.cli.main import app\napp()\n"


class EmulationError(Exception):
    """A machine cannot be emulated here; the message says why."""


def run(
    kernel: Kernel,
    commands: Sequence[Sequence[str]],
    directory: Path,
    tools: Sequence[str] = (),
    files: Sequence[Path] = (),
    under_systemd: bool = False,
) -> str:
    """Boot, run commands of Python's (["-m", "pytest"]) in the project's directory one after another; the console.

    The machine has these tools and files of this one besides what every one has. `under_systemd`: systemd is its first
    process and runs the commands as a service. Raises EmulationError where this machine cannot emulate another.
    """
    if not shutil.which(QEMU):
        raise EmulationError(f"there is no {QEMU}: apt-get install qemu-system-x86")
    image, initramfs = directory / "vmlinuz", directory / "initramfs"
    image.write_bytes(kernel.image)
    with initramfs.open("wb") as output:
        root = Initramfs(output)
        for file in files:
            root.copy(file)
        root.copy_programs(_executables(tools) + [found for file in files for found in file.rglob("*.so*")])
        for name, place in _other_names(tools):
            root.link(name, place)
        if under_systemd:
            service_manager.add_to(root, _PYTHON)
        _write(root, kernel, _wanted(commands, service_manager.COMMAND if under_systemd else ()))
        root.close()
    return _emulate(image, initramfs, directory / "console")


def _emulate(image: Path, initramfs: Path, console: Path) -> str:
    """Run until the machine switches itself off; what it printed."""
    machine = [QEMU, "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", str(MEMORY_MB), "-nic", "none"]
    machine += ["-display", "none", "-serial", f"file:{console}", "-no-reboot"]
    machine += ["-kernel", str(image), "-initrd", str(initramfs), "-append", KERNEL_OPTIONS]
    console.touch()
    with subprocess.Popen(machine, stdin=subprocess.DEVNULL) as process:
        try:
            _await_end(process, console)
        finally:
            process.kill()
            initramfs.unlink()  # it is large
    return _printed(console)


def _await_end(process: "subprocess.Popen[bytes]", console: Path) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(BOOT_SECONDS)
        return
    if BOOTED not in _printed(console):
        slow = f"QEMU, which has to emulate a processor, had not booted Linux after {BOOT_SECONDS} s"
        raise EmulationError(f"this machine is too slow: {slow}")
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"not finished after {SECONDS} s:\n{_printed(console)}") from None


def _printed(console: Path) -> str:
    return console.read_text(errors="replace").replace("\r", "")


def _write(root: Initramfs, kernel: Kernel, wanted: dict[str, object]) -> None:
    for name in ("bin", "sbin", "lib", "lib64"):
        root.link(Path("/") / name, f"usr/{name}")
    for number, (name, content) in enumerate(kernel.modules.items()):
        root.file(Path("/modules") / f"{number:03}-{name}", content)
    root.copy(Path(sysconfig.get_path("stdlib")))
    parts = [part for part in _PACKAGES.iterdir() if not any(left_out in part.name for left_out in LEFT_OUT)]
    for part in (*parts, *(PROJECT / name for name in PARTS_OF_THE_PROJECT)):
        root.copy(part)
    root.copy_programs([_PYTHON, *_executables(TOOLS), *_shared_objects(parts)])
    root.file(_PYTHON.with_name("tgw"), f"#!{_PYTHON}\n{TGW}".encode(), executable=True)
    root.file(Path("/object/datapath.bpf.o"), build().read_bytes())
    root.file(Path("/commands"), json.dumps(wanted).encode())
    guest = (Path(__file__).parent / "guest.py").read_bytes()
    root.file(Path("/init"), f"#!{_PYTHON}\n".encode() + guest, executable=True)


def _wanted(commands: Sequence[Sequence[str]], manager: Sequence[str]) -> dict[str, object]:
    return {
        "commands": [[str(_PYTHON), *command] for command in commands],
        "directory": str(PROJECT),
        "environment": ENVIRONMENT,
        "service_manager": list(manager),
    }


def _executables(tools: Sequence[str]) -> list[Path]:
    return [Path(found).resolve() for tool in tools if (found := shutil.which(tool))]


def _other_names(tools: Sequence[str]) -> list[tuple[Path, str]]:
    """Links, such as of `sh` to a shell, and what they lead to."""
    found = (Path(place) for tool in tools if (place := shutil.which(tool)))
    places = ((place.parent.resolve() / place.name, place.resolve()) for place in found)
    return [(place, str(real)) for place, real in places if place != real]


def _shared_objects(parts: Sequence[Path]) -> list[Path]:
    modules = Path(sysconfig.get_config_var("DESTSHARED")).glob("*.so")
    libbpf = Path("/usr/lib").glob("*-linux-gnu/libbpf.so.1")
    return [*modules, *libbpf, *(found for part in parts for found in part.rglob("*.so"))]
