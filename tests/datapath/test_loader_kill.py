"""kill -9 between every two steps: packets are forwarded on, and the next start adopts or repairs."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from loader_support import (
    XDP_DROP,
    frames_counted,
    frames_sent,
    index,
    killed_after,
    mounted_bpffs,
    needs_root,
    own_network,
    sample,
)

from gateway.datapath.loader import Datapath
from gateway.datapath.pins import PinDirectory

pytestmark = needs_root
KEY = (7).to_bytes(8, "little")
CONSTANTS = {"verdict": XDP_DROP}

Checkpoint = Callable[[str], None]


def test_a_daemon_killed_while_creating_and_attaching_leaves_what_the_next_one_completes(tmp_path: Path) -> None:
    object_path = sample(tmp_path, 1)
    with mounted_bpffs(tmp_path / "bpf") as bpffs, own_network():
        for step in count():
            directory, lock = bpffs / f"gateway{step}", tmp_path / "lock"

            def start(checkpoint: Checkpoint, directory: Path = directory, lock: Path = lock) -> None:
                with PinDirectory.hold(directory, lock, checkpoint) as pins:
                    Datapath.open(pins, object_path, rodata=CONSTANTS).attach(index("e0"), "e0", "receive")

            killed = killed_after(step, start)
            with PinDirectory.hold(directory, lock) as pins:
                datapath = Datapath.open(pins, object_path, rodata=CONSTANTS)
                datapath.attach(index("e0"), "e0", "receive")
                with frames_sent("e1") as stop:
                    sent = stop()
                assert frames_counted(datapath, sent) == {1: sent}
                assert not pins.staged.exists()
                datapath.remove()
            if not killed:
                break
    assert step > 10


@pytest.mark.parametrize("interfaces", [("e0",), ("e0", "e1")], ids=["one_interface", "two_interfaces"])
def test_a_daemon_killed_while_upgrading_loses_no_frame_and_leaves_one_whole_version(
    tmp_path: Path, interfaces: tuple[str, ...]
) -> None:
    versions = {1: sample(tmp_path, 1), 2: sample(tmp_path, 2)}
    found = set()
    with mounted_bpffs(tmp_path / "bpf") as bpffs, own_network():
        for step in count():
            directory, lock = bpffs / f"gateway{step}", tmp_path / "lock"

            def upgrade(checkpoint: Checkpoint, directory: Path = directory, lock: Path = lock) -> None:
                with PinDirectory.hold(directory, lock, checkpoint) as pins:
                    staged = Datapath.adopt(pins).stage(versions[2], {"received"}, rodata=CONSTANTS)
                    staged.maps["table"].update(KEY, KEY)
                    checkpoint("filled")
                    staged.promote()

            with PinDirectory.hold(directory, lock) as pins:
                first = Datapath.create(pins, versions[1], rodata=CONSTANTS)
                for name in interfaces:
                    first.attach(index(name), name, "receive")
                first.close()
            with frames_sent("e1") as stop:
                killed = killed_after(step, upgrade)
                with PinDirectory.hold(directory, lock) as pins:
                    adopted = Datapath.adopt(pins)
                    sent = stop()
                    assert sum(frames_counted(adopted, sent).values()) == sent
                    version = 1 if adopted.is_version(versions[1], CONSTANTS) else 2
                    assert adopted.is_version(versions[version], CONSTANTS)
                    assert adopted.maps["table"].lookup(KEY) == (KEY if version == 2 else None)
                    assert {index(name) for name in interfaces} == set(adopted.attached())
                    assert not pins.staged.exists()
                    adopted.remove()
            found.add((killed, version))
            if not killed:
                break
    assert found == {(True, 1), (True, 2), (False, 2)}


def test_a_daemon_killed_while_detaching_leaves_the_interface_free(tmp_path: Path) -> None:
    with mounted_bpffs(tmp_path / "bpf") as bpffs, own_network():
        for step in count():
            directory, lock = bpffs / f"gateway{step}", tmp_path / "lock"

            def detach(checkpoint: Checkpoint, directory: Path = directory, lock: Path = lock) -> None:
                with PinDirectory.hold(directory, lock, checkpoint) as pins:
                    Datapath.adopt(pins).detach(index("e0"))

            with PinDirectory.hold(directory, lock) as pins:
                datapath = Datapath.create(pins, sample(tmp_path, 1))
                datapath.attach(index("e0"), "e0", "receive")
                datapath.close()
            killed = killed_after(step, detach)
            with PinDirectory.hold(directory, lock) as pins:
                datapath = Datapath.adopt(pins)
                assert datapath.attached() == {}
                datapath.attach(index("e0"), "e0", "receive")
                datapath.remove()
            if not killed:
                break
    assert step == 1
