"""A new version of the programs takes over without losing a packet; one that does not load changes nothing."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab import gateway, probes
from deploy.lab.running import RunningLab
from deploy.lab.streams import Report, Stream, streaming
from gateway.datapath import build

LATER = 'SEC("xdp") int later_version(struct xdp_md *c) { return c->data == c->data_end ? XDP_DROP : XDP_PASS; }\n'
UNLOADABLE = 'SEC("xdp") int unloadable(struct xdp_md *c) { return *(volatile int *)(long)c->data; }\n'
STREAMS = (
    Stream("blue", "BlueVM1", "BlueVM3", "10.1.6.21"),
    Stream("blue", "blue-corpnet", "BlueVM2", "10.1.1.12"),
    Stream("red", "RedVM1", "RedVM3", "10.1.6.21"),
    Stream("red", "RedVM3", "red-corpnet", "157.1.0.10"),
)


def build_with(addition: str, directory: Path) -> Path:
    """Compile the programs with something added; return the directory of the object."""
    sources = directory / "bpf"
    shutil.copytree(build.SOURCE.parent, sources)
    source = sources / build.SOURCE.name
    source.write_text(f"{source.read_text()}\n{addition}")
    return build.build(source, directory / build.object_path().name).parent


def programs(lab: RunningLab) -> list[str]:
    """Return the kernel's ids of the XDP programs of the gateway's interfaces."""
    return re.findall(r"prog/xdp id (\d+)", lab.run("gateway", "ip", "-d", "link", "show"))


def restart_under_streams(lab: RunningLab, objects: Path) -> list[Report]:
    with streaming(lab, STREAMS) as reports:
        gateway.stop(lab)
        gateway.start(lab, TGW_BUILD_DIR=str(objects))
    return [report for report in reports if not report.sent or report.lost or report.foreign or report.duplicates]


@pytest.fixture
def own_version_again(blue_red: RunningLab) -> Iterator[None]:
    yield
    gateway.stop(blue_red)
    gateway.start(blue_red)


@pytest.mark.usefixtures("own_version_again")
def test_a_new_program_version_takes_over_without_losing_a_packet(blue_red: RunningLab, tmp_path: Path) -> None:
    before = programs(blue_red)
    assert restart_under_streams(blue_red, build_with(LATER, tmp_path)) == []
    after = programs(blue_red)
    assert len(after) == len(before) == 3
    assert set(after).isdisjoint(before)
    assert probes.status(blue_red)["policy"]["programmed"]


@pytest.mark.usefixtures("own_version_again")
def test_a_program_version_that_does_not_load_leaves_the_old_one_forwarding(
    blue_red: RunningLab, tmp_path: Path
) -> None:
    before = programs(blue_red)
    assert restart_under_streams(blue_red, build_with(UNLOADABLE, tmp_path)) == []
    assert programs(blue_red) == before
    assert any("unloadable" in fault for fault in probes.status(blue_red)["faults"])
