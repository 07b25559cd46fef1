"""The datapath as a whole: created, adopted, attached, refused and replaced."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from loader_support import (
    FRAME,
    XDP_DROP,
    XDP_PASS,
    add_veth_pair,
    frames_counted,
    frames_sent,
    index,
    ip,
    mounted_bpffs,
    needs_root,
    own_network,
    sample,
)

from gateway.datapath.links import AttachError
from gateway.datapath.loader import Datapath, NotPinnedError
from gateway.datapath.object_file import LoadError
from gateway.datapath.pins import PinDirectory, PinsBusyError
from gateway.datapath.test_run import run

pytestmark = needs_root
KEY = (7).to_bytes(8, "little")


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[PinDirectory]:
    with (
        mounted_bpffs(tmp_path / "bpf") as bpffs,
        PinDirectory.hold(bpffs / "gateway", tmp_path / "lock") as pins,
    ):
        yield pins


@pytest.fixture
def network() -> Iterator[None]:
    with own_network():
        yield


def test_a_second_daemon_is_refused(pins: PinDirectory, tmp_path: Path) -> None:
    with pytest.raises(PinsBusyError, match="is locked by process"), PinDirectory.hold(pins.path, tmp_path / "lock"):
        pass


def test_a_directory_outside_bpffs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="mount -t bpf"), PinDirectory.hold(tmp_path / "x", tmp_path / "lock"):
        pass


def test_nothing_is_adopted_where_nothing_is_pinned(pins: PinDirectory) -> None:
    with pytest.raises(NotPinnedError):
        Datapath.adopt(pins)


def test_what_was_created_is_adopted_with_its_contents(pins: PinDirectory, tmp_path: Path) -> None:
    created = Datapath.open(pins, sample(tmp_path), {"table": 99}, {"verdict": XDP_DROP})
    created.maps["table"].update(KEY, KEY)
    created.close()
    adopted = Datapath.open(pins, sample(tmp_path))
    assert adopted.maps["table"].lookup(KEY) == KEY
    assert adopted.maps["table"].max_entries == 99
    assert run(adopted.programs["receive"], FRAME) == (XDP_DROP, FRAME)
    adopted.close()


def test_an_adopted_datapath_knows_its_version(pins: PinDirectory, tmp_path: Path) -> None:
    datapath = Datapath.create(pins, sample(tmp_path, 1), rodata={"verdict": XDP_DROP})
    assert datapath.is_version(sample(tmp_path, 1), {"verdict": XDP_DROP})
    assert not datapath.is_version(sample(tmp_path, 1), {"verdict": XDP_PASS})
    assert not datapath.is_version(sample(tmp_path, 2), {"verdict": XDP_DROP})
    datapath.close()


def test_an_object_that_is_none_is_refused(pins: PinDirectory, tmp_path: Path) -> None:
    (tmp_path / "text.o").write_text("text")
    with pytest.raises(LoadError, match="is it a BPF object"):
        Datapath.create(pins, tmp_path / "text.o")
    assert not pins.current.exists()


def test_an_unknown_map_or_constant_is_refused_by_name(pins: PinDirectory, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="map tabel: .*; it has .*table"):
        Datapath.create(pins, sample(tmp_path), {"tabel": 1})
    with pytest.raises(LoadError, match="setting the constant verdikt"):
        Datapath.create(pins, sample(tmp_path), rodata={"verdikt": 1})


def test_the_verifiers_reason_and_instruction_count_are_told(pins: PinDirectory, tmp_path: Path) -> None:
    with pytest.raises(LoadError) as refusal:
        Datapath.create(pins, sample(tmp_path, 1, "OUT_OF_BOUNDS"))
    message = str(refusal.value)
    assert "the verifier refused program answer after" in message
    assert "invalid access to map value, value_size=8 off=8 size=8" in message
    assert not pins.current.exists()
    assert not pins.staged.exists()


def test_maps_that_cannot_be_made_are_not_blamed_on_the_programs(pins: PinDirectory, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="making its maps"):
        Datapath.create(pins, sample(tmp_path), {"devices": 0})


def test_every_differing_map_and_its_first_differing_field_are_told(pins: PinDirectory, tmp_path: Path) -> None:
    datapath = Datapath.create(pins, sample(tmp_path, 1))
    assert datapath.differences(sample(tmp_path, 2)) == {}
    assert datapath.differences(sample(tmp_path, 2, "WIDER_RECORD"), {"table": 2048, "words": 5}) == {
        "records": "value.address_count is new",
        "table": "max_entries is 1024, wanted 2048",
    }
    datapath.close()


def test_an_attached_program_gets_the_frames_until_detached(pins: PinDirectory, network: None, tmp_path: Path) -> None:
    datapath = Datapath.create(pins, sample(tmp_path), rodata={"verdict": XDP_DROP})
    datapath.attach(index("e0"), "e0", "receive")
    assert [(a.ifindex, a.program) for a in datapath.attached().values()] == [(index("e0"), "receive")]
    with frames_sent("e1") as stop:
        sent = stop()
    assert frames_counted(datapath, sent) == {1: sent}
    datapath.detach(index("e0"))
    assert datapath.attached() == {}
    with frames_sent("e1") as stop:
        stop()
    assert frames_counted(datapath) == {1: sent}
    datapath.close()


def test_attaching_again_changes_at_most_the_program(pins: PinDirectory, network: None, tmp_path: Path) -> None:
    datapath = Datapath.create(pins, sample(tmp_path))
    datapath.attach(index("e0"), "e0", "receive")
    datapath.attach(index("e0"), "e0", "receive")
    datapath.attach(index("e0"), "e0", "answer")
    assert datapath.attached()[index("e0")].program == "answer"
    datapath.close()


def test_an_interface_held_by_another_link_is_refused_naming_the_holder(
    pins: PinDirectory, network: None, tmp_path: Path
) -> None:
    datapath = Datapath.create(pins, sample(tmp_path))
    datapath.attach(index("e0"), "e0", "receive")
    with PinDirectory.hold(pins.path.with_name("other"), tmp_path / "other") as other_pins:
        other = Datapath.create(other_pins, sample(tmp_path))
        with pytest.raises(AttachError, match=r"XDP to e0 .*busy; program \d+ \(receive\) holds it by link \d+"):
            other.attach(index("e0"), "e0", "receive")
        assert other.attached() == {}
        other.remove()
    datapath.close()


def test_an_interface_held_without_a_link_is_refused_naming_the_holder(
    pins: PinDirectory, network: None, tmp_path: Path
) -> None:
    datapath = Datapath.create(pins, sample(tmp_path))
    program = pins.current / "programs" / "answer"
    subprocess.run(["bpftool", "net", "attach", "xdp", "pinned", program, "dev", "e0"], check=True)
    with pytest.raises(AttachError, match=r"program \d+ \(answer\) holds it without a link"):
        datapath.attach(index("e0"), "e0", "receive")
    datapath.close()


def test_native_xdp_where_there_is_none_is_refused_and_generic_only_when_told(
    pins: PinDirectory, network: None, tmp_path: Path
) -> None:
    datapath = Datapath.create(pins, sample(tmp_path))
    with pytest.raises(AttachError, match="native XDP to lo .*tgw doctor"):
        datapath.attach(index("lo"), "lo", "receive")
    datapath.attach(index("lo"), "lo", "receive", generic=True)
    assert set(datapath.attached()) == {index("lo")}
    datapath.close()


def test_a_peer_with_too_large_an_mtu_is_refused_with_the_mend(
    pins: PinDirectory, network: None, tmp_path: Path
) -> None:
    ip("link set e1 mtu 9000")
    datapath = Datapath.create(pins, sample(tmp_path))
    with pytest.raises(AttachError, match="MTU, or its peer's, is too large"):
        datapath.attach(index("e0"), "e0", "receive")
    datapath.close()


def test_a_missing_interface_is_refused_as_such(pins: PinDirectory, network: None, tmp_path: Path) -> None:
    datapath = Datapath.create(pins, sample(tmp_path))
    with pytest.raises(AttachError, match="no such interface"):
        datapath.attach(9999, "e9", "receive")
    datapath.close()


def test_an_interface_that_vanished_can_be_attached_when_it_returns(
    pins: PinDirectory, network: None, tmp_path: Path
) -> None:
    datapath = Datapath.create(pins, sample(tmp_path), rodata={"verdict": XDP_DROP})
    datapath.attach(index("e0"), "e0", "receive")
    ip("link del e0")
    assert datapath.attached() == {}
    assert list(pins.links.iterdir()) == []
    add_veth_pair()
    datapath.attach(index("e0"), "e0", "receive")
    with frames_sent("e1") as stop:
        sent = stop()
    assert frames_counted(datapath, sent) == {1: sent}
    datapath.close()


def test_a_new_version_takes_over_without_losing_a_frame(pins: PinDirectory, network: None, tmp_path: Path) -> None:
    current = Datapath.create(pins, sample(tmp_path, 1), rodata={"verdict": XDP_DROP})
    current.maps["table"].update(KEY, KEY)
    current.attach(index("e0"), "e0", "receive")
    with frames_sent("e1") as stop:
        for version in (2, 3, 4):
            reuse = {"received", "table"}
            staged = current.stage(sample(tmp_path, version), reuse, rodata={"verdict": XDP_DROP})
            staged.promote()
            current.close()
            current = staged
        sent = stop()
    counted = frames_counted(current, sent)
    assert sum(counted.values()) == sent
    assert counted[1] > 0
    assert current.maps["table"].lookup(KEY) == KEY
    assert not pins.staged.exists()
    current.close()
    adopted = Datapath.adopt(pins)
    assert adopted.is_version(sample(tmp_path, 4), {"verdict": XDP_DROP})
    adopted.close()


def test_a_map_that_is_not_shared_is_new_and_may_be_larger(pins: PinDirectory, tmp_path: Path) -> None:
    current = Datapath.create(pins, sample(tmp_path, 1))
    current.maps["table"].update(KEY, KEY)
    staged = current.stage(sample(tmp_path, 2, "WIDER_RECORD"), {"received"}, {"table": 4096})
    assert staged.maps["received"].id == current.maps["received"].id
    assert staged.maps["table"].lookup(KEY) is None
    assert staged.maps["table"].max_entries == 4096
    assert staged.maps["records"].value_size == 48
    staged.promote()
    staged.close()
    current.close()


def test_a_new_version_that_does_not_load_changes_nothing(pins: PinDirectory, network: None, tmp_path: Path) -> None:
    current = Datapath.create(pins, sample(tmp_path, 1), rodata={"verdict": XDP_DROP})
    current.attach(index("e0"), "e0", "receive")
    attached = current.attached()
    with pytest.raises(LoadError):
        current.stage(sample(tmp_path, 2, "OUT_OF_BOUNDS"))
    assert current.attached() == attached
    assert not pins.staged.exists()
    current.close()


def test_an_incompatible_map_cannot_be_shared(pins: PinDirectory, tmp_path: Path) -> None:
    current = Datapath.create(pins, sample(tmp_path, 1))
    with pytest.raises(LoadError, match="sharing map records: .*value.address_count is new"):
        current.stage(sample(tmp_path, 2, "WIDER_RECORD"), {"records"})
    with pytest.raises(LoadError, match="sharing map stages: .*belong to one version"):
        current.stage(sample(tmp_path, 2), {"stages"})
    with pytest.raises(LoadError, match="sharing maps tabel"):
        current.stage(sample(tmp_path, 2), {"tabel"})
    current.close()


def test_a_version_without_an_attached_program_is_not_promoted(
    pins: PinDirectory, network: None, tmp_path: Path
) -> None:
    current = Datapath.create(pins, sample(tmp_path, 1))
    current.attach(index("e0"), "e0", "receive")
    staged = current.stage(sample(tmp_path, 2, "WITHOUT_RECEIVE"))
    with pytest.raises(LoadError, match="lacks program receive"):
        staged.promote()
    assert current.attached()[index("e0")].program == "receive"
    staged.close()
    current.close()


def test_when_an_interface_refuses_the_new_program_all_keep_the_old_one(
    pins: PinDirectory, network: None, tmp_path: Path
) -> None:
    current = Datapath.create(pins, sample(tmp_path, 1, section="xdp.frags"))
    ip("link set e1 mtu 9000")
    current.attach(index("lo"), "lo", "receive", generic=True)
    current.attach(index("e0"), "e0", "receive")
    attached = current.attached()
    staged = current.stage(sample(tmp_path, 2))
    with pytest.raises(OSError, match="replacing the XDP program"):
        staged.promote()
    assert current.attached() == attached
    staged.close()
    current.close()
    adopted = Datapath.adopt(pins)
    assert adopted.is_version(sample(tmp_path, 1, section="xdp.frags"))
    adopted.close()


def test_removing_leaves_no_pin_and_no_program_attached(pins: PinDirectory, network: None, tmp_path: Path) -> None:
    datapath = Datapath.create(pins, sample(tmp_path))
    datapath.attach(index("e0"), "e0", "receive")
    datapath.remove()
    assert list(pins.path.rglob("*")) == [pins.links]
    assert b"xdp" not in subprocess.run(["ip", "link", "show", "e0"], check=True, capture_output=True).stdout
