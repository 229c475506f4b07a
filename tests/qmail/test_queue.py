"""qmail-queue: exit codes, files, and what a fault at any of its calls leaves: never half a message."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from programs import BIN, eventually
from queues import MailHome, make_home
from traces import needs_strace

MESSAGE = b"Subject: x\n\nbody\n"
ENVELOPE = b"Fa@b.c\0Td@e.f\0Tg@h.i\0\0"
CALLS = "openat,write,fsync,link,linkat,unlink"


@pytest.fixture
def mail_home(tmp_path: Path) -> MailHome:
    return make_home(tmp_path / "home")


def queue(mail_home: MailHome, *before: str, message: bytes = MESSAGE, envelope: bytes = ENVELOPE) -> int:
    """The exit code of qmail-queue, run by the command `before`."""
    files = [mail_home.path / "message", mail_home.path / "envelope"]
    for file, content in zip(files, (message, envelope), strict=True):
        file.write_bytes(content)
    with files[0].open("rb") as stdin, files[1].open("rb") as stdout:
        done = subprocess.run(
            [*before, str(BIN / "qmail-queue")], stdin=stdin, stdout=stdout, env=mail_home.environment(),
            timeout=60, check=False, stderr=subprocess.PIPE,
        )  # fmt: skip
    return done.returncode


def assert_whole(mail_home: MailHome) -> None:
    """Whatever is in todo/ is all of the message."""
    for queued in mail_home.queued():
        assert queued.envelope.endswith(b"\0" + ENVELOPE[:-1])
        assert queued.message.partition(b"\n")[2] == MESSAGE


@pytest.mark.parametrize("big_todo", [False, True])
def test_the_files_are_qmails(tmp_path: Path, big_todo: bool) -> None:
    mail_home = make_home(tmp_path / "home", big_todo=big_todo)
    assert queue(mail_home) == 0
    (queued,) = mail_home.queued()
    pattern = rb"Received: \(qmail (\d+) invoked by [a-z0-9 ]+\); \d+ \w{3} \d{4} \d\d:\d\d:\d\d -0000\n"
    line = re.match(pattern, queued.message)
    assert line
    assert queued.message[line.end() :] == MESSAGE
    assert queued.envelope == b"u%d\0p%b\0" % (os.getuid(), line[1]) + ENVELOPE[:-1]
    part = f"{queued.number % 23}/{queued.number}"
    new = part if big_todo else str(queued.number)
    assert mail_home.files() == [f"intd/{new}", f"mess/{part}", f"todo/{new}"]
    for name in mail_home.files():
        found = (mail_home.path / "queue" / name).stat()
        assert found.st_mode & 0o7777 == 0o644
        assert (found.st_ino == queued.number) == name.startswith("mess")


def remove(mail_home: MailHome, name: str) -> None:
    shutil.rmtree(mail_home.path / name)


@pytest.mark.parametrize(
    ("missing", "code"),
    [("queue", 62), ("queue/pid", 63), ("queue/mess", 64), ("queue/intd", 65), ("queue/todo", 66)],
)
def test_what_is_missing_has_its_exit_code(mail_home: MailHome, missing: str, code: int) -> None:
    remove(mail_home, missing)
    assert queue(mail_home) == code
    assert mail_home.path.joinpath("queue").exists() is (missing != "queue")
    if missing not in ("queue", "queue/mess", "queue/todo"):
        assert mail_home.files() == []


def test_without_a_home_it_is_61(mail_home: MailHome, tmp_path: Path) -> None:
    nowhere = MailHome(tmp_path / "nowhere")
    with open(os.devnull, "rb") as nothing:
        env = nowhere.environment()
        done = subprocess.run([BIN / "qmail-queue"], stdin=nothing, env=env, timeout=60, check=False)
    assert done.returncode == 61


@pytest.mark.parametrize(
    ("envelope", "code"),
    [(b"", 54), (b"Fa\0Tb", 54), (b"x", 91), (b"Fa\0x", 91), (b"F" + b"a" * 1003, 11), (b"Fa\0\0more", 0)],
)
def test_a_bad_envelope_leaves_nothing(mail_home: MailHome, envelope: bytes, code: int) -> None:
    assert queue(mail_home, envelope=envelope) == code
    assert (mail_home.files() == []) is bool(code)


def test_a_million_recipients_pass_through_in_little_memory(mail_home: MailHome) -> None:
    recipients = b"".join(b"Tuser%d@example.org\0" % number for number in range(1_000_000))
    limit = 40 * 1024 * 1024
    assert queue(mail_home, "prlimit", f"--data={limit}", envelope=b"F\0" + recipients + b"\0") == 0
    assert mail_home.queued()[0].envelope.endswith(recipients)


def test_an_alarm_refuses_and_removes(mail_home: MailHome) -> None:
    with subprocess.Popen(
        [BIN / "qmail-queue"], stdin=subprocess.PIPE, env=mail_home.environment(), stdout=subprocess.DEVNULL
    ) as process:
        assert process.stdin
        eventually(lambda: handles(process.pid, signal.SIGALRM), "the alarm is set")
        process.send_signal(signal.SIGALRM)
        assert process.wait(30) == 52
    assert mail_home.files() == []


def handles(pid: int, number: int) -> bool:
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(caught and int(caught[1], 16) >> (number - 1) & 1)


def test_a_hangup_or_an_interrupt_does_not_disturb_it(mail_home: MailHome) -> None:
    (mail_home.path / "envelope").write_bytes(ENVELOPE)
    with (mail_home.path / "envelope").open("rb") as stdout, subprocess.Popen(
        [BIN / "qmail-queue"], stdin=subprocess.PIPE, stdout=stdout, env=mail_home.environment()
    ) as process:  # fmt: skip
        assert process.stdin
        eventually(lambda: handles(process.pid, signal.SIGALRM), "signals are set")
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            process.send_signal(number)
        process.stdin.write(MESSAGE)
        process.stdin.close()
        assert process.wait(30) == 0
    assert_whole(mail_home)
    assert len(mail_home.queued()) == 1


def test_a_limit_on_file_sizes_is_a_write_error(mail_home: MailHome) -> None:
    size = 100_000
    assert queue(mail_home, "prlimit", f"--fsize={size}", message=b"x" * (size + 1)) == 53
    assert mail_home.files() == []


def patched(mail_home: MailHome, patch: str) -> subprocess.CompletedProcess[bytes]:
    """Run qmail-queue after a patch to it, for what cannot be made to happen from outside."""
    code = f"import os\nfrom qmail.queueing import intake\n{patch}\nfrom qmail.queue import main\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, env=mail_home.environment(),
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def test_out_of_memory_is_51(mail_home: MailHome) -> None:
    done = patched(mail_home, "def read(fd, size): raise MemoryError\nos.read = read")
    assert done.returncode == 51
    assert mail_home.files() == []


def test_a_bug_is_81_and_says_so(mail_home: MailHome) -> None:
    done = patched(mail_home, "intake.begin = None")
    assert done.returncode == 81
    assert b"Traceback" in done.stderr


def traced(mail_home: MailHome, *inject: str) -> tuple[int, str]:
    """The exit code of qmail-queue under strace, and what it did."""
    trace = mail_home.path / "trace"
    strace = ("strace", "-f", "-y", "-qq", "-o", str(trace), "-e", f"trace={CALLS}", *inject)
    code = queue(mail_home, *strace)
    return code, trace.read_text()


@pytest.fixture(scope="module")
def totals(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How often each call is made, by its name."""
    mail_home = make_home(tmp_path_factory.mktemp("totals") / "home")
    queue(mail_home)  # so that everything is compiled
    _, trace = traced(mail_home)
    return Counter(re.findall(r"^\d+ +(\w+)\(", trace, re.MULTILINE))


