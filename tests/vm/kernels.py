"""Debian's stock kernels, as packages: downloaded once, kept in /var/cache, never installed."""

import io
import lzma
import re
import subprocess
import tarfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

CACHE = Path("/var/cache/tenant-gateway/kernels")
MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
METAPACKAGE = "linux-image-cloud-amd64"
MODULES = ("veth",)


class NoKernelError(Exception):
    """The package cannot be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a machine needs to boot: the image, and modules by name, in the order in which they load."""

    image: bytes
    modules: dict[str, bytes]


def stock_kernel(suite: str, modules: Collection[str] = MODULES) -> Kernel:
    """Return the kernel of a Debian suite, with these modules and all they depend on; raises NoKernelError."""
    directory = CACHE / suite
    if not list(directory.glob("linux-image-*.deb")):
        _download(suite, directory)
    return _unpack(next(directory.glob("linux-image-*.deb")), modules)


def _download(suite: str, directory: Path) -> None:
    """Fetch the package by an apt of its own, which knows this suite alone."""
    state = directory / "apt"
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    sources = state / "sources.list"
    sources.write_text(f"deb [arch=amd64 signed-by={KEYRING}] {MIRROR} {suite} main\n")
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": state,
        "Dir::Cache": state,
        "APT::Sandbox::User": "root",
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    _run(["apt-get", *options, "update", "-qq"], directory)
    listing = _run(["apt-cache", *options, "depends", METAPACKAGE], directory)
    package = next(line.split()[-1] for line in listing.splitlines() if "Depends: linux-image-" in line)
    _run(["apt-get", *options, "download", "-qq", package], state)
    next(state.glob("linux-image-*.deb")).rename(directory / f"{package}.deb")  # whole, or not there


def _run(command: list[str], directory: Path) -> str:
    completed = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise NoKernelError(f"{command[0]} could not fetch {METAPACKAGE} from {MIRROR}: {completed.stderr.strip()}")
    return completed.stdout


def _unpack(package: Path, wanted: Collection[str]) -> Kernel:
    archive = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True).stdout
    image, files = b"", {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = {member.name: member for member in tar}
        for name, member in members.items():
            path = Path(name)
            if path.name.startswith("vmlinuz-"):
                image = _content(tar, member)
            elif ".ko" in path.suffixes:
                files[_module_name(path.name)] = member
        return Kernel(image, _with_dependencies(wanted, lambda name: _module(tar, files[name])))


def _with_dependencies(wanted: Collection[str], read: Callable[[str], bytes]) -> dict[str, bytes]:
    """Return modules in the order in which they load: a module's `depends` names those that come before it."""
    modules: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name not in modules:
            content = read(name)
            listed = re.search(rb"\0depends=([^\0]*)", content)
            for dependency in filter(None, listed[1].decode().split(",") if listed else ()):
                add(_module_name(dependency))
            modules[name] = content

    for name in wanted:
        add(name)
    return modules


def _module_name(file: str) -> str:
    return file.partition(".")[0].replace("-", "_")


def _module(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = _content(tar, member)
    return lzma.decompress(content) if member.name.endswith(".xz") else content


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, member.name
    return file.read()
