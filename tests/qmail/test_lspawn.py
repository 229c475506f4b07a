"""qmail-lspawn answers every order once, and no user, program or order disturbs another's delivery."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import eventually, run
from queues import MailHome, make_home
from spawners import RunningSpawner, own_bin, put_message, put_program, spawner
from traces import needs_strace

from qmail import lspawn
from qmail.home import LEDGER
from qmail.spawning.agents import MOST_RUNS
from qmail.spawning.orders import MAX_ORDER

NOBODY = 65534


@pytest.fixture
def home(tmp_path: Path) -> MailHome:
    """A private instance: every local part is the tester's, with files .qmail-ext in user/."""
    made = make_home(tmp_path / "mail")
    (made.path / LEDGER).touch()
    user = made.path / "user"
    for name in ("new", "cur", "tmp"):
        (user / "Maildir" / name).mkdir(parents=True)
    user.chmod(0o755)
    assign(made, f"+:me:{os.getuid()}:{os.getgid()}:{user}:-::\n")
    instructions(made, "./Maildir/", "default")
    put_message(made)
    return made


def assign(home: MailHome, lines: str) -> None:
    (home.path / "users").mkdir(exist_ok=True)
    (home.path / "users/assign").write_text(lines + ".\n")
    done = run("qmail-newu", env=home.environment())
    assert done.returncode == 0, done.stderr


def instructions(home: MailHome, text: str, ext: str) -> None:
    path = home.path / f"user/.qmail-{ext}"
    path.write_text(f"{text}\n")
    path.chmod(0o644)


@pytest.fixture
def working(home: MailHome) -> Iterator[RunningSpawner]:
    with spawner(home, "qmail-lspawn", "./Maildir/") as started:
        yield started
        assert started.close() == 0


def mail(home: MailHome) -> int:
    return len(os.listdir(home.path / "user/Maildir/new"))


def test_orders_at_once_are_all_delivered(home: MailHome, working: RunningSpawner) -> None:
    for slot in range(120):
        working.order(slot, b"anyone@x")
    reports = [working.report() for _ in range(120)]
    assert sorted(reports) == [(slot, b"Kdid 1+0+0\n") for slot in range(120)]
    assert mail(home) == 120


def test_a_worker_delivers_again(home: MailHome, working: RunningSpawner) -> None:
    instructions(home, "|echo $PPID", "pid")
    first = working.deliver(b"pid@x")
    assert re.fullmatch(rb"K\d+\ndid 0\+0\+1\n", first)
    assert [working.deliver(b"pid@x") for _ in range(5)] == [first] * 5


def test_a_worker_that_dies_takes_one_delivery_with_it(home: MailHome, working: RunningSpawner) -> None:
    instructions(home, "|kill -9 $PPID", "kill")
    for _ in range(3):
        assert working.deliver(b"kill@x") == b"Zqmail-local crashed.\n"
        assert working.deliver(b"anyone@x") == b"Kdid 1+0+0\n"
    assert mail(home) == 3


def test_an_idle_worker_that_was_killed_is_replaced(home: MailHome, working: RunningSpawner) -> None:
    instructions(home, "|echo $PPID", "pid")
    pid = int(working.deliver(b"pid@x")[1:].split()[0])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the worker to be reaped")
    assert working.deliver(b"anyone@x") == b"Kdid 1+0+0\n"


def test_a_slow_delivery_holds_nobody_up(home: MailHome, working: RunningSpawner) -> None:
    instructions(home, "|while test ! -e go; do sleep 0.02; done", "slow")
    working.order(7, b"slow@x")
    assert working.deliver(b"anyone@x") == b"Kdid 1+0+0\n"
    working.order(7, b"slow@x")
    assert working.report() == (7, b"ZInternal error: delnum in use. (#4.3.5)\n")
    (home.path / "user/go").touch()
    assert working.report() == (7, b"Kdid 0+0+1\n")


def test_the_report_waits_for_whoever_can_still_speak(home: MailHome, working: RunningSpawner) -> None:
    instructions(home, "|(while test ! -e go; do sleep 0.02; done; echo late) &", "later")
    working.order(7, b"later@x")
    assert working.deliver(b"anyone@x") == b"Kdid 1+0+0\n"
    (home.path / "user/go").touch()
    assert working.report() == (7, b"Kdid 0+0+1\nlate\n")


