"""Whatever a client or the disk does, the reply is the documented one, and nothing is half-queued."""

from __future__ import annotations

import contextlib
import os
import shutil
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from instances import HOST, RunningInstance, running_instance
from programs import eventually

MAIL = f"From: me@{HOST}\r\n\r\nbody\r\n"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningInstance]:
    with running_instance(tmp_path_factory.mktemp("bad") / "i") as made:
        yield made


def queued(home: Path) -> list[str]:
    """Every file of a message in the queue."""
    kinds = ("pid", "mess", "intd", "todo", "info", "local", "remote", "bounce")
    return [str(file) for kind in kinds for file in (home / "queue" / kind).rglob("*") if file.is_file()]


def refusal(instance: RunningInstance) -> tuple[int, bytes]:
    """What the server says to a message that it cannot queue."""
    with smtplib.SMTP("127.0.0.1", instance.port, timeout=30) as client:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail(f"me@{HOST}", [f"you@{HOST}"], MAIL + "x" * 300_000 + "\r\n")
        error = refused.value.smtp_error
        return refused.value.smtp_code, error if isinstance(error, bytes) else error.encode()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("bogus", 502),
        ("", 502),
        ("mail", 250),
        ("rcpt to:<you@x>", 503),
        ("data", 503),
        ("mail from:<a\0b>", 250),
        ("x" * 100_000, 502),
        ("\x80\xff\r", 502),
        ("vrfy you", 252),
        ("expn list", 502),
        ("help", 214),
    ],
)
def test_odd_command_gets_its_documented_reply_and_the_session_goes_on(
    instance: RunningInstance, command: str, code: int
) -> None:
    with (
        socket.create_connection(("127.0.0.1", instance.port), 30) as client,
        client.makefile("rb") as replies,
    ):
        assert replies.readline().startswith(b"220 ")
        client.sendall(command.encode("latin-1") + b"\r\n")
        assert int(replies.readline()[:3]) == code
        client.sendall(b"noop\r\n")
        assert replies.readline() == b"250 ok\r\n"


@pytest.mark.parametrize("end", [b"", b"hel", b"\r\n.", b"\r\n.\r", b"\n"])
def test_client_that_vanishes_in_the_middle_of_data_leaves_nothing(
    instance: RunningInstance, end: bytes
) -> None:
    with (
        socket.create_connection(("127.0.0.1", instance.port), 30) as client,
        client.makefile("rb") as replies,
    ):
        replies.readline()
        for command in (b"helo x", b"mail from:<a@x>", f"rcpt to:<vanished@{HOST}>".encode(), b"data"):
            client.sendall(command + b"\r\n")
            replies.readline()
        client.sendall(b"Subject: half\r\n\r\nhalf a message" + end)
    eventually(lambda: queued(instance.home) == [], str(queued(instance.home)))
    assert "vanished@" not in instance.log()


def test_line_without_end_costs_no_memory_and_no_neighbour(instance: RunningInstance) -> None:
    with socket.create_connection(("127.0.0.1", instance.port), 30) as client:
        client.recv(1000)
        with contextlib.suppress(ConnectionError):  # it may have enough, and hang up
            for _ in range(64):
                client.sendall(b"x" * 1_000_000)
        instance.send("beside the endless line")
        resident = max(
            int(line.split()[1])
            for pid in children_of(instance.svscan.pid)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmRSS:")
        )
        assert resident < 60_000, "kB; the line's 64 MB are not kept"


def children_of(pid: int) -> list[int]:
    found = []
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        found += [child, *children_of(child)]
    return found


def test_queue_that_cannot_be_written_is_a_temporary_refusal(instance: RunningInstance) -> None:
    eventually(lambda: queued(instance.home) == [])  # else qmail-send tries what it missed much later
    mess, aside = instance.home / "queue/mess", instance.home / "queue/aside"
    mess.rename(aside)
    try:
        code, text = refusal(instance)
    finally:
        aside.rename(mess)
    assert code == 451
    assert text.startswith(b"qq ")
    eventually(lambda: queued(instance.home) == [], str(queued(instance.home)))
    instance.send("after the queue came back")


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to mount a small disk")
def test_full_disk_is_a_temporary_refusal_and_mail_flows_again_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=True)
    try:
        with running_instance(disk / "i") as instance:
            instance.send("while there is room")
            eventually(lambda: queued(instance.home) == [])
            filler = disk / "filler"
            subprocess.run(["dd", "if=/dev/zero", f"of={filler}"], stderr=subprocess.DEVNULL, check=False)
            assert shutil.disk_usage(disk).free == 0
            code, text = refusal(instance)
            assert code == 451
            assert text in (
                b"qq write error or disk full (#4.3.0)",
                b"qq trouble creating files in queue (#4.3.0)",
            )
            assert queued(instance.home) == []
            filler.unlink()
            instance.send("when there is room again")
            eventually(
                lambda: any("there is room again" in mail.read_text() for mail in instance.new_mail.iterdir())
            )
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_run_script_with_the_memory_limit_of_the_c_programs_works_unchanged(tmp_path: Path) -> None:
    """softlimit -m 9000000 of 25 years of run scripts: above the interpreter's own footprint."""
    with running_instance(tmp_path / "i") as instance:
        script = instance.home / "service/qmail-smtpd/run"
        script.write_text(script.read_text().replace("-m 40000000", "-m 9000000"))
        subprocess.run([str(instance.home / "bin/svc"), "-t", str(script.parent)], check=True)
        eventually(lambda: sends(instance, "under nine megabytes"))


def sends(instance: RunningInstance, text: str) -> bool:
    try:
        instance.send(text)
    except (OSError, smtplib.SMTPException):
        return False
    return True
