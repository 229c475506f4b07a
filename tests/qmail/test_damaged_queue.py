"""Whatever is wrong with one message's files, qmail-send says so, and delivers the others."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import eventually
from queues import MailHome, make_home
from senders import DEFERRAL, FAILURE, Sender, queue_message

from qmail.queueing.queue_layout import Queue

Damage = Callable[[Path], None]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def missing(path: Path) -> None:
    path.unlink()


def garbage(path: Path) -> None:
    path.write_bytes(b"\0\xffgarbage\0\0T\nno\0" * 20)


def directory(path: Path) -> None:
    """What nobody can read as a file, root included."""
    path.unlink()
    path.mkdir()


def loop(path: Path) -> None:
    """What nobody can open, root included."""
    path.unlink()
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    """Ten megabytes without a NUL."""
    path.write_bytes(b"T" * 10_000_000)


def fifo(path: Path) -> None:
    """What must not be waited for."""
    path.unlink()
    os.mkfifo(path)


def keep(path: Path) -> None:
    """Let the inode live on: its number must not become another message's while this one is in the queue."""
    os.link(path, f"{path}.kept")


DAMAGES = [empty, shorten, missing, garbage, endless, directory, loop, fifo]


@pytest.fixture
def home(tmp_path: Path) -> MailHome:
    return make_home(tmp_path / "home")


def a_good_message_goes(sender: Sender) -> None:
    """The others must not suffer."""
    queue_message(sender.home, b"good@mx.example.org")
    while sender.local.serve().recipient != b"good@mx.example.org":
        pass
    sender.wait_for("to local good@mx.example.org")
    assert sender.process.poll() is None


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
@pytest.mark.parametrize("kind", ["todo", "mess", "intd"])
def test_a_damaged_file_of_a_new_message(home: MailHome, kind: str, damage: Damage) -> None:
    queue_message(home, b"joe@mx.example.org")
    number = home.queued()[0].number
    path = Path(getattr(home.queue, kind)(number))
    if path.stat().st_nlink > 1 and damage in (empty, shorten, garbage, endless):
        content = path.read_bytes()  # intd/N and todo/N are one file; damage one only
        path.unlink()
        path.write_bytes(content)
    keep(path)
    damage(path)
    with Sender(home) as sender:
        a_good_message_goes(sender)
    for line in problems(sender):
        assert line in {
            f"warning: unable to open todo/{number}",
            f"warning: trouble reading todo/{number}",
            f"warning: unknown record type in todo/{number}",
            f"warning: unable to stat mess/{number % 23}/{number}",
            f"warning: qmail-clean unable to clean up todo/{number}",
            f"warning: qmail-clean unable to clean up foop/{number}",
        }


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
@pytest.mark.parametrize("kind", ["info", "local", "mess", "bounce"])
@pytest.mark.parametrize("running", [True, False])
def test_a_damaged_file_of_a_preprocessed_message(
    home: MailHome, kind: str, damage: Damage, running: bool
) -> None:
    queue_message(home, b"joe@mx.example.org", b"amy@mx.example.org")
    with Sender(home) as sender:
        sender.local.serve(FAILURE)
        sender.local.serve(DEFERRAL)
        sender.wait_for("deferral")
        number = int(sender.log().partition("new msg ")[2].split()[0])
        path = Path(getattr(home.queue, kind)(number))
        keep(path)
        if running:
            damage(path)
            sender.send_signal(signal.SIGALRM)
            a_good_message_goes(sender)
    if not running:
        damage(path)
        os.utime(home.queue.local(number), (1, 1), follow_symlinks=False) if kind != "local" else None
        with Sender(home) as sender:
            a_good_message_goes(sender)
    for line in problems(sender):
        place = f"{number % 23}/{number}"
        assert line in {
            f"warning: trouble opening local/{place}; will try again later",
            f"warning: trouble reading local/{place}; will try again later",
            f"warning: unknown record type in local/{place}!",
            f"warning: trouble marking local/{place}; message will be delivered twice!",
            f"warning: unable to unlink local/{place}; will try again later",
            f"warning: unable to stat local/{place}; will try again later",
            f"warning: unable to stat local/{place}",
            f"warning: unable to stat info/{place}; will try again later",
            f"warning: unable to stat bounce/{number}",
            f"warning: unable to unlink bounce/{number}",
            f"warning: unable to utime local/{place}; message will be retried too soon",
            "warning: trouble injecting bounce message, will try later",
            f"warning: qmail-clean unable to clean up foop/{number}",
        }


def problems(sender: Sender) -> set[str]:
    return {line for line in sender.log().splitlines() if line.startswith(("warning:", "alert:", "qmail-"))}


def test_a_directory_in_the_way_of_preprocessing(home: MailHome) -> None:
    queue_message(home, b"joe@mx.example.org", b"amy@far.org")
    number = home.queued()[0].number
    queue: Queue = home.queue
    Path(queue.remote(number)).mkdir()
    with Sender(home) as sender:
        sender.wait_for(f"warning: unable to unlink remote/{number % 23}/{number}")
        a_good_message_goes(sender)
        Path(queue.remote(number)).rmdir()
        sender.send_signal(signal.SIGALRM)
        assert sender.remote.serve().recipient == b"amy@far.org"
        assert sender.local.serve().recipient == b"joe@mx.example.org"
        sender.wait_until_empty()


def test_an_unreadable_todo_is_looked_at_again(home: MailHome) -> None:
    queue_message(home, b"joe@mx.example.org")
    todo = home.path / "queue/todo"
    todo.rename(home.path / "queue/away")
    with Sender_without_todo(home) as sender:
        sender.wait_for("alert: unable to opendir todo, sleeping...")
        (home.path / "queue/away").rename(todo)
        sender.send_signal(signal.SIGALRM)
        sender.local.serve()
        sender.wait_until_empty()


class Sender_without_todo(Sender):
    """The first line of the log may be the alert."""

    def __enter__(self) -> Sender:
        eventually(self.log, "a line in the log")
        return self


def test_a_bounce_that_cannot_be_queued_is_tried_later(home: MailHome) -> None:
    queue_message(home, b"joe@mx.example.org")
    refuse = home.path / "refuse"
    refuse.write_text("#!/bin/sh\nexit 53\n")
    refuse.chmod(0o755)
    (home.path / "bin").unlink()
    (home.path / "bin").mkdir()
    (home.path / "bin/qmail-queue").symlink_to(refuse)
    with Sender(home) as sender:
        sender.local.serve(FAILURE)
        sender.wait_for("warning: trouble injecting bounce message, will try later")
        assert any(name.startswith("bounce/") for name in home.files())
        assert any(name.startswith("info/") for name in home.files())
