"""The datapath in the kernel: made whole or not at all, found again after a crash, replaced without losing a packet."""

import errno
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from gateway.datapath import links
from gateway.datapath.grace import grace
from gateway.datapath.libbpf import BpfError
from gateway.datapath.maps import Map
from gateway.datapath.object_file import KERNEL_NAME_LENGTH, LoadError, ObjectFile, identity
from gateway.datapath.pins import PinDirectory, open_pin, pin

Sizes: TypeAlias = Mapping[str, int]
Constants: TypeAlias = Mapping[str, Any]

NOTHING: Mapping[str, Any] = MappingProxyType({})


class NotPinnedError(LookupError):
    """There is no datapath in the pin directory."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """An interface whose packets a program takes."""

    ifindex: int
    program: str
    program_id: int


class Datapath:
    """A loaded datapath: its open `maps` by name and `programs` (file descriptors) by name."""

    def __init__(self, pins: PinDirectory, directory: Path) -> None:
        self.pins = pins
        self.maps = {path.name: Map.from_pin(path) for path in sorted((directory / "maps").iterdir())}
        self.programs = {path.name: open_pin(path) for path in sorted((directory / "programs").iterdir())}
        self.identity = next((directory / "identity").iterdir()).name

    @classmethod
    def open(
        cls, pins: PinDirectory, object_path: Path, sizes: Sizes = NOTHING, rodata: Constants = NOTHING
    ) -> "Datapath":
        """Adopt the pinned datapath, whatever its version, or create one."""
        try:
            return cls.adopt(pins)
        except NotPinnedError:
            return cls.create(pins, object_path, sizes, rodata)

    @classmethod
    def create(
        cls, pins: PinDirectory, object_path: Path, sizes: Sizes = NOTHING, rodata: Constants = NOTHING
    ) -> "Datapath":
        """Load and pin an object where there is none; nothing is attached. Raises LoadError."""
        pins.discard_staged()
        _load(pins, object_path, sizes, rodata, shared=[])
        pins.establish()
        return cls(pins, pins.current)

    @classmethod
    def adopt(cls, pins: PinDirectory) -> "Datapath":
        """Open what is pinned and finish what a killed daemon began; nothing is loaded. Raises NotPinnedError."""
        if not pins.current.exists():
            raise NotPinnedError(f"there is no datapath in {pins.path}")
        datapath = cls(pins, pins.current)
        datapath._take_over_links()
        return datapath

    def is_version(self, object_path: Path, rodata: Constants = NOTHING) -> bool:
        """Tell whether it was loaded from exactly this object with these constants."""
        return self.identity == identity(object_path, rodata)

    def differences(self, object_path: Path, sizes: Sizes = NOTHING) -> dict[str, str]:
        """Tell why maps cannot be shared with a new version of the programs: {map: the field that differs}."""
        with ObjectFile.open(object_path) as new:
            found = {
                name: map_.definition().difference(new.definition(name)) if name in new.maps else "gone"
                for name, map_ in self.maps.items()
            }
        for name, entries in sizes.items():
            if name in self.maps and self.maps[name].max_entries != entries:
                found[name] = found[name] or f"max_entries is {self.maps[name].max_entries}, wanted {entries}"
        return {name: difference for name, difference in found.items() if difference}

    def attach(self, ifindex: int, name: str, program: str, generic: bool = False) -> None:
        """Let `program` take the packets of an interface (`name` for messages), natively unless `generic`.

        One that is attached already is left, or given this program. Raises AttachError.
        """
        program_fd = self.programs[program]
        attached = self._attachment(self._link_path(ifindex))
        if attached is None:
            self._attach_anew(ifindex, name, program_fd, generic)
        elif attached.program != program:
            self._replace(ifindex, program_fd)

    def detach(self, ifindex: int) -> None:
        """Give an interface back to Linux."""
        path = self._link_path(ifindex)
        with _opened(path) as link_fd:
            links.detach(link_fd, f"interface {ifindex}")
        self.pins.checkpoint("detached")
        path.unlink()

    def attached(self) -> dict[int, Attachment]:
        """Ask the kernel what is attached, by interface index, and remove links whose interface is gone."""
        found = [self._attachment(path) for path in sorted(self.pins.links.iterdir())]
        return {attachment.ifindex: attachment for attachment in found if attachment}

    def stage(
        self, object_path: Path, reuse: Collection[str] = (), sizes: Sizes = NOTHING, rodata: Constants = NOTHING
    ) -> "Datapath":
        """Load another version beside this one, sharing the maps named in `reuse`; fill the others, then `promote` it.

        Raises LoadError, and then nothing has changed. Never shared: program arrays and rodata.
        """
        self.pins.discard_staged()
        unknown = set(reuse) - set(self.maps)
        if unknown:
            raise LoadError(errno.ENOENT, f"sharing maps {', '.join(sorted(unknown))} with {object_path}")
        _load(self.pins, object_path, sizes, rodata, [self.maps[name] for name in reuse])
        return Datapath(self.pins, self.pins.staged)

    def promote(self) -> None:
        """Let a staged version take the place of the current one, interface by interface, without losing a packet.

        When it returns, no packet is in the old version any more; its maps stay readable until the old Datapath is
        closed. If an interface refuses the new program, all stay with the old one and the error is raised.
        """
        missing = {attachment.program for attachment in self.attached().values()} - set(self.programs)
        if missing:
            raise LoadError(errno.ENOENT, f"promoting {self.pins.staged}: it lacks program {', '.join(missing)}")
        self.pins.exchange()
        try:
            self._take_over_links()
        except BpfError:
            self.pins.exchange()
            Datapath.adopt(self.pins).close()
            raise

    def close(self) -> None:
        """Close all file descriptors; what is pinned and attached runs on."""
        for map_ in self.maps.values():
            map_.close()
        for program_fd in self.programs.values():
            os.close(program_fd)

    def remove(self) -> None:
        """Detach from all interfaces, remove all pins and close."""
        for ifindex in self.attached():
            self.detach(ifindex)
        self.pins.withdraw()
        self.close()

    def _attachment(self, path: Path) -> Attachment | None:
        """Ask about the link that is pinned there, if there is one; remove it if its interface is gone."""
        if not path.exists():
            return None
        with _opened(path) as link_fd:
            state = links.state(link_fd)
        if not state.ifindex:
            path.unlink()
            return None
        return Attachment(state.ifindex, self._full_name(state.program_id), state.program_id)

    def _attach_anew(self, ifindex: int, name: str, program_fd: int, generic: bool) -> None:
        link_fd = links.create(program_fd, ifindex, name, generic)
        try:
            self.pins.checkpoint("linked")
            pin(link_fd, self._link_path(ifindex))
            self.pins.checkpoint("link pinned")
        finally:
            os.close(link_fd)

    def _take_over_links(self) -> None:
        """Let every link run this version; then, when no packet is in another one any more, remove that."""
        own = {links.program_info(program_fd).id for program_fd in self.programs.values()}
        for attachment in self.attached().values():
            if attachment.program_id not in own:
                self._replace(attachment.ifindex, self.programs[attachment.program])
        if self.pins.staged.exists():
            # Removing its last pins empties a program array at once, also under a packet that is just in it.
            grace()
            self.pins.discard_staged()

    def _replace(self, ifindex: int, program_fd: int) -> None:
        with _opened(self._link_path(ifindex)) as link_fd:
            links.replace_program(link_fd, program_fd, f"interface {ifindex}")
        self.pins.checkpoint(f"replaced {ifindex}")

    def _full_name(self, program_id: int) -> str:
        kernel_name = links.program_name(program_id)
        return next((name for name in self.programs if name[:KERNEL_NAME_LENGTH] == kernel_name), kernel_name)

    def _link_path(self, ifindex: int) -> Path:
        return self.pins.links / str(ifindex)


def _load(pins: PinDirectory, object_path: Path, sizes: Sizes, rodata: Constants, shared: Collection[Map]) -> None:
    """Load an object and pin it as the staged version."""
    with ObjectFile.open(object_path) as new:
        new.set_sizes(sizes)
        new.set_constants(rodata)
        for map_ in shared:
            new.share(map_)
        new.load()
        pins.checkpoint("loaded")
        new.pin(pins.staged, pins.checkpoint)
    (pins.staged / "identity" / identity(object_path, rodata)).mkdir(parents=True)
    pins.checkpoint("staged")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = open_pin(path)
    try:
        yield fd
    finally:
        os.close(fd)
