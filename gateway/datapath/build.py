"""Compile the datapath: gateway/datapath/bpf/*.c to build/datapath.bpf.o (or TGW_BUILD_DIR/datapath.bpf.o)."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent / "bpf" / "datapath.bpf.c"
_CHECKOUT = Path(__file__).parents[2]
_FLAGS = ("-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror")


class BuildError(Exception):
    """clang, its headers or the source are at fault; the message says which, and which Debian package mends it."""


def object_path() -> Path:
    """Where the compiled datapath is, or will be."""
    directory = os.environ.get("TGW_BUILD_DIR")
    return (Path(directory) if directory else _CHECKOUT / "build") / "datapath.bpf.o"


def build(source: Path = SOURCE, output: Path | None = None) -> Path:
    """Compile `source` if `output` (default `object_path()`) is older than any file beside it; return `output`."""
    output = output or object_path()
    if _is_current(source, output):
        return output
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f"{output.name}.{os.getpid()}")
    try:
        _compile(source, temporary)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
    return output


def _is_current(source: Path, output: Path) -> bool:
    if not output.exists():
        return False
    sources = [path for path in source.parent.iterdir() if path.suffix in (".c", ".h")]
    return all(path.stat().st_mtime_ns < output.stat().st_mtime_ns for path in sources)


def _compile(source: Path, output: Path) -> None:
    clang = shutil.which("clang")
    if clang is None:
        raise BuildError("clang is not installed: apt-get install clang")
    # The BPF target has no asm/ headers of its own: those of this machine serve.
    machine_headers = f"/usr/include/{platform.machine()}-linux-gnu"
    command = [clang, *_FLAGS, "-idirafter", machine_headers, "-c", str(source), "-o", str(output)]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise BuildError(f"{' '.join(command)}\n{completed.stderr}{_missing_package(completed.stderr)}")


def _missing_package(diagnostics: str) -> str:
    packages = {"bpf/": "libbpf-dev", "linux/": "linux-libc-dev", "asm/": "linux-libc-dev"}
    for directory, package in packages.items():
        if f"fatal error: '{directory}" in diagnostics and "file not found" in diagnostics:
            return f"apt-get install {package}"
    return ""


if __name__ == "__main__":
    try:
        print(build())
    except BuildError as error:
        sys.exit(str(error))
