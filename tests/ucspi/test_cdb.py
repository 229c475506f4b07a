"""Databases: whatever a file holds, a look-up ends; what is written is read."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cdblib
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ucspi import cdb

KEY_HASH = cdblib.djb_hash(b"key")
Pairs = Sequence[tuple[bytes, bytes]]
pairs = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=40)


def written(records: Pairs, batches: bool) -> bytes:
    with tempfile.TemporaryFile(buffering=0) as file:
        writer = cdb.Writer(file.fileno())
        if batches:
            writer.extend([key for key, _ in records], [data for _, data in records])
        else:
            for key, data in records:
                writer.add(key, data)
        writer.finish()
        file.seek(0)
        return file.read()


def reader(content: bytes) -> cdb.Reader:
    fd = os.memfd_create("cdb")
    os.write(fd, content)
    return cdb.Reader(fd)


def find(content: bytes, key: bytes) -> bytes | None:
    with reader(content) as found:
        return found.find(key)


@given(pairs, st.booleans())
def test_what_is_written_is_found_and_of_equal_keys_the_first(records: Pairs, batches: bool) -> None:
    content = written(records, batches)
    first = dict(reversed(records))
    with reader(content) as found:
        for key, data in first.items():
            assert found.find(key) == data
        assert found.find(b"a key longer than any of them") is None


@given(pairs)
def test_one_by_one_or_all_at_once_the_file_is_the_same(records: Pairs) -> None:
    assert written(records, batches=False) == written(records, batches=True)


@given(pairs)
def test_cdblib_reads_what_we_write(records: Pairs) -> None:
    content = written(records, batches=True)
    other = cdblib.Reader(content)
    assert other.items() == list(records)
    for key, _ in records:
        assert other.get(key) == find(content, key)


def test_a_key_whose_hash_is_zero_keeps_its_slot() -> None:
    """cdblib's own writer takes such a slot for an empty one."""
    zero = next(
        key for number in range(1 << 24) if cdblib.djb_hash(key := number.to_bytes(3, "big")) & 0xFF == 0
    )
    records = [(zero, b"1"), (zero, b"2"), (b"x", b"3")]
    content = written(records, batches=True)
    assert find(content, zero) == b"1"
    assert find(content, b"x") == b"3"


@settings(max_examples=10_000)
@given(st.binary(max_size=400), st.binary(max_size=8))
@example(b"", b"")
def test_any_bytes_as_a_file_end_in_an_answer(tail: bytes, key: bytes) -> None:
    """The header points into the file, so that searches go on in garbage."""
    pointer = struct.pack("<LL", 2048, max(len(tail) // 8, 1))
    with contextlib.suppress(cdb.BadCdb):
        find(pointer * 256 + tail, key)


@settings(max_examples=1000)
@given(st.data())
def test_a_damaged_file_ends_in_an_answer(data: st.DataObject) -> None:
    records = data.draw(pairs.filter(bool))
    content = bytearray(written(records, batches=True))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    for key, _ in records:
        with contextlib.suppress(cdb.BadCdb):
            find(bytes(content), key)


def test_a_file_cut_anywhere_is_an_answer_or_an_error() -> None:
    records = [(b"10.", b"D\0"), (b"127.", b"+A=1\0"), (b"", b"")]
    content = written(records, batches=True)
    for length in range(1, len(content)):
        for key, data in records:
            with contextlib.suppress(cdb.BadCdb):
                assert find(content[:length], key) in (data, None)
    with pytest.raises(OSError, match="empty file") as empty:
        find(b"", b"key")
    assert empty.value.errno == errno.EINVAL  # as the original's mmap


def test_a_table_without_an_empty_slot_is_no_endless_loop() -> None:
    wrong = (cdblib.djb_hash(b"other"), 2048)
    slots = struct.pack("<LL", *wrong) * 5000
    content = struct.pack("<LL", 2048, 5000) * 256 + slots
    with pytest.raises(cdb.BadCdb):
        find(content, b"key")


@pytest.mark.parametrize(
    ("pointer", "slot"),
    [
        ((2048, 1 << 29), (0, 0)),
        ((0xFFFFFFFF, 2), (0, 0)),
        ((2048, 2), (KEY_HASH, 0xFFFFFFF0)),
    ],
)
def test_pointers_beyond_the_end_are_an_error(pointer: tuple[int, int], slot: tuple[int, int]) -> None:
    content = struct.pack("<LL", *pointer) * 256 + struct.pack("<LL", *slot) * 2
    with pytest.raises(cdb.BadCdb):
        find(content, b"key")


def test_no_file_grows_beyond_what_32_bits_can_say() -> None:
    with tempfile.TemporaryFile(buffering=0) as file:
        writer = cdb.Writer(file.fileno())
        writer._end = cdb.LIMIT - 20
        with pytest.raises(OSError, match="4 GiB"):
            writer.add(b"key", b"a value that is long enough")


def test_a_reader_that_fails_closes_its_descriptor(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"xyz")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(cdb.BadCdb):
        cdb.Reader.open(str(tmp_path / "short"))
    with pytest.raises(OSError, match="Is a directory"):
        cdb.Reader.open(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_it_looks_for_text_across_blocks() -> None:
    content = written([(b"k", b"x" * (1 << 18)), (b"_bits", b"y")], batches=True)
    with reader(content) as found:
        assert found.contains(b"\0_bits")
        assert not found.contains(b"\0^bits")
