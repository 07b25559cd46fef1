"""The benchmark's own BPF programs: compiled, loaded, attached until the benchmark ends."""

import os
import socket
from contextlib import ExitStack
from pathlib import Path

from gateway.datapath import links
from gateway.datapath.build import build, object_path
from gateway.datapath.layout import Layout
from gateway.datapath.libbpf import library
from gateway.datapath.maps import Map
from gateway.datapath.object_file import ObjectFile
from tests.bench.namespaces import inside

SOURCES = Path(__file__).parent / "bpf"


class Programs:
    """One loaded object: `programs` (file descriptors) and `maps` by name, `layout` of its structures."""

    def __init__(self, source: str, lifetime: ExitStack) -> None:
        path = build(SOURCES / f"{source}.c", object_path().parent / "bench" / f"{source}.bpf.o")
        opened = lifetime.enter_context(ObjectFile.open(path))
        opened.load()
        self._lifetime = lifetime
        self.layout = Layout.of(path)
        self.programs = {name: int(library.bpf_program__fd(handle)) for name, handle in opened.programs.items()}
        self.maps = {name: Map(library.bpf_map__fd(handle), name) for name, handle in opened.maps.items()}

    def attach(self, program: str, namespace: str, interface: str) -> None:
        with inside(namespace):
            link = links.create(self.programs[program], socket.if_nametoindex(interface), interface, generic=False)
        self._lifetime.callback(os.close, link)

    def set_device(self, key: int, namespace: str, interface: str) -> None:
        """Let a key of the object's device map stand for an interface."""
        with inside(namespace):
            self.maps["devices"].update(word(key), word(socket.if_nametoindex(interface)))


def word(value: int) -> bytes:
    """Encode a __u32 as BPF has it."""
    return value.to_bytes(4, "little")
