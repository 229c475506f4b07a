"""qmail-local delivers what it says it delivered, once, whatever the user's files and the disk do."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from programs import environment, resolved, run
from traces import Traced, needs_strace, strace

from supervise import chain, signals

MESSAGE = b"From: a@b.c\nSubject: test\n\nline one\nFrom here\n"
HEADER = b"Return-Path: <s@x.y>\nDelivered-To: joe@example.org\n"


@dataclass(frozen=True, slots=True)
class User:
    """A user's home, and a message for him."""

    home: Path
    message: Path

    def argv(self, ext: str = "", default: str = "./Maildir/", *options: str) -> list[str]:
        local, dash = (f"joe-{ext}", "-") if ext else ("joe", "")
        operands = [str(self.home), local, dash, ext, "example.org", "s@x.y", default]
        return ["qmail-local", *options, "--", "joe", *operands]

    def deliver(self, ext: str = "", default: str = "./Maildir/", **env: str) -> tuple[int, str, str]:
        done = run(
            "sh", "-c", 'exec "$@" < "$0"', self.message, *resolved(self.argv(ext, default)),
            env={**environment(), **env},
        )  # fmt: skip
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def instructions(self, text: str | bytes, name: str = ".qmail") -> None:
        (self.home / name).write_bytes(text.encode() if isinstance(text, str) else text)
        (self.home / name).chmod(0o644)

    def files(self) -> list[str]:
        """All there is in the Maildir."""
        return sorted(file.parent.name for file in (self.home / "Maildir").glob("*/*"))


@pytest.fixture
def user(tmp_path: Path) -> User:
    home = tmp_path / "home"
    for name in ("new", "cur", "tmp"):
        (home / "Maildir" / name).mkdir(parents=True)
    home.chmod(0o755)
    message = tmp_path / "message"
    message.write_bytes(MESSAGE)
    return User(home, message)


# --- on disk before it is reported


NAMED = (
    "import os, sys; from qmail.local_delivery import maildir;"
    "maildir.NAMELESS = os.O_WRONLY | os.O_DIRECTORY; from qmail.local import main; main()"
)
"""qmail-local, as on a file system without nameless files."""


def traced(
    user: User, tmp_path: Path, *options: str, default: str = "./Maildir/", named: bool = False
) -> Traced:
    argv = user.argv("", default)
    if named:
        argv = [sys.executable, "-c", NAMED, *argv[1:]]
    return strace(tmp_path / "trace", argv, *options, stdin=user.message)


SYNC_FILE = r"^fsync\(\d+</.*/tmp/"
LINK = r"^linkat\(.*new/"
SYNC_NEW = r"^fsync\(\d+</.*/new>"
REPORT = r"^write\(1<.*did 1\+0\+0"


@needs_strace
@pytest.mark.parametrize("named", [False, True])
def test_file_and_directory_are_synced_before_a_maildir_delivery_is_reported(
    user: User, tmp_path: Path, named: bool
) -> None:
    done = traced(user, tmp_path, named=named)
    assert (done.code, done.stdout, done.stderr) == (0, b"did 1+0+0\n", b"")
    assert done.order(SYNC_FILE, LINK, SYNC_NEW, REPORT) == [SYNC_FILE, LINK, SYNC_NEW, REPORT]
    assert done.order(r"^(v?fork|clone3?)\(", r"^execve\(") == [r"^execve\("]  # its own start
    assert user.files() == ["new"]


@needs_strace
@pytest.mark.parametrize("name", ["Mailbox", "sub/Mailbox"])
def test_file_and_name_are_synced_before_an_mbox_delivery_is_reported(
    user: User, tmp_path: Path, name: str
) -> None:
    (user.home / "sub").mkdir()
    done = traced(user, tmp_path, default=f"./{name}")
    place = (user.home / name).parent
    steps = [rf"^fsync\(\d+<{user.home / name}>", rf"^fsync\(\d+<{place}>", REPORT]
    assert done.order(*steps) == steps
    again = traced(user, tmp_path, default=f"./{name}")
    assert again.order(*steps) == [steps[0], REPORT]


