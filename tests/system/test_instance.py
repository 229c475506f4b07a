"""A private instance from one command takes mail by SMTP, delivers it, and shows itself as qmail does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from instances import HOST, RunningInstance, make_instance, running_instance
from programs import BIN, environment, eventually, run


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningInstance]:
    with running_instance(tmp_path_factory.mktemp("instance") / "i") as made:
        yield made


def mail_with(instance: RunningInstance, text: str) -> Path | None:
    return next((file for file in instance.new_mail.iterdir() if text in file.read_text()), None)


def test_message_by_smtp_is_delivered_and_logged_as_qmail_does(instance: RunningInstance) -> None:
    instance.send("delivered and logged")
    mail = eventually(lambda: mail_with(instance, "delivered and logged"))
    lines = mail.read_text().splitlines()
    assert lines[0] == f"Return-Path: <me@{HOST}>"
    assert lines[1] == f"Delivered-To: anyone@{HOST}"
    assert re.fullmatch(
        r"Received: \(qmail \d+ invoked (from network|by uid \d+|by alias)\); .* -0000", lines[2]
    )
    expected = re.compile(
        r"new msg (?P<n>\d+)\n"
        r"info msg (?P=n): bytes \d+ from <me@" + re.escape(HOST) + r"> qp \d+ uid \d+\n"
        r"starting delivery (?P<d>\d+): msg (?P=n) to local anyone@" + re.escape(HOST) + r"\n"
        r"status: local 1/10 remote 0/20\n"
        r"delivery (?P=d): success: did_1\+0\+0/\n"
        r"status: local 0/10 remote 0/20\n"
        r"end msg (?P=n)\n"
    )
    eventually(lambda: expected.search(instance.log()), instance.log())


def test_log_lines_are_stamped_by_multilog(instance: RunningInstance) -> None:
    lines = eventually((instance.home / "log/qmail-send/current").read_text).splitlines()
    assert all(re.match(r"@[0-9a-f]{24} ", line) for line in lines)


@pytest.mark.skipif(not shutil.which("swaks"), reason="swaks is not installed")
def test_swaks_delivers(instance: RunningInstance) -> None:
    done = run(
        "swaks", "--server", f"127.0.0.1:{instance.port}", "--to", f"swaks@{HOST}", "--body", "by swaks"
    )
    assert done.returncode == 0, done.stdout
    eventually(lambda: mail_with(instance, "by swaks"))


def test_sendmail_of_the_instance_delivers(instance: RunningInstance) -> None:
    done = run(instance.home / "bin/sendmail", f"anyone@{HOST}", stdin=b"Subject: x\n\nby sendmail\n")
    assert done.returncode == 0, done.stderr
    eventually(lambda: mail_with(instance, "by sendmail"))


def test_extension_with_its_own_dot_qmail_file_goes_where_that_says(instance: RunningInstance) -> None:
    (instance.home / "home/.qmail-box").write_text("./box\n")
    instance.send("to the box", f"box@{HOST}")
    box = instance.home / "home/box"
    eventually(lambda: box.exists() and "to the box" in box.read_text())


def test_pipe_and_forward_in_a_dot_qmail_file_work(instance: RunningInstance) -> None:
    (instance.home / "home/.qmail-pipe").write_text(f"|cat > seen\n&forwarded@{HOST}\n")
    instance.send("through a pipe and on", f"pipe@{HOST}")
    forwarded = eventually(lambda: mail_with(instance, f"Delivered-To: forwarded@{HOST}"))
    assert "through a pipe and on" in forwarded.read_text()
    assert "through a pipe and on" in (instance.home / "home/seen").read_text()


def test_qmailctl_stat_shows_four_services_and_the_queue(instance: RunningInstance) -> None:
    def stat() -> re.Match[str] | None:
        done = run(instance.home / "bin/qmailctl", "stat")
        up = r": up \(pid \d+\) \d+ seconds\n"
        services = "".join(
            re.escape(f"{instance.home}/service/{name}") + up
            for name in ("qmail-send", "qmail-send/log", "qmail-smtpd", "qmail-smtpd/log")
        )
        queue = r"messages in queue: \d+\nmessages in queue but not yet preprocessed: \d+\n"
        return re.fullmatch(services + queue, done.stdout.decode())

    eventually(stat)


def test_processes_show_their_own_names_in_the_familiar_tree(instance: RunningInstance) -> None:
    def tree() -> dict[str, str]:
        shown = {}
        for process in psutil.Process(instance.svscan.pid).children(recursive=True):
            parent = process.parent()
            if parent:
                shown[" ".join(process.cmdline()).strip()] = " ".join(parent.cmdline()).strip()
        return shown

    def as_expected() -> bool:
        seen = tree()
        home = instance.home
        smtpd = next(
            (line for line in seen if f"{home}/bin/tcpserver -v" in line or line.startswith("tcpserver -v")),
            "",
        )
        return (
            seen.get("supervise qmail-smtpd", "").startswith("svscan ")
            and seen.get("supervise qmail-send", "").startswith("svscan ")
            and seen.get(smtpd) == "supervise qmail-smtpd"
            and seen.get("qmail-send") == "supervise qmail-send"
            and all(
                seen.get(name) == "qmail-send"
                for name in ("qmail-clean", "qmail-rspawn", "qmail-lspawn ./Maildir/")
            )
            and any("multilog t" in line and parent == "supervise log" for line, parent in seen.items())
        )

    eventually(as_expected, str(tree()))


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("strace"), reason="needs root and strace")
def test_nothing_is_executed_between_accept_and_the_file_in_the_maildir(
    instance: RunningInstance, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    pids = [str(child.pid) for child in psutil.Process(instance.svscan.pid).children(recursive=True)]
    attach = [part for pid in pids for part in ("-p", pid)]
    strace = subprocess.Popen(
        ["strace", "-f", "-e", "trace=execve,accept4,accept,link,linkat", "-o", str(trace), *attach],
        stderr=subprocess.PIPE,
    )
    try:
        assert strace.stderr
        for _ in pids:
            assert b"attached" in strace.stderr.readline()
        instance.send("under strace")
        eventually(lambda: mail_with(instance, "under strace"))
        eventually(lambda: '"new/' in trace.read_text())  # from the Maildir's descriptor
        seen = trace.read_text()
    finally:
        strace.terminate()
        strace.communicate()
    assert "accept" in seen, "the trace did not cover the connection"
    assert "execve" not in seen


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_svscan_executes_no_interpreter_for_supervise(tmp_path: Path) -> None:
    make_instance(tmp_path / "i")
    trace = tmp_path / "trace"
    scan = [
        "strace", "-f", "-s", "999", "-e", "trace=execve", "-o", str(trace),
        str(BIN / "svscan"), str(tmp_path / "i/service"),
    ]  # fmt: skip
    svscan = subprocess.Popen(scan, start_new_session=True, env=environment())
    try:
        eventually(
            lambda: (
                trace.exists() and 'multilog", "t"' in trace.read_text() and "tcpserver" in trace.read_text()
            )
        )
        executed = re.findall(r'execve\("[^"]*/([^"/]+)"', trace.read_text())
        assert "svscan" in executed
        assert "supervise" not in executed
    finally:
        for child in psutil.Process(svscan.pid).children():
            child.terminate()
        svscan.wait(30)


def test_second_install_keeps_the_owners_changes_and_says_so(tmp_path: Path) -> None:
    home = tmp_path / "i"
    port = make_instance(home)
    (home / "control/concurrencyincoming").write_text("7\n")
    (home / "bin/qmail-inject").unlink()
    (home / "bin/qmail-inject").symlink_to("/bin/true")
    before = {file: file.read_bytes() for file in (home / "service").rglob("run")}
    done = run("qmail-install", "--private", home)
    assert done.returncode == 0
    assert f"kept {home}/control/concurrencyincoming: changed by you" in done.stdout.decode()
    assert (home / "control/concurrencyincoming").read_text() == "7\n"
    assert os.readlink(home / "bin/qmail-inject") == "/bin/true"
    assert {file: file.read_bytes() for file in before} == before
    assert f" {port} " in (home / "service/qmail-smtpd/run").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--smtp-port", "0"], "--smtp-port: not a port: 0"),
        (["--smtp-port", "65536"], "--smtp-port: not a port: 65536"),
        (["--host", "a b"], "--host: not a host name: a b"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_usage_is_named_and_exits_100(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    done = run("qmail-install", "--private", tmp_path / "i", *arguments)
    assert done.returncode == 100
    assert complaint in done.stderr.decode()


def test_home_that_users_assign_cannot_name_is_refused(tmp_path: Path) -> None:
    done = run("qmail-install", "--private", tmp_path / "a:b")
    assert done.returncode == 100
    assert b"colon" in done.stderr