def test_a_flood_of_words_is_cut(home: MailHome, working: RunningSpawner) -> None:
    instructions(home, "|head -c 20000000 /dev/zero | tr '\\0' x; exit 100", "flood")
    text = working.deliver(b"flood@x")
    assert re.fullmatch(rb"Dx+\nError report too long, sorry\.\n", text)
    assert 2950 < len(text) <= 3001


def test_deliveries_left_at_the_end_are_finished(home: MailHome) -> None:
    instructions(home, "|while test ! -e go; do sleep 0.02; done", "slow")
    with spawner(home, "qmail-lspawn", "./Maildir/") as started:
        started.order(0, b"slow@x")
        assert started.process.stdin
        started.process.stdin.close()
        (home.path / "user/go").touch()
        assert started.report() == (0, b"Kdid 0+0+1\n")
        assert started.process.wait(30) == 0


def test_qmail_send_may_vanish_and_the_delivery_is_finished(home: MailHome) -> None:
    instructions(home, "|while test ! -e go; do sleep 0.02; done; touch done", "slow")
    with spawner(home, "qmail-lspawn", "./Maildir/") as started:
        started.order(0, b"slow@x")
        assert started.process.stdin
        assert started.process.stdout
        started.process.stdin.close()
        started.process.stdout.close()
        (home.path / "user/go").touch()
        assert started.process.wait(30) == 0
    assert (home.path / "user/done").exists()


# --- orders that are none