TEMPORARY = b"Temporary error on maildir delivery. (#4.3.0)\n"
POINTS = [
    ("fsync", 1, "error=EIO", 111, TEMPORARY),
    ("fsync", 2, "error=EIO", 111, TEMPORARY),
    ("linkat", 1, "error=ENOSPC", 111, TEMPORARY),
    ("linkat", 1, "error=EEXIST", 111, TEMPORARY),
    ("fsync", 1, "signal=KILL", -9, b""),
    ("fsync", 2, "signal=KILL", -9, b""),
    ("linkat", 1, "signal=KILL", -9, b""),
    ("unlinkat", 1, "error=EIO", 0, b""),
    ("unlinkat", 1, "signal=KILL", -9, b""),
]


@needs_strace
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(("call", "when", "fault", "code", "stderr"), POINTS)
def test_a_fault_leaves_no_half_message_and_no_false_report(
    user: User, tmp_path: Path, call: str, when: int, fault: str, code: int, stderr: bytes, named: bool
) -> None:
    if call == "unlinkat" and not named:
        return  # no name, nothing to remove
    done = traced(user, tmp_path, f"--inject={call}:{fault}:when={when}", named=named)
    assert done.code == code
    assert done.stderr == stderr
    assert done.injected == 1 or code == -9  # a killed one has no more lines
    assert (done.stdout == b"did 1+0+0\n") == (code == 0)
    new = list((user.home / "Maildir/new").iterdir())
    assert [file.read_bytes() for file in new] in ([HEADER + MESSAGE], [])
    if code == 0:
        assert new
    if "error" in fault and code:
        assert user.files() == []


@needs_strace
@pytest.mark.parametrize("when", [1, 2])
def test_a_failed_fsync_is_not_tried_again(user: User, tmp_path: Path, when: int) -> None:
    done = traced(user, tmp_path, f"--inject=fsync:error=EIO:when={when}")
    assert done.injected == 1
    assert sum(call.startswith("fsync(") for call in done.calls) == when


@needs_strace
@pytest.mark.parametrize(
    "fault", ["fsync:error=EIO:when=1", "fsync:error=EIO:when=2", "write:error=ENOSPC:when=1"]
)
def test_what_an_mbox_could_not_take_is_taken_away_again(user: User, tmp_path: Path, fault: str) -> None:
    mbox = user.home / "Mailbox"
    mbox.write_bytes(b"old" if fault.startswith("write") or "when=1" in fault else b"")
    before = mbox.read_bytes()
    done = traced(
        user, tmp_path, f"--inject={fault}", "-P", str(mbox), "-P", str(user.home), default="./Mailbox"
    )
    assert done.injected == 1
    assert done.code == 111
    assert done.stderr.startswith(b"Unable to write ./Mailbox: ")
    assert mbox.read_bytes() == before


# --- the user's files

LONG = b"x" * 300


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (b"|printf 'a%s' b\0c\n", (0, "abdid 0+0+1\n", "")),
        (b"\t\t\t\n./Maildir/\n", (111, "", "Uh-oh: first line of .qmail file is blank. (#4.2.1)\n")),
        (b"   ", (111, "", "Uh-oh: first line of .qmail file is blank. (#4.2.1)\n")),
        (b"\0", (111, "", "Uh-oh: first line of .qmail file is blank. (#4.2.1)\n")),
        (b"# \xff\xfe\n" * 1000, (0, "did 0+0+0\n", "")),
        (b"./" + LONG, (111, "", f"Unable to open ./{'x' * 300}: file name too long. (#4.2.1)\n")),
        (b"./" + LONG + b"/", (111, "", "Unable to chdir to maildir. (#4.2.1)\n")),
        (b"|" + LONG * 700, (111, "", "Unable to run /bin/sh: argument list too long. (#4.3.0)\n")),
        (b"|kill -TERM $PPID; sleep 9\n", (-15, "", "")),
    ],
)
def test_wild_instructions_end_in_a_clear_outcome(
    user: User, text: bytes, outcome: tuple[int, str, str]
) -> None:
    user.instructions(text)
    assert user.deliver() == outcome
    assert user.files() == []


def test_a_nul_ends_a_name_but_the_slash_behind_it_still_means_a_maildir(user: User) -> None:
    user.instructions(b"./Maildir\0/\n")
    assert user.deliver() == (0, "did 1+0+0\n", "")
    assert user.files() == ["new"]


