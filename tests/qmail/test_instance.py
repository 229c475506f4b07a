"""qmail-install may be run again at any time: only what it wrote itself, and nobody touched, changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmail.home import is_private
from qmail.instance import Instance


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """An instance with one file, written by a first run."""
    first = Instance.load(tmp_path)
    first.options["host"] = "mx.example"
    first.put("file", b"first\n", 0o755)
    first.save()
    return Instance.load(tmp_path)


def test_first_run_writes_file_with_its_mode_and_marks_the_instance(instance: Instance) -> None:
    file = instance.home / "file"
    assert file.read_bytes() == b"first\n"
    assert file.stat().st_mode & 0o777 == 0o755
    assert instance.options == {"host": "mx.example"}
    assert is_private(str(instance.home))


def test_untouched_file_is_brought_up_to_date(instance: Instance) -> None:
    instance.put("file", b"second\n", 0o644)
    assert (instance.home / "file").read_bytes() == b"second\n"
    assert instance.kept == []


def test_changed_file_stays_and_is_named(instance: Instance) -> None:
    (instance.home / "file").write_bytes(b"mine\n")
    instance.put("file", b"second\n", 0o644)
    assert (instance.home / "file").read_bytes() == b"mine\n"
    assert instance.kept == [f"{instance.home}/file: changed by you"]


def test_changed_file_stays_in_the_runs_after_the_next(instance: Instance) -> None:
    (instance.home / "file").write_bytes(b"mine\n")
    for content in (b"second\n", b"third\n"):
        instance.put("file", content, 0o644)
        instance.save()
        instance = Instance.load(instance.home)
    assert (instance.home / "file").read_bytes() == b"mine\n"


def test_removed_file_stays_removed_and_is_named(instance: Instance) -> None:
    (instance.home / "file").unlink()
    instance.put("file", b"second\n", 0o644)
    assert not (instance.home / "file").exists()
    assert instance.kept == [f"{instance.home}/file: removed by you"]


def test_file_that_was_there_before_the_first_run_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine\n")
    instance = Instance.load(tmp_path)
    instance.put("file", b"first\n", 0o644)
    assert (tmp_path / "file").read_bytes() == b"mine\n"
    assert instance.kept == [f"{tmp_path}/file: changed by you"]


def test_nonsense_in_the_ledger_is_left_out(tmp_path: Path) -> None:
    (tmp_path / ".instance").write_bytes(b"file\noption a\n\xff\n\noption host h\nfile 0 x y\n")
    assert Instance.load(tmp_path).options == {"host": "h"}
