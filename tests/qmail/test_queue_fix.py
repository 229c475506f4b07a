"""queue-fix makes a queue that qmail-send can work with, from nothing, from a copy, from a mess."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from programs import run
from queues import MailHome, make_home
from senders import Sender, queue_message

from qmail.queueing.queue_layout import Queue


@pytest.fixture
def home(tmp_path: Path) -> MailHome:
    return make_home(tmp_path / "home")


def listing(path: Path) -> dict[str, int]:
    return {str(found.relative_to(path)): found.lstat().st_mode for found in path.rglob("*")}


def fix(path: Path, *options: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return run("queue-fix", *options, path, stdin=stdin)


@pytest.mark.parametrize("options", [(), ("-s", "7"), ("-b",)])
def test_a_new_queue_is_like_one_of_qmail_install(tmp_path: Path, options: tuple[str, ...]) -> None:
    from qmail.queueing.queue_layout import create

    assert fix(tmp_path / "made", *options).returncode == 0
    create(str(tmp_path / "expected"), split=7 if "-s" in options else 23, big_todo="-b" in options)
    assert listing(tmp_path / "made") == listing(tmp_path / "expected")
    assert fix(tmp_path / "made", "-N").stdout == b""


def test_a_test_only_run_changes_nothing(tmp_path: Path) -> None:
    done = fix(tmp_path / "none", "-N")
    assert done.returncode == 1
    assert b"make directory" in done.stdout
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("options", [(), ("-s", "5"), ("-s", "41")])
def test_a_copied_queue_is_delivered_after_the_repair(home: MailHome, options: tuple[str, ...]) -> None:
    """Every file has another inode number in the copy, often one that an old name had."""
    recipients = {b"u%d@mx.example.org" % n for n in range(12)}
    for recipient in sorted(recipients)[:6]:
        queue_message(home, recipient, sender=recipient)
    with Sender(home) as sender:
        for _ in range(6):
            sender.local.serve(b"Zlater\n")
        sender.wait_for("deferral", 6)
    for recipient in sorted(recipients)[6:]:
        queue_message(home, recipient, sender=recipient)
    queue = home.path / "queue"
    shutil.copytree(queue, home.path / "copy", symlinks=True, ignore=shutil.ignore_patterns("trigger"))
    shutil.rmtree(queue)
    (home.path / "copy").rename(queue)
    assert fix(queue, *options).returncode == 0
    assert fix(queue, "-N").returncode == 0
    for kind in ("local",):
        for number in Queue.recognise(str(queue)).numbers(kind):
            os.utime(Queue.recognise(str(queue)).local(number), (1, 1))
    with Sender(home) as sender:
        orders = [sender.local.serve() for _ in recipients]
        assert {order.recipient for order in orders} == recipients
        assert all(order.sender == order.recipient for order in orders)
        sender.wait_until_empty()


def test_a_repair_that_was_stopped_is_finished_by_the_next(home: MailHome) -> None:
    for n in range(4):
        queue_message(home, b"u%d@mx.example.org" % n)
    queue = home.queue
    numbers = sorted(queue.numbers("todo"))
    for number in numbers:
        content = Path(queue.mess(number)).read_bytes()
        Path(queue.mess(number)).unlink()
        Path(queue.mess(number)).write_bytes(content)
    first = numbers[0]
    inode = os.stat(queue.mess(first)).st_ino
    os.rename(queue.todo(first), f"{queue.todo(inode)}.moving")
    assert fix(home.path / "queue").returncode == 0
    with Sender(home) as sender:
        assert {sender.local.serve().recipient for _ in range(4)} == {
            b"u%d@mx.example.org" % n for n in range(4)
        }
        sender.wait_until_empty()


def test_modes_are_put_right_and_strangers_are_named(home: MailHome) -> None:
    queue = home.path / "queue"
    (queue / "mess").chmod(0o777)
    (queue / "lock/trigger").unlink()
    (queue / "lock/trigger").write_text("no fifo")
    (queue / "todo/77").write_text("")
    done = fix(queue, "-v")
    assert done.returncode == 0
    assert f"{queue}/todo/77 belongs to no message".encode() in done.stderr
    assert stat.S_IMODE((queue / "mess").stat().st_mode) == 0o750
    assert stat.S_ISFIFO((queue / "lock/trigger").stat().st_mode)


def test_it_asks(home: MailHome) -> None:
    queue = home.path / "queue"
    (queue / "mess").chmod(0o777)
    assert fix(queue, "-i", stdin=b"n\n").returncode == 1
    assert stat.S_IMODE((queue / "mess").stat().st_mode) == 0o777
    assert fix(queue, "-i", stdin=b"y\n").returncode == 0
    assert stat.S_IMODE((queue / "mess").stat().st_mode) == 0o750


def test_not_while_qmail_send_runs(home: MailHome) -> None:
    with Sender(home):
        done = fix(home.path / "queue")
    assert (done.returncode, done.stderr) == (
        111,
        b"queue-fix: fatal: qmail-send is running: stop it first\n",
    )


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["-x", "a"], ["-s"]])
def test_usage(arguments: list[str]) -> None:
    done = run("queue-fix", *arguments)
    assert done.returncode == 100
    assert done.stderr.endswith(b"queue-fix: usage: queue-fix [ -iNvb ] [ -s split ] queue\n")


def test_a_split_must_be_a_number(tmp_path: Path) -> None:
    assert fix(tmp_path, "-s", "0").returncode == 100
