"""A qmail-lspawn or qmail-rspawn at work, and the test in the place of qmail-send."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from programs import DEADLINE, environment, running
from queues import MailHome

from qmail.spawning.orders import Order, Report, ReportReader, announced, encode_order

MESSAGE = b"Subject: test\n\nhello\n"


class RunningSpawner:
    """Its two pipes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin
        assert process.stdout
        self.process = process
        self._orders, self._reports = process.stdin.fileno(), process.stdout.fileno()
        self.limit, self.slot_bytes = announced(self._read())
        self._reader = ReportReader(self.slot_bytes)
        self._waiting: list[Report] = []

    def _read(self) -> bytes:
        ready, _, _ = select.select([self._reports], [], [], DEADLINE)
        assert ready, "no report"
        return os.read(self._reports, 65536)

    def order(self, slot: int, recipient: bytes, message: bytes = b"0/23", sender: bytes = b"s@x.y") -> None:
        self.write(encode_order(Order(slot, message, sender, recipient), self.slot_bytes))

    def write(self, data: bytes) -> None:
        os.write(self._orders, data)

    def report(self) -> tuple[int, bytes]:
        """The next report."""
        while not self._waiting:
            data = self._read()
            assert data, "the spawner is gone"
            self._waiting = self._reader.feed(data)
        report = self._waiting.pop(0)
        return report.slot, report.text

    def deliver(self, recipient: bytes) -> bytes:
        """The text of the report of one delivery."""
        self.order(0, recipient)
        slot, text = self.report()
        assert slot == 0
        return text

    def close(self) -> int:
        """Close the orders, as qmail-send does at its end; return the spawner's exit code."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(DEADLINE)


@contextlib.contextmanager
def spawner(home: MailHome, *argv: str, under: Sequence[str] = (), **env: str) -> Iterator[RunningSpawner]:
    """Run `argv` from the mail home's bin/, `under` another program if that is given."""
    program = home.path / "bin" / argv[0]
    path = f"{home.path}/bin:{os.environ['PATH']}"
    with running(
        *under, program, *argv[1:],
        env=environment(QMAILHOME=str(home.path), **{"PATH": path, **env}),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
    ) as process:  # fmt: skip
        yield RunningSpawner(process)


def own_bin(home: MailHome) -> Path:
    """Give the home a bin/ of its own, with links to all programs, to put others in."""
    bin_directory = home.path / "bin"
    target = bin_directory.resolve()
    bin_directory.unlink()
    bin_directory.mkdir()
    for program in target.iterdir():
        (bin_directory / program.name).symlink_to(program)
    return bin_directory


def put_program(path: Path, text: str) -> Path:
    """Make `path` a shell script."""
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def put_message(home: MailHome, name: str = "0/23", content: bytes = MESSAGE) -> Path:
    path = home.path / "queue/mess" / name
    path.write_bytes(content)
    path.chmod(0o644)
    return path