POINTS = {  # the call, the last but so many, and the exit code for EIO
    ("write", 1): 53, ("write", 0): 53, ("linkat", 1): 64, ("linkat", 0): 65, ("fsync", 3): 53,
    ("fsync", 2): 53, ("openat", 2): 64, ("fsync", 1): 64, ("link", 0): 66, ("openat", 1): 66,
    ("fsync", 0): 66,
}  # fmt: skip


@needs_strace
@pytest.mark.parametrize("fault", ["signal=KILL", "error=EIO", "error=ENOSPC"])
@pytest.mark.parametrize(("call", "back"), POINTS)
def test_a_fault_at_any_call_leaves_no_half_message(
    mail_home: MailHome, call: str, back: int, fault: str, totals: Counter[str]
) -> None:
    code, trace = traced(mail_home, "-e", f"inject={call}:{fault}:when={totals[call] - back}")
    assert code == -signal.SIGKILL or "(INJECTED)" in trace  # the fault did happen
    assert_whole(mail_home)
    if fault == "signal=KILL":
        assert code == -signal.SIGKILL
        return
    assert code == POINTS[call, back]
    assert mail_home.queued() == []
    taken_back = 2 if (call, back) in (("openat", 1), ("fsync", 0)) else 0  # qmail-send may have seen it
    assert len(mail_home.files()) == taken_back


