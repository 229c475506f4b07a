"""An empty queue has qmail's directories and modes, and a queue is recognised by what is on disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from qmail.queueing import queue_layout
from qmail.queueing.queue_layout import Queue

MODES = {
    "": 0o750, "pid": 0o700, "intd": 0o700, "todo": 0o750, "bounce": 0o700, "mess": 0o750, "mess/22": 0o750,
    "info/0": 0o700, "local/1": 0o700, "remote/22": 0o700, "lock": 0o750, "lock/tcpto": 0o644,
    "lock/sendmutex": 0o600, "lock/trigger": 0o622,
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    queue = tmp_path / "queue"
    queue_layout.create(str(queue))
    return queue


def test_modes_sizes_and_kinds_are_qmails(path: Path) -> None:
    assert {name: stat.S_IMODE((path / name).stat().st_mode) for name in MODES} == MODES
    assert (path / "lock/tcpto").read_bytes() == bytes(1024)
    assert (path / "lock/sendmutex").read_bytes() == b""
    assert (path / "lock/trigger").is_fifo()
    assert not (path / "mess/23").exists()
    assert not (path / "todo/0").exists()


@pytest.mark.parametrize(("split", "big_todo"), [(23, False), (23, True), (1, False), (151, True)])
def test_a_queue_is_recognised(tmp_path: Path, split: int, big_todo: bool) -> None:
    queue_layout.create(str(tmp_path / "q"), split=split, big_todo=big_todo)
    queue = Queue.recognise(str(tmp_path / "q"))
    assert (queue.split, queue.big_todo) == (split, big_todo)
    for name in (queue.mess(457), queue.intd(457), queue.todo(457), queue.info(457), queue.bounce(457)):
        Path(name).touch()
    for kind in ("mess", "intd", "todo", "info", "bounce"):
        assert list(queue.numbers(kind)) == [457]


def test_making_it_again_changes_nothing(path: Path) -> None:
    (path / "lock/tcpto").write_bytes(b"x")
    (path / "mess/3").rmdir()
    os.chmod(path / "todo", 0o700)
    queue_layout.create(str(path))
    assert (path / "lock/tcpto").read_bytes() == b"x"
    assert (path / "mess/3").is_dir()
    assert stat.S_IMODE((path / "todo").stat().st_mode) == 0o700


def test_names() -> None:
    queue = Queue("q")
    assert (queue.mess(457), queue.todo(457), queue.split_name(457)) == (
        "q/mess/20/457",
        "q/todo/457",
        "20/457",
    )


def test_a_pulled_trigger_is_one_byte_for_who_listens(path: Path) -> None:
    queue = Queue.recognise(str(path))
    queue.pull_trigger()  # nobody: no error, no wait
    fd = os.open(queue.lock("trigger"), os.O_RDONLY | os.O_NONBLOCK)
    try:
        queue.pull_trigger()
        assert os.read(fd, 10) == b"\0"
    finally:
        os.close(fd)


def test_files_that_are_no_messages_are_not_counted(path: Path) -> None:
    (path / "todo/README").touch()
    (path / "todo/12").touch()
    assert list(Queue.recognise(str(path)).numbers("todo")) == [12]
