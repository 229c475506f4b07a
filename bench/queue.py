"""Messages of 2 kB put into the queue per second: alone, 20 processes at once, through qmail-queued."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from programs import eventually, running
from queues import MailHome, make_home

from qmail.queueing import enqueue, envelope
from qmail.queueing.queue_socket import HandOver, connect
from qmail.queueing.verdicts import Refused

MESSAGE = b"Subject: x\n\n" + b"x" * 2036
ENVELOPE = envelope.encode(b"a@b.c", [b"d@e.f"])
PROCESSES = 20
MESSAGES = 1000


def measure() -> Iterator[str]:
    """Yield the rates."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        home = make_home(Path(name) / "home")
        yield f"one process      {rate(1, lambda: own(home)):6.0f}/s"
        yield f"{PROCESSES} processes     {rate(PROCESSES, lambda: own(home)):6.0f}/s"
        with running("qmail-queued", env=home.environment()):
            eventually(lambda: is_ready(home), "qmail-queued listens")
            yield f"{PROCESSES}, by qmail-queued {rate(PROCESSES, lambda: handed_over(home)):4.0f}/s"


def own(home: MailHome) -> None:
    message = enqueue.open_message(str(home.path))
    message.write(MESSAGE)
    assert message.commit(ENVELOPE) == b""


def handed_over(home: MailHome) -> None:
    entry = HandOver(str(home.path), 60)
    entry.write(MESSAGE)
    entry.end_message()
    entry.write_envelope(ENVELOPE[:-1])
    assert entry.commit() == 0


def is_ready(home: MailHome) -> bool:
    try:
        connect(str(home.path), 1).close()
    except Refused:
        return False
    return True


def rate(processes: int, work: Callable[[], None]) -> float:
    """How often `work` is done per second by so many processes."""
    begin = time.monotonic()
    children = [child(work, MESSAGES // processes) for _ in range(processes)]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * processes
    return MESSAGES / (time.monotonic() - begin)


def child(work: Callable[[], None], times: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        for _ in range(times):
            work()
        os._exit(0)
    finally:
        os._exit(1)
