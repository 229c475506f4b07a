"""qmail-send with the test in the place of qmail-lspawn and qmail-rspawn, and a real qmail-clean."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from programs import BIN, DEADLINE, eventually
from queues import MailHome

from qmail.spawning.orders import NARROW, WIDE, Order, OrderReader, Report, announcement, encode_report

LOCAL, REMOTE = 0, 1
SUCCESS, DEFERRAL, FAILURE = b"Kdone\n", b"Znot yet\n", b"Dnever\n"


class Spawner:
    """The test's ends of the pipes of one spawner."""

    def __init__(self, limit: int) -> None:
        self.orders, self.their_orders = os.pipe()
        self.their_reports, self.reports = os.pipe()
        self._width = NARROW if limit < 256 else WIDE
        self._reader = OrderReader(self._width)
        self._orders: list[Order] = []
        os.write(self.reports, announcement(limit))

    def order(self, deadline: float = DEADLINE) -> Order:
        """The next order."""
        order = self.next_order(deadline)
        assert order, f"no order within {deadline} s"
        return order

    def next_order(self, seconds: float) -> Order | None:
        """The next order, if there is one within some seconds."""
        end = time.monotonic() + seconds
        while not self._orders:
            ready, _, _ = select.select([self.orders], [], [], max(end - time.monotonic(), 0))
            data = os.read(self.orders, 65536) if ready else b""
            if not data:
                return None
            self._orders += self._reader.feed(data)
        return self._orders.pop(0)

    def report(self, order: Order, text: bytes) -> None:
        """Say what has become of an order."""
        os.write(self.reports, encode_report(Report(order.slot, text), self._width))

    def serve(self, text: bytes = SUCCESS) -> Order:
        """Take the next order and report on it."""
        order = self.order()
        self.report(order, text)
        return order

    def close(self) -> None:
        for fd in (self.orders, self.reports):
            with contextlib.suppress(OSError):
                os.close(fd)


class Sender:
    """A running qmail-send; `local` and `remote` are its spawners, `log()` its log."""

    def __init__(self, home: MailHome, limits: Sequence[int] = (120, 120), wrap: Sequence[str] = ()) -> None:
        self.home = home
        self.local, self.remote = map(Spawner, limits)
        self._log = home.path / f"log.{time.monotonic_ns()}"
        self._log.touch()
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        self.clean = subprocess.Popen(
            [BIN / "qmail-clean"], stdin=requests, stdout=answers, env=home.environment()
        )
        log = os.open(self._log, os.O_WRONLY | os.O_APPEND)
        theirs = [
            log, self.local.their_orders, self.local.their_reports, self.remote.their_orders,
            self.remote.their_reports, self._requests, self._answers,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            [*wrap, BIN / "qmail-send"], preexec_fn=placing(theirs), close_fds=False, env=home.environment()
        )
        for fd in {*theirs, requests, answers}:
            os.close(fd)

    def __enter__(self) -> Sender:
        self.wait_for("status: local 0/")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop(signal.SIGKILL)
        if kind:
            print(self.log())

    def log(self) -> str:
        return self._log.read_text()

    def count(self, text: str) -> int:
        """How many lines hold `text`."""
        return sum(text in line for line in self.log().splitlines())

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until the log has `times` lines with `text`."""
        eventually(lambda: self.count(text) >= times, f"{times} x {text!r} in\n{self.log()}")

    def wait_until_empty(self) -> None:
        eventually(lambda: not self.home.files(), "an empty queue")

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it, and its companions; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(DEADLINE)
        self.local.close()
        self.remote.close()
        self.clean.kill()
        self.clean.wait()
        return code


def placing(fds: Sequence[int]) -> Callable[[], None]:
    """What makes `fds` the child's descriptors 0, 1, 2, ... and closes all others."""

    def place() -> None:
        spare = max(fds) + 1
        for number, fd in enumerate(fds):
            os.dup2(fd, spare + number)
        for number in range(len(fds)):
            os.dup2(spare + number, number)
        os.closerange(len(fds), spare + len(fds))

    return place


def queue_message(
    home: MailHome, *recipients: bytes, sender: bytes = b"s@x.org", body: bytes = b"Subject: hi\n\nbody\n"
) -> None:
    """Put a message into the queue, as qmail-queue does."""
    envelope = b"".join([b"F", sender, b"\0", *(b"T" + recipient + b"\0" for recipient in recipients), b"\0"])
    message, addresses = Path(home.path / "message"), Path(home.path / "envelope")
    message.write_bytes(body)
    addresses.write_bytes(envelope)
    with message.open("rb") as zero, addresses.open("rb") as one:
        command = [BIN / "qmail-queue"]
        done = subprocess.run(command, stdin=zero, stdout=one.fileno(), env=home.environment(), check=False)
    assert done.returncode == 0