@pytest.mark.parametrize(
    ("message", "recipient", "text"),
    [
        (b"", b"a@x", b"DInternal error: messid too short. (#5.3.5)\n"),
        (b"/etc/passwd", b"a@x", b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
        (b"../../x", b"a@x", b"DInternal error: messid has nonnumerics. (#5.3.5)\n"),
        (b"0/" + b"1" * 98, b"a@x", b"DInternal error: messid too long. (#5.3.5)\n"),
        (b"0/24", b"a@x", b"Zqmail-spawn unable to open message. (#4.3.0)\n"),
        (b"0", b"a@x", b"ZSorry, message has wrong type. (#4.3.5)\n"),
        (b"0/25", b"a@x", b"Zqmail-spawn unable to open message. (#4.3.0)\n"),
        (b"0/26", b"a@x", b"ZSorry, message has wrong type. (#4.3.5)\n"),
        (b"0/23", b"nohost", b"DSorry, address must include host name. (#5.1.3)\n"),
        (b"0/23", b"@x", b"K"),
    ],
)
def test_an_order_that_cannot_be_is_answered(
    home: MailHome, working: RunningSpawner, message: bytes, recipient: bytes, text: bytes
) -> None:
    (home.path / "queue/mess/0/25").symlink_to("25")
    os.mkfifo(home.path / "queue/mess/0/26")
    working.order(3, recipient, message)
    assert working.report() == (3, text)
    assert working.deliver(b"anyone@x") == b"Kdid 1+0+0\n"


def test_an_order_without_end_is_answered(home: MailHome, working: RunningSpawner) -> None:
    working.order(3, b"a" * MAX_ORDER + b"@x")
    assert working.report() == (3, b"Zqmail-spawn out of memory. (#4.3.0)\n")
    assert working.deliver(b"anyone@x") == b"Kdid 1+0+0\n"


def test_a_slot_beyond_the_limit_is_answered(working: RunningSpawner) -> None:
    assert (working.limit, working.slot_bytes) == (120, 1)
    working.order(120, b"anyone@x")
    assert working.report() == (120, b"ZInternal error: delnum too big. (#4.3.5)\n")


def test_above_255_deliveries_slots_have_two_bytes(home: MailHome) -> None:
    home.control("conf-spawn", "500\n")
    with spawner(home, "qmail-lspawn", "./Maildir/") as started:
        assert (started.limit, started.slot_bytes) == (500, 2)
        for slot in (0, 255, 256, 499):
            started.order(slot, b"anyone@x")
            assert started.report() == (slot, b"Kdid 1+0+0\n")
        started.order(500, b"anyone@x")
        assert started.report() == (500, b"ZInternal error: delnum too big. (#4.3.5)\n")


def test_many_deliveries_at_a_time_need_no_higher_limit_on_open_files(home: MailHome) -> None:
    home.control("conf-spawn", "150\n")
    instructions(home, "|while test ! -e go; do sleep 0.5; done; ulimit -n", "wait")
    limited = ("sh", "-c", 'ulimit -S -n 100; exec "$@"', "sh")
    with spawner(home, "qmail-lspawn", "./Maildir/", under=limited) as started:
        for slot in range(150):
            started.order(slot, b"wait@x")
        (home.path / "user/go").touch()
        reports = {started.report() for _ in range(150)}
    assert reports == {(slot, b"K100\ndid 0+0+1\n") for slot in range(150)}


@pytest.mark.parametrize(("setting", "limit"), [("0", 1), ("255", 255), ("99999999", 65000), ("x", 120)])
def test_the_limit_is_what_the_setting_can_mean(home: MailHome, setting: str, limit: int) -> None:
    home.control("conf-spawn", setting)
    with spawner(home, "qmail-lspawn", "./Maildir/") as started:
        assert started.limit == limit


def test_orders_may_come_from_a_file(home: MailHome, tmp_path: Path) -> None:
    orders = tmp_path / "orders"
    orders.write_bytes(b"\0000/23\0s\0a@x\0\0010/23\0s\0b@x\0")
    done = run(
        "sh", "-c", 'exec "$0" ./Maildir/ < orders', home.path / "bin/qmail-lspawn",
        cwd=tmp_path, env=home.environment(),
    )  # fmt: skip
    assert done.returncode == 0
    first, second = b"\0Kdid 1+0+0\n\0", b"\1Kdid 1+0+0\n\0"
    assert done.stdout in (b"x" + first + second, b"x" + second + first)


# --- whose mail it is


def test_users_cdb_that_makes_no_sense_is_trouble(home: MailHome) -> None:
    for content in (b"", b"x", bytes(2048), os.urandom(4096)):
        (home.path / "users/cdb").write_bytes(content)
        with spawner(home, "qmail-lspawn", "./Maildir/") as started:
            assert started.deliver(b"anyone@x") == b"ZTrouble reading users/cdb in qmail-lspawn.\n"


def test_an_assignment_to_another_user_is_refused_by_who_cannot_become_him(home: MailHome) -> None:
    assign(home, f"+:me:{os.getuid() + 1}:0:{home.path}/user:-::\n")
    with spawner(home, "qmail-lspawn", "./Maildir/") as started:
        assert started.deliver(b"anyone@x") == b"ZInternal qmail-lspawn bug.\n"


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def system(home: MailHome, tmp_path: Path) -> MailHome:
    """The same as a system's, where deliveries are made as the user nobody."""
    (home.path / LEDGER).unlink()
    assign(home, f"+:nobody:{NOBODY}:{NOBODY}:{home.path}/user:-::\n=root:root:0:0:{home.path}/user:::\n")
    for directory in (home.path, *home.path.parents):
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    for place in (home.path / "user", *(home.path / "user").rglob("*")):
        os.chown(place, NOBODY, NOBODY)
    return home


@pytest.mark.root
@root_only
def test_root_delivers_as_the_user_with_no_other_groups(system: MailHome) -> None:
    instructions(system, "|id -u; id -g; id -G; umask; pwd", "who")
    with spawner(system, "qmail-lspawn", "./Maildir/") as started:
        for _ in range(2):
            text = started.deliver(b"who@x").decode()
            assert text == f"K{NOBODY}\n{NOBODY}\n{NOBODY}\n0077\n{system.path}/user\ndid 0+0+1\n"
        assert started.deliver(b"anyone@x") == b"Kdid 1+0+0\n"
    (file,) = (system.path / "user/Maildir/new").iterdir()
    assert (file.stat().st_uid, file.stat().st_gid) == (NOBODY, NOBODY)


@pytest.mark.root
@root_only
def test_nothing_is_delivered_as_root(system: MailHome) -> None:
    with spawner(system, "qmail-lspawn", "./Maildir/") as started:
        assert started.deliver(b"root@x") == b"ZNot allowed to perform deliveries as root.\n"


@pytest.mark.root
@root_only
def test_a_message_that_is_not_the_queues_is_not_read(system: MailHome) -> None:
    os.chown(system.path / "queue/mess/0/23", NOBODY, NOBODY)
    with spawner(system, "qmail-lspawn", "./Maildir/") as started:
        assert started.deliver(b"anyone@x") == b"ZSorry, message has wrong owner. (#4.3.5)\n"


@pytest.mark.root
@root_only
def test_a_user_gets_mail_in_directories_that_he_may_not_read(system: MailHome) -> None:
    user = system.path / "user"
    (user / "closed").mkdir()
    os.chown(user / "closed", NOBODY, NOBODY)
    for place in (user / "closed", user / "Maildir/new", user / "Maildir/tmp", user / "Maildir"):
        place.chmod(0o311)
    instructions(system, "./Maildir/\n./closed/Mailbox", "both")
    with spawner(system, "qmail-lspawn", "./Maildir/") as started:
        assert started.deliver(b"both@x") == b"Kdid 2+0+0\n"
    assert mail(system) == 1
    assert (user / "closed/Mailbox").read_bytes().endswith(b"hello\n\n")


@pytest.mark.root
@root_only
def test_two_users_share_no_worker(system: MailHome) -> None:
    other = system.path / "other"
    other.mkdir()
    other.chmod(0o755)
    assign(
        system, f"=a:a:{NOBODY}:{NOBODY}:{system.path}/user:::\n=b:b:{NOBODY - 1}:{NOBODY - 1}:{other}:::\n"
    )
    for place in (system.path / "user", other):
        (place / ".qmail").write_text("|echo $PPID $(id -u)\n")
    with spawner(system, "qmail-lspawn", "./Maildir/") as started:
        first, second = started.deliver(b"a@x"), started.deliver(b"b@x")
        assert first.split()[0] != second.split()[0]
        assert (first.split()[1], second.split()[1]) == (b"%d" % NOBODY, b"%d" % (NOBODY - 1))
        assert (started.deliver(b"a@x"), started.deliver(b"b@x")) == (first, second)


@pytest.mark.root
@root_only
def test_a_user_cannot_reach_the_spawner_through_his_worker(system: MailHome) -> None:
    instructions(
        system, "|ls -l /proc/$PPID/fd 2>&1; ls /proc/self/fd; kill -0 $(ps -o ppid= $PPID) 2>&1", "look"
    )
    with spawner(system, "qmail-lspawn", "./Maildir/") as started:
        said = started.deliver(b"look@x").decode()
    assert "ermission denied" in said
    assert "socket" not in said


# --- other programs in place of ours


def test_a_qmail_local_in_bin_wins(home: MailHome) -> None:
    put_program(own_bin(home) / "qmail-local", 'echo mine: "$@"; pwd; cat; exit 100')
    with spawner(home, "qmail-lspawn", "./Maildir/") as started:
        expected = f"Dmine: -- me {home.path}/user a-b - a-b x s@x.y ./Maildir/\n{home.path}\n"
        assert started.deliver(b"a-b@x").decode() == expected + "Subject: test\n\nhello\n"


def test_qmaillocal_names_another_program(home: MailHome, tmp_path: Path) -> None:
    program = put_program(tmp_path / "other", "exit 111")
    with spawner(home, "qmail-lspawn", "./Maildir/", QMAILLOCAL=str(program)) as started:
        assert started.deliver(b"a@x") == b"Z"


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ("exit 0", b"K"),
        ("echo x; exit 1", b"Dx\n"),
        ("echo x; exit 75", b"Zx\n"),
        ("kill -11 $$", b"Zqmail-local crashed.\n"),
        ("exit 115", b"ZNFS failure in qmail-local.\n"),
    ],
)
def test_what_another_program_says_counts(home: MailHome, tmp_path: Path, text: str, report: bytes) -> None:
    program = put_program(tmp_path / "other", text)
    with spawner(home, "qmail-lspawn", "./Maildir/", QMAILLOCAL=str(program)) as started:
        assert [started.deliver(b"a@x") for _ in range(2)] == [report] * 2


