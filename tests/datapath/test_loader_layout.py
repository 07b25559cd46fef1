"""Structures read from the object's BTF, and the compiler's call."""

import os
import time
from pathlib import Path

import numpy
import pytest
from loader_support import SAMPLE, sample

from gateway.datapath.build import BuildError, build
from gateway.datapath.layout import Layout, LayoutError


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return Layout.of(sample(tmp_path_factory.mktemp("layout")))


def test_a_struct_has_the_offsets_and_size_of_c(layout: Layout) -> None:
    record = layout.struct("record")
    assert record.itemsize == 40
    assert {name: offset for name, (_, offset) in record.fields.items()} == {
        "number": 0,
        "whole": 8,
        "low": 8,
        "high": 12,
        "addresses": 16,
        "mac": 32,
        "valid": 38,
    }


def test_members_of_anonymous_unions_share_their_bytes(layout: Layout) -> None:
    record = numpy.zeros((), layout.struct("record"))
    record["low"], record["high"] = 1, 2
    assert record["whole"] == 2 << 32 | 1


def test_network_order_integers_are_stored_in_network_order(layout: Layout) -> None:
    address = numpy.zeros((), layout.struct("address"))
    address["network"], address["port"], address["network_port"] = 0x0A000001, 0x1234, 4789
    assert address.tobytes() == b"\x0a\x00\x00\x01" + (0x1234).to_bytes(2, "little") + b"\x12\xb5"


def test_an_enumeration_gives_its_constants(layout: Layout) -> None:
    assert layout.enum("colour") == {"COLOUR_RED": 1, "COLOUR_BLUE": 7}


def test_a_bit_field_is_refused_by_name(layout: Layout) -> None:
    with pytest.raises(LayoutError, match="with_bit_field.flag is a bit-field"):
        layout.struct("with_bit_field")


def test_an_unknown_type_is_refused_by_name(layout: Layout) -> None:
    with pytest.raises(LayoutError, match="no struct recrod"):
        layout.struct("recrod")
    with pytest.raises(LayoutError, match="no enum record"):
        layout.enum("record")


def test_the_object_is_compiled_only_when_a_source_is_newer(tmp_path: Path) -> None:
    source = tmp_path / "bpf" / "sample.bpf.c"
    source.parent.mkdir()
    source.write_text(SAMPLE.read_text())
    first = build(source, tmp_path / "out" / "sample.bpf.o").stat()
    assert build(source, tmp_path / "out" / "sample.bpf.o").stat() == first
    header = source.with_name("added.h")
    header.touch()
    later = time.time() + 1
    os.utime(header, (later, later))
    assert build(source, tmp_path / "out" / "sample.bpf.o").stat().st_ino != first.st_ino


def test_a_compiler_error_leaves_the_old_object_and_shows_the_line(tmp_path: Path) -> None:
    source = tmp_path / "bpf" / "sample.bpf.c"
    source.parent.mkdir()
    source.write_text(SAMPLE.read_text())
    output = tmp_path / "sample.bpf.o"
    before = build(source, output).read_bytes()
    source.write_text("int broken(void) { return nothing; }\n")
    with pytest.raises(BuildError, match="sample.bpf.c:1:27: error: use of undeclared identifier 'nothing'"):
        build(source, output)
    assert output.read_bytes() == before
    assert list(tmp_path.glob("*.o*")) == [output]


def test_a_missing_header_names_the_package(tmp_path: Path) -> None:
    source = tmp_path / "sample.bpf.c"
    source.write_text("#include <bpf/absent.h>\n")
    with pytest.raises(BuildError, match="apt-get install libbpf-dev"):
        build(source, tmp_path / "sample.bpf.o")


def test_a_missing_compiler_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="apt-get install clang"):
        build(SAMPLE, tmp_path / "sample.bpf.o")