@pytest.mark.parametrize(
    ("setting", "home_mode", "file_mode", "outcome"),
    [
        ("022\n", 0o755, 0o644, (0, "did 0+0+0\n", "")),
        ("022\n", 0o775, 0o644, (111, "", "Uh-oh: home directory is writable. (#4.7.0)\n")),
        ("022\n", 0o755, 0o664, (111, "", "Uh-oh: .qmail file is writable. (#4.7.0)\n")),
        ("0\n", 0o777, 0o666, (0, "did 0+0+0\n", "")),
        ("9\n", 0o755, 0o644, (111, "", "Unable to read control/conf-patrn: not octal. (#4.3.0)\n")),
        (None, 0o755, 0o644, (111, "", "Unable to read control/conf-patrn: is a directory. (#4.3.0)\n")),
    ],
)
def test_a_setting_says_which_modes_are_not_to_be_trusted(
    user: User,
    tmp_path: Path,
    setting: str | None,
    home_mode: int,
    file_mode: int,
    outcome: tuple[int, str, str],
) -> None:
    file = tmp_path / "mail/control/conf-patrn"
    file.parent.mkdir(parents=True)
    if setting is None:
        file.mkdir()
    else:
        file.write_text(setting)
    user.instructions("#")
    (user.home / ".qmail").chmod(file_mode)
    user.home.chmod(home_mode)
    assert user.deliver(QMAILHOME=str(tmp_path / "mail")) == outcome


def test_instructions_without_end_are_too_many(user: User) -> None:
    user.instructions("")
    os.truncate(user.home / ".qmail", 1 << 40)
    assert user.deliver() == (111, "", "Out of memory. (#4.3.0)\n")


def test_a_qmail_file_that_is_no_file_is_passed_over(user: User) -> None:
    os.mkfifo(user.home / ".qmail-a")
    (user.home / ".qmail-b").symlink_to(".qmail-b")
    (user.home / ".qmail-c").symlink_to("/dev/tty0")
    user.instructions("#", ".qmail-default")
    for ext in "abc":
        assert user.deliver(ext) == (0, "did 0+0+0\n", "")


def test_a_program_gets_the_signals_of_a_fresh_process(user: User) -> None:
    user.instructions("|yes | head -1; grep SigIgn /proc/self/status\n")
    code, out, _ = user.deliver()
    ignored = int(out.split("SigIgn:\t")[1].split()[0], 16)
    assert (code, out[:2]) == (0, "y\n")
    assert not ignored & (1 << signal.SIGPIPE - 1)


def test_a_program_has_no_descriptors_but_its_own(user: User) -> None:
    user.instructions("|ls /proc/self/fd\n./Maildir/\n|ls /proc/self/fd\n")
    code, out, _ = user.deliver()
    assert (code, out) == (0, "0\n1\n2\n3\n" * 2 + "did 1+0+2\n")  # 3: the listing itself


@needs_strace
@pytest.mark.parametrize(
    ("command", "code", "executed"),
    [("bouncesaying no", 100, 1), ("bouncesaying 'no'", 100, 3), ("bouncesaying no; true", 0, 3)],
)
def test_our_own_program_needs_no_shell(
    user: User, tmp_path: Path, command: str, code: int, executed: int
) -> None:
    user.instructions(f"|{command}\n")
    done = traced(user, tmp_path, "-e", "trace=execve")
    assert (done.code, done.stderr) == (code, b"no\n")
    assert len(done.order(r"^execve\(")) == executed


def test_a_users_own_program_wins_over_ours(user: User, tmp_path: Path) -> None:
    program = tmp_path / "bin/bouncesaying"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho mine\n")
    program.chmod(0o755)
    user.instructions("|bouncesaying no\n")
    path = f"{program.parent}:{environment()['PATH']}"
    assert user.deliver(PATH=path) == (0, "mine\ndid 0+0+1\n", "")


def test_what_a_program_leaves_running_does_not_hold_the_delivery_up(user: User) -> None:
    user.instructions("|sleep 60 >/dev/null 2>&1 & echo $!\n")
    code, out, _ = user.deliver()
    assert code == 0
    os.kill(int(out.split()[0]), signal.SIGKILL)


# --- in a process that delivers again and again


