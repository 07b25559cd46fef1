"""The pinned datapath at the start of the daemon: created, adopted, or replaced by this release's version."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import structlog

from gateway.configuration import GatewayConfiguration
from gateway.datapath.loader import Datapath
from gateway.datapath.map_definition import MapType
from gateway.datapath.object_file import LoadError
from gateway.datapath.pins import PinDirectory
from gateway.programming.carrying import Carrying
from gateway.programming.memory import CHUNK_LINES

log = structlog.get_logger(__name__)

LINES_PER_MEGABYTE = (1 << 20) // 64
_TOGETHER = (  # maps that name places in one another
    frozenset({"arena", "root", "tables", "choices"}),
    frozenset({"domains", "connections"}),
)
# What no block of the new version names is taken back, while the old version may still need it.
_NAMED_BY_BLOCKS = {"endpoints", "ports", "devices", "neighbours"}


@dataclass(frozen=True, slots=True)
class Adopted:
    """The datapath to program.

    `predecessor` forwards until this one, whose tables are still empty, is promoted; `carrying` brings its connections
    where the two do not share them. `fault` says why an older version runs on, where this release's does not load.
    """

    datapath: Datapath
    predecessor: Datapath | None = None
    carrying: Carrying | None = None
    fault: str | None = None

    def promote(self) -> None:
        """Let the datapath take its predecessor's place, if it has one, without losing a packet. Errors: BpfError."""
        if self.predecessor is not None:
            if self.carrying is not None:
                self.carrying.catch_up()
            self.datapath.promote()
            if self.carrying is not None:
                self.carrying.catch_up()
            self.predecessor.close()


def adopt(pins: PinDirectory, object_path: Path, configuration: GatewayConfiguration) -> Adopted:
    """Open the pinned datapath; it forwards all the while. Errors: BpfError, and then the old one forwards on."""
    sizes = _sizes(configuration)
    datapath = Datapath.open(pins, object_path, sizes)
    differences = datapath.differences(object_path, sizes)
    if datapath.is_version(object_path) and not differences:
        return Adopted(datapath)
    log.info("new_version", maps_made_anew=differences)
    shared = _shareable(datapath, differences.keys())
    if differences:
        successor = datapath.stage(object_path, shared, sizes)
        carrying = None if "connections" in shared else Carrying(datapath, successor)
        return Adopted(successor, datapath, carrying)
    try:
        successor = datapath.stage(object_path, shared, sizes)
    except LoadError as error:
        log.error("new_version_not_loaded", why=str(error))
        return Adopted(datapath, fault=f"the datapath's new version does not load, the old one runs on: {error}")
    successor.promote()
    datapath.close()
    return Adopted(successor)


def _shareable(datapath: Datapath, differing: Collection[str]) -> list[str]:
    """Name the maps that two versions can have in common; program arrays hold each version's own programs."""
    apart = {name for group in _TOGETHER if not group.isdisjoint(differing) for name in group} | set(differing)
    if "arena" in apart:
        apart |= _NAMED_BY_BLOCKS
    return [name for name, map_ in datapath.maps.items() if map_.type != MapType.PROG_ARRAY and name not in apart]


def _sizes(configuration: GatewayConfiguration) -> dict[str, int]:
    """Halve the configured memory: chunks of the arena for tables, lines of 64 bytes for connections."""
    half = configuration.datapath.memory_mb * LINES_PER_MEGABYTE // 2
    return {"arena": max(1, half // CHUNK_LINES), "connections": half}
