"""A private instance, made by qmail-install and run by svscan, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import smtplib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from programs import environment, eventually, free_port, run, running

HOST = "mx.example.org"


@dataclass(frozen=True, slots=True)
class RunningInstance:
    """Where a running instance is; `svscan` is its topmost process."""

    home: Path
    port: int  # SMTP, on 127.0.0.1
    svscan: subprocess.Popen[bytes]

    @property
    def new_mail(self) -> Path:
        return self.home / "home/Maildir/new"

    def send(self, body: str, recipient: str = f"anyone@{HOST}", sender: str = f"me@{HOST}") -> None:
        """Hand in one message by SMTP."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=30) as client:
            client.sendmail(sender, [recipient], f"Subject: test\r\n\r\n{body}\r\n")

    def log(self, service: str = "qmail-send") -> str:
        """What multilog has in `current`, without the time stamps."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.home / f"log/{service}/current").read_text(errors="replace").splitlines()
            return "".join(f"{line.partition(' ')[2]}\n" for line in lines)
        return ""


def make_instance(home: Path, *options: str) -> int:
    """Make an instance on a free port, which is returned."""
    port = free_port()
    done = run("qmail-install", "--private", home, "--host", HOST, "--smtp-port", str(port), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return port


@contextlib.contextmanager
def running_instance(home: Path, *options: str) -> Iterator[RunningInstance]:
    """Make an instance in `home` and run it until the end of the block."""
    port = make_instance(home, *options)
    with running("svscan", home / "service", env=environment()) as svscan:
        eventually(lambda: answers(port), f"SMTP on port {port}")
        yield RunningInstance(home, port, svscan)


def answers(port: int) -> bool:
    """Does an SMTP server greet on `port`?"""
    with contextlib.suppress(OSError, smtplib.SMTPException), smtplib.SMTP("127.0.0.1", port, timeout=5):
        return True
    return False