class Here:
    """qmail-local run in this process, as a worker does it."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._program = chain.load("qmail.local")

    def __call__(self, *arguments: str) -> int:
        message, saved = os.open(self._user.message, os.O_RDONLY), os.dup(0)
        try:
            os.dup2(message, 0)
            return self._program.run(self._user.argv(*arguments)[1:])
        finally:
            os.dup2(saved, 0)
            os.close(saved)
            os.close(message)


@pytest.fixture
def here(user: User, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    monkeypatch.chdir(user.home)
    umask = os.umask(0o022)
    os.umask(umask)
    yield Here(user)
    os.umask(umask)


def state() -> Sequence[object]:
    """What must be as before: descriptors, environment, signals."""
    dispositions = [signal.getsignal(number) for number in signals.SIGNALS]
    return sorted(os.listdir("/proc/self/fd")), dict(os.environ), dispositions, signal.alarm(0)


def test_the_process_is_as_before_after_any_delivery(
    user: User, here: Here, capfd: pytest.CaptureFixture[str]
) -> None:
    user.instructions("./Maildir/\n./Mailbox\n|true\n", ".qmail-all")
    user.instructions("|exit 100\n", ".qmail-fails")
    user.instructions("./NoMaildir/\n", ".qmail-nowhere")
    user.instructions("./Maildir/new\n", ".qmail-directory")
    user.instructions("&a@b\n", ".qmail-forward")
    before = state()
    for _ in range(3):
        codes = [here(ext) for ext in ("all", "fails", "nowhere", "directory", "forward", "none")]
        assert codes == [0, 100, 111, 111, 111, 100]
        assert state() == before
    assert capfd.readouterr().out == "did 2+0+1\n" * 3
    assert user.files() == ["new"] * 3


def test_no_variable_of_one_delivery_reaches_the_next(
    user: User, here: Here, capfd: pytest.CaptureFixture[str]
) -> None:
    user.instructions('|echo "$EXT [${DEFAULT-unset}] $SENDER"\n', ".qmail-a")
    user.instructions('|echo "$EXT [${DEFAULT-unset}] $SENDER"\n', ".qmail-default")
    assert [here(ext) for ext in ("b-c", "a", "B", "a")] == [0] * 4
    said = [line for line in capfd.readouterr().out.splitlines() if not line.startswith("did")]
    assert said == ["b-c [b-c] s@x.y", "a [unset] s@x.y", "B [B] s@x.y", "a [unset] s@x.y"]


def test_a_forward_tells_a_queue_program_of_its_own_what_it_is_for(user: User, tmp_path: Path) -> None:
    program = tmp_path / "queue"
    program.write_text(
        f'#!/bin/sh\necho "$RECIPIENT $NEWSENDER $EXT" > {tmp_path}/told\n'
        f"cat > {tmp_path}/m; cat <&1 > /dev/null\n"
    )
    program.chmod(0o755)
    user.instructions("&a@b\n", ".qmail-list")
    user.instructions("", ".qmail-list-owner")
    code, out, err = user.deliver("list", QMAILQUEUE=str(program), QMAILHOME=str(tmp_path))
    assert (code, err) == (0, "")
    assert out.startswith("did 0+1+0\nqp ")
    assert (tmp_path / "told").read_text() == "joe-list@example.org joe-list-owner@example.org list\n"
    assert (tmp_path / "m").read_bytes() == b"Delivered-To: joe-list@example.org\n" + MESSAGE


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        (b"X: y\nDelivered-To: joe@example.org\n\n", True),
        (b"X: " + b"y" * 70_000 + b"\nDelivered-To: joe@example.org\nZ: z\n", True),
        (b"X: " + b"y" * (65536 - 20) + b"\nDelivered-To: joe@example.org\n\n", True),
        (b"X: y\n\nDelivered-To: joe@example.org\n", False),
        (b"\nDelivered-To: joe@example.org\n", False),
        (b"Delivered-To: joe@example.org", False),
        (b"XDelivered-To: joe@example.org\n\n", False),
        (b"Delivered-To: joe@example.org \n\n", False),
        (b"X: " + b"y" * (65536 - 5) + b"\n\nDelivered-To: joe@example.org\n", False),
    ],
)
def test_a_message_that_has_been_here_is_refused(user: User, text: bytes, loops: bool) -> None:
    user.message.write_bytes(text)
    code, _, err = user.deliver()
    expected = "This message is looping: it already has my Delivered-To line. (#5.4.6)\n"
    assert (code, err) == ((100, expected) if loops else (0, ""))
