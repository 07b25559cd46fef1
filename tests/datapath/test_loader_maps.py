"""Maps, ring buffers, test runs and the grace period, on a loaded sample."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest
from loader_support import FRAME, XDP_DROP, frames_counted, index, mounted_bpffs, needs_root, own_network, sample

from gateway.datapath import grace as grace_module
from gateway.datapath.grace import grace
from gateway.datapath.layout import Layout
from gateway.datapath.libbpf import BpfError
from gateway.datapath.loader import Datapath
from gateway.datapath.maps import BATCH, Map, MapError, possible_cpus
from gateway.datapath.pins import PinDirectory
from gateway.datapath.ring_buffer import RingBuffer
from gateway.datapath.test_run import live_frames, run

pytestmark = needs_root


@pytest.fixture
def datapath(tmp_path: Path) -> Iterator[Datapath]:
    with (
        mounted_bpffs(tmp_path / "bpf") as bpffs,
        PinDirectory.hold(bpffs / "gateway", tmp_path / "lock") as pins,
    ):
        sizes, rodata = {"table": 3 * BATCH}, {"verdict": XDP_DROP, "colour": 7}
        datapath = Datapath.create(pins, sample(tmp_path), sizes, rodata)
        yield datapath
        datapath.close()


def word(number: int) -> bytes:
    return number.to_bytes(4, "little")


def double(number: int) -> bytes:
    return number.to_bytes(8, "little")


def test_a_map_holds_what_was_written_until_it_is_deleted(datapath: Datapath) -> None:
    table = datapath.maps["table"]
    assert table.lookup(double(5)) is None
    table.update(double(5), double(6))
    assert table.lookup(double(5)) == double(6)
    assert table.delete(double(5))
    assert not table.delete(double(5))
    assert table.lookup(double(5)) is None


def test_a_size_given_at_load_is_the_size_of_the_map(datapath: Datapath) -> None:
    assert datapath.maps["table"].max_entries == 3 * BATCH
    assert datapath.maps["records"].max_entries == 16


def test_many_entries_are_written_read_and_deleted_in_several_batches(datapath: Datapath) -> None:
    table, keys = datapath.maps["table"], numpy.arange(2 * BATCH + 17, dtype="u8")
    table.update_many(keys, keys * 3)
    assert {int.from_bytes(k, "little"): int.from_bytes(v, "little") for k, v in table.items()} == {
        int(key): int(key) * 3 for key in keys
    }
    table.delete_many(keys[5:])
    read_keys, read_values = table.entries()
    assert sorted(read_keys.view("u8")[:, 0]) == [0, 1, 2, 3, 4]
    assert sorted(read_values.view("u8")[:, 0]) == [0, 3, 6, 9, 12]


def test_an_empty_map_has_no_entries(datapath: Datapath) -> None:
    assert list(datapath.maps["table"].items()) == []


def test_a_map_type_without_batches_is_read_one_by_one(datapath: Datapath) -> None:
    stages = dict(datapath.maps["stages"].items())
    assert list(stages) == [word(1)]


def test_an_error_names_the_map_the_operation_and_the_key(datapath: Datapath) -> None:
    table = datapath.maps["table"]
    table.update(double(1), double(1))
    with pytest.raises(MapError, match="map table: updating 0100000000000000: File exists") as error:
        table.update(double(1), double(2), flags=1)
    assert error.value.errno == errno.EEXIST
    with pytest.raises(MapError, match="map table: deleting entry 1, key 0700000000000000: No such file"):
        table.delete_many(double(1) + double(7) + double(8))
    with pytest.raises(MapError, match="map words: updating 05000000: .*; it holds at most 5 entries"):
        datapath.maps["words"].update(word(5), word(0))
    with pytest.raises(MapError, match="map table: mapping"):
        table.mmap()


def test_a_key_or_value_of_the_wrong_length_is_refused(datapath: Datapath) -> None:
    table = datapath.maps["table"]
    with pytest.raises(ValueError, match="map table: a key has 8 bytes, not 4"):
        table.lookup(word(1))
    with pytest.raises(ValueError, match="map table: a value has 8 bytes, not 4"):
        table.update(double(1), word(1))
    with pytest.raises(ValueError, match="map table: 2 keys for 1 values"):
        table.update_many(double(1) + double(2), double(1))


def test_mapped_memory_is_the_map(datapath: Datapath, tmp_path: Path) -> None:
    records = datapath.maps["records"].records(Layout.of(sample(tmp_path)).struct("record"))
    assert len(records) == 16
    records[3]["addresses"][1]["network"] = 0x0A000001
    assert datapath.maps["records"].lookup(word(3)) == records[3].tobytes()
    datapath.maps["records"].update(word(15), b"\x07" + bytes(39))
    assert records["number"][15] == 7


def test_values_smaller_than_eight_bytes_are_found_in_mapped_memory(datapath: Datapath) -> None:
    words = datapath.maps["words"].records("u4")
    words[:] = [1, 2, 3, 4, 5]
    assert [datapath.maps["words"].lookup(word(key)) for key in range(5)] == [word(n) for n in (1, 2, 3, 4, 5)]


def test_per_cpu_values_are_read_together(datapath: Datapath) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    for cpu in cpus:
        os.sched_setaffinity(0, {cpu})
        run(datapath.programs["receive"], FRAME)
    os.sched_setaffinity(0, cpus)
    received = datapath.maps["received"]
    assert received.lookup_percpu(word(1))[cpus].tolist() == [1] * len(cpus)
    assert received.read_percpu()[1][cpus].tolist() == [1] * len(cpus)
    assert received.read_percpu().sum() == len(cpus)


def test_the_counters_of_all_cpus_are_added_up(datapath: Datapath, tmp_path: Path) -> None:
    traffic, counters = datapath.maps["traffic"], Layout.of(sample(tmp_path)).struct("counters")
    values = numpy.zeros(possible_cpus(), counters)
    values["packets"], values["bytes"] = (3, 4), 5
    traffic.update(word(2), values.tobytes())
    total = traffic.sum_percpu(counters)
    assert total["packets"].tolist() == [[0, 0], [0, 0], [3 * len(values), 4 * len(values)]]
    assert total["bytes"].tolist() == [0, 0, 5 * len(values)]


def test_a_pinned_map_can_be_opened_by_its_path(datapath: Datapath) -> None:
    table = Map.from_pin(datapath.pins.current / "maps" / "table")
    datapath.maps["table"].update(double(1), double(2))
    assert (table.name, table.lookup(double(1))) == ("table", double(2))
    table.close()


def test_a_test_run_returns_the_action_and_the_changed_frame(datapath: Datapath) -> None:
    assert run(datapath.programs["receive"], FRAME) == (XDP_DROP, b"\x07" + FRAME[1:])
    long_frame = FRAME + bytes(1400)
    assert run(datapath.programs["receive"], long_frame) == (XDP_DROP, b"\x07" + long_frame[1:])
    assert run(datapath.programs["receive"], FRAME)[1] == b"\x07" + FRAME[1:]


def test_a_frame_too_short_for_ethernet_is_an_error(datapath: Datapath) -> None:
    with pytest.raises(BpfError, match="running a frame of 13 bytes"):
        run(datapath.programs["receive"], FRAME[:13])


def test_a_hundred_thousand_test_runs_take_seconds(datapath: Datapath) -> None:
    start = time.process_time()
    for _ in range(100_000):
        run(datapath.programs["receive"], FRAME)
    assert time.process_time() - start < 10
    assert frames_counted(datapath) == {1: 100_000}


def test_a_test_run_tells_the_program_its_interface(datapath: Datapath) -> None:
    with own_network():
        events = RingBuffer(datapath.maps["events"])
        run(datapath.programs["receive"], FRAME, ifindex=index("e0"))
        assert events.consume() == [word(index("e0"))]
        with pytest.raises(BpfError, match="from interface 9999"):
            run(datapath.programs["receive"], FRAME, ifindex=9999)
        events.close()


def test_live_frames_are_counted_as_often_as_asked(datapath: Datapath) -> None:
    assert live_frames(datapath.programs["receive"], FRAME, repeat=10_000, batch=64) > 0
    assert frames_counted(datapath) == {1: 10_000}


def test_ring_buffer_records_come_in_order_and_once(datapath: Datapath) -> None:
    events = RingBuffer(datapath.maps["events"])
    assert events.poll(timeout_ms=0) == []
    run(datapath.programs["receive"], FRAME, repeat=3)
    assert events.poll(timeout_ms=1000) == [word(1)] * 3
    assert events.consume() == []
    assert events.epoll_fd >= 0
    events.close()


@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) == 1, reason="needs two CPUs: one that runs a program, one that waits for it"
)
@pytest.mark.parametrize("wait", [grace, grace_module._membarrier], ids=["visit", "membarrier"])
def test_after_the_grace_period_no_program_that_began_before_still_runs(
    datapath: Datapath, wait: Callable[[], None]
) -> None:
    section = datapath.maps["bss"].records(datapath.maps["bss"].definition().value)[0]
    waited_for_a_running_program = False
    while not waited_for_a_running_program:
        section["lingering"] = section["lingered"] = 0
        runner = threading.Thread(target=run, args=(datapath.programs["linger"], FRAME))
        runner.start()
        while not section["lingering"]:
            pass
        waited_for_a_running_program = not section["lingered"]
        wait()
        assert section["lingered"]
        runner.join()


def test_the_grace_period_leaves_the_thread_scheduled_as_it_was() -> None:
    before = os.sched_getaffinity(0), os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    grace()
    assert (os.sched_getaffinity(0), os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == before
