"""A machine under QEMU that has a stock kernel, and of this machine Python, the project and its compiled datapath."""

import json
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from gateway.datapath.build import build
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
SECONDS = 500
TGW = "from gateway.cli.main import app\napp()\n"


def run(
    kernel: Kernel,
    commands: Sequence[Sequence[str]],
    directory: Path,
    tools: Sequence[str] = (),
    files: Sequence[Path] = (),
) -> str:
    """Boot, run commands of Python's (["-m", "pytest"]) in the project's directory one after another; the console.

    The machine has these tools and files of this one besides what every one has.
    """
    image, initramfs = directory / "vmlinuz", directory / "initramfs"
    image.write_bytes(kernel.image)
    with initramfs.open("wb") as output:
        root = Initramfs(output)
        for file in files:
            root.copy(file)
        root.copy_programs(_executables(tools) + [found for file in files for found in file.rglob("*.so*")])
        for name, place in _other_names(tools):
            root.link(name, place)
        _write(root, kernel, commands)
    machine = [QEMU, "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "2560", "-nic", "none"]
    arguments = ["-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", str(image), "-initrd", str(initramfs)]
    completed = subprocess.run(
        [*machine, *arguments, "-append", KERNEL_OPTIONS],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS,
        check=False,
    )
    return completed.stdout.decode(errors="replace").replace("\r", "")


def _write(root: Initramfs, kernel: Kernel, commands: Sequence[Sequence[str]]) -> None:
    python = Path(sys.executable).resolve()
    packages = Path(site.getsitepackages()[0])
    for name in ("bin", "sbin", "lib", "lib64"):
        root.link(Path("/") / name, f"usr/{name}")
    for number, (name, content) in enumerate(kernel.modules.items()):
        root.file(Path("/modules") / f"{number:03}-{name}", content)
    root.copy(Path(sysconfig.get_path("stdlib")))
    parts = [part for part in packages.iterdir() if not any(left_out in part.name for left_out in LEFT_OUT)]
    for part in (*parts, *(PROJECT / name for name in PARTS_OF_THE_PROJECT)):
        root.copy(part)
    root.copy_programs([python, *_executables(TOOLS), *_shared_objects(parts)])
    root.file(python.with_name("tgw"), f"#!{python}\n{TGW}".encode(), executable=True)
    root.file(Path("/object/datapath.bpf.o"), build().read_bytes())
    root.file(Path("/commands"), json.dumps(_commands(python, packages, commands)).encode())
    guest = (Path(__file__).parent / "guest.py").read_bytes()
    root.file(Path("/init"), f"#!{python}\n".encode() + guest, executable=True)
    root.close()


def _commands(python: Path, packages: Path, commands: Sequence[Sequence[str]]) -> dict[str, object]:
    environment = {
        "PATH": "/usr/sbin:/usr/bin",
        "PYTHONPATH": f"{PROJECT}:{packages}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TGW_BUILD_DIR": "/object",
    }
    whole = [[str(python), *command] for command in commands]
    return {"commands": whole, "directory": str(PROJECT), "environment": environment}


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