def test_a_program_that_cannot_be_run_is_reported(home: MailHome, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    for name in (str(tmp_path / "none"), str(broken)):
        with spawner(home, "qmail-lspawn", "./Maildir/", QMAILLOCAL=name) as started:
            assert started.deliver(b"a@x") == b"DUnable to run qmail-local.\n"


def test_who_is_not_in_users_cdb_is_asked_of_qmail_getpw(home: MailHome) -> None:
    getpw = own_bin(home) / "qmail-getpw"
    uid = os.getuid()
    put_program(getpw, f"printf 'me\\0%d\\0%d\\0{home.path}/user\\0-\\0%s\\0' {uid} {os.getgid()} \"$1\"")
    assign(home, "")
    with spawner(home, "qmail-lspawn", "./Maildir/") as started:
        assert [started.deliver(b"anyone@x") for _ in range(2)] == [b"Kdid 1+0+0\n"] * 2
        for text, report in (
            ("printf 'me\\0%d'", b"ZInternal qmail-lspawn bug.\n"),
            ("exit 116", b"ZUnable to find alias user!\n"),
            ("exit 115", b"ZNFS failure in qmail-local.\n"),
            ("exit 100", b"D"),
            ("kill -9 $$", b"ZTemporary failure in qmail-lspawn.\n"),
        ):
            put_program(getpw, text)
            assert started.deliver(b"anyone@x") == report
        getpw.unlink()
        assert started.deliver(b"anyone@x") == b"ZUnable to run qmail-getpw.\n"


# --- cheap


@needs_strace
def test_many_deliveries_execute_nothing_and_fork_once(home: MailHome, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    under = ("strace", "-f", "-e", "trace=execve,fork,vfork,clone,clone3", "-o", str(trace))
    with spawner(home, "qmail-lspawn", "./Maildir/", under=under) as started:
        assert [started.deliver(b"anyone@x") for _ in range(50)] == [b"Kdid 1+0+0\n"] * 50
        assert started.close() == 0
    calls = trace.read_text()
    assert calls.count("execve(") == 1
    assert len(re.findall(r"(?:fork|clone3?)\(", calls)) == 1


@needs_strace
def test_a_worker_imports_nothing(home: MailHome, tmp_path: Path) -> None:
    instructions(home, "./Mailbox\n&away@x\n|dot-forward .forward", "all")
    trace = tmp_path / "trace"
    under = ("strace", "-f", "-e", "trace=openat", "-o", str(trace))
    with spawner(home, "qmail-lspawn", "./Maildir/", under=under) as started:
        assert started.deliver(b"all@x").startswith(b"Kdid 1+1+1\nqp ")
        assert started.deliver(b"anyone@x") == b"Kdid 1+0+0\n"
        assert started.close() == 0
    opened = [line.split(maxsplit=1) for line in trace.read_text().splitlines()]
    server = opened[0][0]
    modules = [call for pid, call in opened if pid != server and re.search(r"\.(pyc?|so)\b", call)]
    assert modules == []
    assert any(re.search(r"\.pyc", call) for pid, call in opened if pid == server)


def test_a_worker_is_replaced_after_its_share(home: MailHome, working: RunningSpawner) -> None:
    instructions(home, "|echo $PPID", "pid")
    first = working.deliver(b"pid@x")
    for _ in range(MOST_RUNS - 1):
        assert working.deliver(b"anyone@x") == b"Kdid 1+0+0\n"
    assert working.deliver(b"pid@x") != first


@needs_strace
@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("fork,vfork,clone,clone3:error=EAGAIN:when=1", b"Zqmail-spawn unable to fork. (#4.3.0)\n"),
        ("socketpair:error=EMFILE:when=1", b"Zqmail-spawn unable to fork. (#4.3.0)\n"),
        ("sendmsg:error=ENOBUFS:when=1", b"Zqmail-spawn unable to fork. (#4.3.0)\n"),
        ("pipe2:error=EMFILE:when=2", b"Zqmail-spawn unable to create pipe. (#4.3.0)\n"),
    ],
)
def test_a_system_without_room_is_reported_and_the_next_delivery_works(
    home: MailHome, tmp_path: Path, fault: str, text: bytes
) -> None:
    trace = tmp_path / "trace"
    under = ("strace", "-o", str(trace), f"--inject={fault}")
    with spawner(home, "qmail-lspawn", "./Maildir/", under=under) as started:
        assert started.deliver(b"anyone@x") == text
        assert started.deliver(b"anyone@x") == b"Kdid 1+0+0\n"
        assert started.close() == 0
    assert trace.read_text().count("(INJECTED)") == 1
    assert mail(home) == 1


def test_every_exit_code_has_a_text() -> None:
    for status in range(-64, 256):
        assert lspawn.report(status, b"x\n")[:1] in (b"K", b"Z", b"D")
    assert lspawn.report(100, b"no\n") == b"Dno\n"
    assert lspawn.report(0, b"did\n") == b"Kdid\n"
