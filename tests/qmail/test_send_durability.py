"""What qmail-send relies on is on disk before it gives up what it had before."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from programs import eventually
from queues import MailHome, make_home
from senders import FAILURE, SUCCESS, Sender, queue_message
from traces import needs_strace

pytestmark = needs_strace


@pytest.fixture
def home(tmp_path: Path) -> MailHome:
    return make_home(tmp_path / "home")


class Traced(Sender):
    """qmail-send under strace; `calls()` are its system calls, with the paths of descriptors."""

    def __init__(self, home: MailHome, *options: str) -> None:
        self.trace = home.path / "trace"
        calls = "-etrace=fsync,unlink,write,pwrite64,openat,link"
        super().__init__(home, wrap=["strace", "-y", "-s", "80", "-o", str(self.trace), calls, *options])

    def calls(self) -> list[str]:
        return self.trace.read_text(errors="replace").splitlines()

    def __enter__(self) -> Traced:
        super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:  # strace leaves its child alone when it is killed
            os.kill(int(child), signal.SIGKILL)
        super().__exit__(None, None, None)


def places(calls: Sequence[str], *patterns: str) -> list[int]:
    """Where the first call is that matches each pattern."""
    found = []
    for pattern in patterns:
        matching = [place for place, call in enumerate(calls) if re.search(pattern, call)]
        assert matching, f"no {pattern} in\n" + "\n".join(calls)
        found.append(matching[0])
    return found


def test_preprocessing_is_on_disk_before_todo_goes(home: MailHome) -> None:
    queue_message(home, b"a@mx.example.org", b"b@far.org")
    number = home.queued()[0].number
    with Traced(home) as sender:
        sender.local.serve()
        sender.remote.serve()
        sender.wait_for("end msg")
        calls = sender.calls()
    files = [rf"{kind}/{number % 23}/{number}" for kind in ("info", "local", "remote")]
    directories = [rf"{kind}/{number % 23}" for kind in ("info", "local", "remote")]
    (gone,) = places(calls, rf'write\(.*"todo/{number}\\0"')
    synced = places(calls, *(rf"fsync\(\d+<\S*/{name}>\) *= 0" for name in [*files, *directories]))
    assert max(synced[:3]) < min(synced[3:])
    assert max(synced) < gone


def test_a_quick_delivery_syncs_nothing(home: MailHome) -> None:
    """todo/ is on disk already, and what a lost removal costs is a second delivery."""
    queue_message(home, b"a@mx.example.org")
    with Traced(home) as sender:
        sender.local.serve()
        sender.wait_for("end msg")
        assert not any("fsync" in call for call in sender.calls())


def test_a_bounce_is_on_disk_before_its_recipient_is_done_with(home: MailHome) -> None:
    queue_message(home, b"a@mx.example.org", b"b@mx.example.org")
    number = home.queued()[0].number
    with Traced(home) as sender:
        sender.local.serve(FAILURE)
        sender.wait_for("failure")
        eventually(lambda: "pwrite64" in sender.trace.read_text(), "a mark")
        calls = sender.calls()
    text, directory, mark = places(
        calls, rf"fsync\(\d+<\S*/bounce/{number}>\) *= 0", r"fsync\(\d+<\S*/bounce>\) *= 0", r"pwrite64\("
    )
    assert text < directory < mark


@pytest.mark.parametrize("which", [1, 2, 3, 4, 5])
def test_a_failed_fsync_keeps_the_message_in_todo_and_is_not_tried_again(home: MailHome, which: int) -> None:
    queue_message(home, b"a@mx.example.org", b"b@far.org")
    number = home.queued()[0].number
    with Traced(home, f"--inject=fsync:error=EIO:when={which}") as sender:
        sender.wait_for("warning: trouble fsyncing ")
        queue_message(home, b"good@mx.example.org")
        assert sender.local.serve(SUCCESS).recipient == b"good@mx.example.org"
        calls = sender.calls()
        assert sum("(INJECTED)" in call for call in calls) == 1
        assert number in home.queue.numbers("todo")
        assert sender.remote.next_order(0.2) is None
    failed = next(call for call in calls if "(INJECTED)" in call)
    path = re.search(r"<([^>]*)>", failed)
    assert path
    after = calls[calls.index(failed) + 1 :]
    assert not any(call.startswith("fsync") and path.group(0) in call for call in after)
    with Sender(home) as sender:
        assert sender.remote.serve().recipient == b"b@far.org"
        assert sender.local.serve().recipient == b"a@mx.example.org"
        eventually(lambda: not list(home.queue.numbers("todo")), "nothing in todo/")


@pytest.mark.parametrize("fault", ["error=ENOSPC", "error=EIO", "error=EMFILE"])
@pytest.mark.parametrize("call", ["openat", "write"])
def test_no_fault_while_preprocessing_loses_the_message(home: MailHome, call: str, fault: str) -> None:
    """Every call that touches info/, local/ or remote/ fails, until the disk is well again."""
    queue_message(home, b"a@mx.example.org", b"b@far.org")
    number = home.queued()[0].number
    paths = [f"{home.path}/queue/{kind}/{number % 23}/{number}" for kind in ("info", "local", "remote")]
    relative = [f"./{kind}/{number % 23}/{number}" for kind in ("info", "local", "remote")]
    options = [option for path in [*paths, *relative] for option in ("-P", path)]
    with Traced(home, *options, f"--inject={call}:{fault}") as sender:
        sender.wait_for("warning: ")
        assert any("(INJECTED)" in line for line in sender.calls())
        assert list(home.queue.numbers("todo")) == [number]
        assert sender.local.next_order(0.1) is sender.remote.next_order(0.1) is None
    with Sender(home) as sender:
        sender.local.serve()
        sender.remote.serve()
        eventually(lambda: not list(home.queue.numbers("todo")), "nothing in todo/")
