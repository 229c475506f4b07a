"""Control files are read as qmail reads them, whatever is in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.control import Controls, lookup_set, lookup_table, significant


@pytest.fixture
def controls(tmp_path: Path) -> Controls:
    (tmp_path / "me").write_bytes(b"mx.example.org \t\nsecond\n")
    return Controls(str(tmp_path))


def write(controls: Controls, name: str, content: bytes) -> None:
    (Path(controls.directory) / name).write_bytes(content)


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"", b""), (b"a", b"a"), (b" a \t\nb\n", b" a"), (b"# no comment here\n", b"# no comment here")],
)
def test_a_line_is_the_first_without_trailing_blanks(controls: Controls, content: bytes, line: bytes) -> None:
    write(controls, "x", content)
    assert controls.line("x", b"default") == line


def test_a_missing_line_is_me_or_the_default(controls: Controls) -> None:
    assert controls.line("x") is None
    assert controls.line("x", b"d") == b"d"
    assert controls.line("x", b"d", me=True) == b"mx.example.org"


def test_without_me_the_default_stands(tmp_path: Path) -> None:
    assert Controls(str(tmp_path)).line("x", b"d", me=True) == b"d"
    assert Controls(str(tmp_path)).lines("x", me=True) is None


@pytest.mark.parametrize(("content", "number"), [(b"12x\n", 12), (b"abc\n", 7), (b"\n", 7), (b"0\n", 0)])
def test_a_number_is_what_the_line_begins_with(controls: Controls, content: bytes, number: int) -> None:
    write(controls, "n", content)
    assert controls.number("n", 7) == number


def test_a_missing_number_is_the_default(controls: Controls) -> None:
    assert controls.number("n", 7) == 7


def test_a_list_has_no_comments_and_no_empty_lines(controls: Controls) -> None:
    write(controls, "list", b"a \n#b\n\n \t\n c\nlast")
    assert controls.lines("list") == [b"a", b" c", b"last"]
    assert controls.lines("missing", me=True) == [b"mx.example.org"]


def test_a_large_list_is_read_whole(controls: Controls) -> None:
    write(controls, "list", b"host.example\n" * 100_000)
    assert len(controls.lines("list") or ()) == 100_000


def test_what_cannot_be_read_is_an_error(controls: Controls) -> None:
    (Path(controls.directory) / "dir").mkdir()
    with pytest.raises(IsADirectoryError):
        controls.lines("dir")


def test_tables_ignore_case_and_lines_without_a_colon() -> None:
    assert lookup_table([b"A:1", b"b", b"a:2", b":all:x"]) == {b"a": b"2", b"": b"all:x"}
    assert lookup_set([b"A", b"a", b"b"]) == {b"a", b"b"}


@given(st.binary())
def test_any_bytes_give_entries_without_nul_or_line_end(content: bytes) -> None:
    for entry in significant(content):
        assert b"\0" not in entry
        assert b"\n" not in entry