@needs_strace
def test_a_failed_sync_is_not_tried_again(mail_home: MailHome, totals: Counter[str]) -> None:
    for back in range(4):
        _, trace = traced(mail_home, "-e", f"inject=fsync:error=EIO:when={totals['fsync'] - back}")
        synced = re.findall(r"fsync\(\d+<([^>]*)>", trace)
        assert len(synced) == len(set(synced)) == totals["fsync"] - back


@needs_strace
@pytest.mark.parametrize("fault", ["error=EOPNOTSUPP", "error=EISDIR"])
def test_a_file_system_without_nameless_files_will_do(
    mail_home: MailHome, fault: str, totals: Counter[str]
) -> None:
    first = totals["openat"] - 4
    code, trace = traced(mail_home, "-e", f"inject=openat:{fault}:when={first}..{first + 2}+2")
    injected = [line for line in trace.splitlines() if "(INJECTED)" in line]
    assert ["O_TMPFILE" in line for line in injected] == [True, True]
    assert re.search(r'"[^"]*/pid/\d+\.\d+\.1", O_WRONLY\|O_CREAT\|O_EXCL', trace)
    assert re.search(r'"[^"]*/intd/\d+", O_WRONLY\|O_CREAT\|O_EXCL', trace)
    assert code == 0
    assert_whole(mail_home)
    assert [name.split("/")[0] for name in mail_home.files()] == ["intd", "mess", "todo"]


@needs_strace
def test_nobody_is_told_before_all_is_on_disk(mail_home: MailHome) -> None:
    trigger = os.open(mail_home.queue.lock("trigger"), os.O_RDONLY | os.O_NONBLOCK)
    try:
        code, trace = traced(mail_home)
        assert os.read(trigger, 10) == b"\0"
    finally:
        os.close(trigger)
    assert code == 0
    (queued,) = mail_home.queued()
    number = queued.number
    order = [
        ("the message has its name", rf"linkat\(.*mess/\d+/{number}\""),
        ("the envelope has its name", rf"linkat\(.*intd/{number}\""),
        (
            "the message is synced",
            rf"fsync\(\d+<[^>]*/mess/\d+/{number}>|fsync\(\d+<[^>]*/mess/\d+/#{number}",
        ),
        ("the envelope is synced", rf"fsync\(\d+<[^>]*/(?:intd/\d+>|mess/\d+/#(?!{number}))"),
        ("mess/ is synced", r"fsync\(\d+<[^>]*/mess/\d+>"),
        ("the link in todo/", rf"link\(.*/intd/{number}\", \"[^\"]*/todo/{number}\""),
        ("todo/ is synced", r"fsync\(\d+<[^>]*/todo>"),
        ("the trigger", r"write\(\d+<[^>]*lock/trigger>"),
    ]
    places = [match.start() if (match := re.search(pattern, trace)) else what for what, pattern in order]
    assert [place for place in places if isinstance(place, str)] == []  # each did happen
    assert places == sorted(places, key=int)
    writes = [match.start() for match in re.finditer(r"write\(\d+<[^>]*/mess/\d+/#", trace)]
    assert len(writes) == 2
    assert max(writes) < int(places[0])
