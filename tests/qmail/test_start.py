"""qmail-start ties the parts together; they begin and end with qmail-send."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from programs import environment, eventually, running
from queues import MailHome, make_home
from senders import queue_message

STUB = """#!{python} -SE
import os
os.write(1, bytes([120]))
buffer = b""
while data := os.read(0, 4096):
    *orders, buffer = (buffer + data).rsplit(b"\\0", 1)
    for order in orders:
        os.write(1, order[:1] + b"K" + b" ".join(order[1:].split(b"\\0")) + b"\\0")
"""


@pytest.fixture
def home(tmp_path: Path) -> MailHome:
    """A home whose qmail-lspawn and qmail-rspawn believe that every delivery succeeds."""
    made = make_home(tmp_path / "home")
    stubs = made.path / "stubs"
    stubs.mkdir()
    python = os.path.realpath("/proc/self/exe")
    for name in ("qmail-lspawn", "qmail-rspawn"):
        (stubs / name).write_text(STUB.format(python=python))
        (stubs / name).chmod(0o755)
    return made


def started(home: MailHome) -> dict[str, str]:
    env = home.environment()
    return env | {"PATH": f"{home.path}/stubs:{env['PATH']}"}


def parts(pid: int) -> dict[str, psutil.Process]:
    """The processes below `pid` by the first word that ps shows."""
    found = {}
    for child in psutil.Process(pid).children():
        words = child.cmdline()
        word = next((word for word in words if "qmail-" in word or "logger" in word), "")
        found[os.path.basename(word)] = child
    return found


def test_a_message_goes_through_and_the_log_goes_to_standard_output(home: MailHome) -> None:
    with running("qmail-start", "./Mailbox", env=started(home), stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"status: local 0/10 remote 0/20\n"
        queue_message(home, b"joe@mx.example.org")
        lines = [process.stdout.readline() for _ in range(7)]
        assert lines[-1].startswith(b"end msg ")
        process.terminate()
        assert process.stdout.read() == b"status: exiting\n"
        assert process.wait(30) == 0


def test_the_process_becomes_qmail_send_and_its_children_are_the_parts(home: MailHome) -> None:
    with running("qmail-start", env=started(home), stdout=subprocess.DEVNULL) as process:
        names = {"qmail-lspawn", "qmail-rspawn", "qmail-clean", "qmail-queued"}
        eventually(lambda: set(parts(process.pid)) >= names, str(names))
        eventually(lambda: psutil.Process(process.pid).cmdline()[0] == "qmail-send")
        lspawn = parts(process.pid)["qmail-lspawn"]
        assert lspawn.cmdline()[-1] == "./Mailbox"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_parts_end_with_qmail_send(home: MailHome, end: signal.Signals) -> None:
    with running("qmail-start", env=started(home), stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        eventually(lambda: (home.path / "queued/socket").exists(), "qmail-queued listens")
        children = psutil.Process(process.pid).children()
        process.send_signal(end)
        process.wait(30)
        psutil.wait_procs(children, timeout=30)
        assert not [child for child in children if child.is_running() and child.status() != "zombie"]


def test_the_log_goes_through_the_logger(home: MailHome, tmp_path: Path) -> None:
    logger = tmp_path / "logger"
    logger.write_text('#!/bin/sh\nexec cat >"$1"\n')
    logger.chmod(0o755)
    log = tmp_path / "log"
    with running("qmail-start", "./Maildir/", logger, log, env=started(home)) as process:
        eventually(lambda: log.exists() and b"status: local 0/10" in log.read_bytes(), "the first line")
        process.terminate()
        process.wait(30)
        eventually(lambda: log.read_bytes().endswith(b"status: exiting\n"), "the last line")


def test_the_parts_have_no_descriptors_but_their_own(home: MailHome) -> None:
    with running("qmail-start", env=started(home), stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        clean = eventually(lambda: parts(process.pid).get("qmail-clean"), "qmail-clean")
        fds = {int(fd) for fd in os.listdir(f"/proc/{clean.pid}/fd")}
        assert fds == {0, 1, 2}
        lspawn = parts(process.pid)["qmail-lspawn"]
        assert {0, 1, 2} >= {int(fd) for fd in os.listdir(f"/proc/{lspawn.pid}/fd")}


def test_a_second_qmail_queued_waits_for_its_turn(home: MailHome) -> None:
    with running("qmail-queued", env=home.environment(), stdin=subprocess.DEVNULL) as other:
        eventually(lambda: (home.path / "queued/socket").exists(), "it listens")
        with running("qmail-start", env=started(home), stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            queue_message(home, b"joe@mx.example.org")
            while not process.stdout.readline().startswith(b"end msg"):
                pass
            before = (home.path / "queued/socket").stat().st_ctime_ns
            other.terminate()
            other.wait(30)
            eventually(
                lambda: (
                    (home.path / "queued/socket").exists()
                    and (home.path / "queued/socket").stat().st_ctime_ns != before
                ),
                "the next one listens",
            )


def test_without_a_spawner_it_says_so_and_ends(home: MailHome) -> None:
    (home.path / "stubs/qmail-rspawn").write_text("#!/bin/sh\nexit 1\n")
    with running("qmail-start", env=started(home), stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.read() == b"alert: cannot start: hath the daemon spawn no fire?\n"
        assert process.wait(30) == 111


def test_without_a_home_it_prints_nothing_but_the_alert(tmp_path: Path) -> None:
    env = environment(QMAILHOME=str(tmp_path / "none"))
    with running("qmail-start", env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        first = process.stdout.readline()
        assert first == b"alert: cannot start: unable to switch to home directory\n"
        assert process.wait(30) == 111
