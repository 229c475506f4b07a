"""qmail-send with a backlog: start-up, memory, messages per second with 5,000 and 50,000 in the queue.

The spawners succeed at once, so that only qmail-send, qmail-clean and the
disk are measured.  "preprocessed": info/, local/ and mess/ as they are after
a night without network; "new": in todo/ only.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from queues import MailHome, make_home
from senders import Sender

SIZES = (5_000, 50_000)
FIRST = 1_000_000  # message numbers; no inode needs to have them
CONCURRENCY = 100


def measure() -> Iterator[str]:
    """Yield a line for each kind and size, and how the larger compares with the smaller."""
    for kind in ("preprocessed", "new"):
        figures = []
        for size in SIZES:
            with tempfile.TemporaryDirectory(prefix="bench-") as name:
                home = make_home(Path(name) / "home")
                home.control("concurrencylocal", str(CONCURRENCY))
                (fill_preprocessed if kind == "preprocessed" else fill_new)(home, size)
                seconds, memory, rate, cpu = deliver(home, size)
            figures.append((seconds, memory, rate))
            yield (
                f"{kind:12} {size:6}: first order after {seconds:5.2f} s, {memory:5.1f} MB, "
                f"{rate:5.0f} messages/s, {cpu * 1e6:4.0f} us of CPU each"
            )
        startup, memory, slower = (
            figures[1][0] / figures[0][0], figures[1][1] / figures[0][1], figures[0][2] / figures[1][2],
        )  # fmt: skip
        yield (
            f"{kind:12} ten times as many: start-up x {startup:.1f}, memory x {memory:.1f}, "
            f"time per message x {slower:.2f}"
        )


def fill_preprocessed(home: MailHome, size: int) -> None:
    """A backlog of one local recipient each.  Links share what nobody writes to."""
    queue = home.queue
    message, information = home.path / "message", home.path / "information"
    message.write_bytes(b"Subject: hi\n\nbody\n")
    information.write_bytes(b"Fs@x.org\0")
    for number in range(FIRST, FIRST + size):
        os.link(message, queue.mess(number))
        os.link(information, queue.info(number))
        local = queue.local(number)
        with open(local, "wb") as file:
            file.write(b"Tu%d@mx.example.org\0" % number)
        os.utime(local, (1, 1))


def fill_new(home: MailHome, size: int) -> None:
    queue = home.queue
    message = home.path / "message"
    message.write_bytes(b"Subject: hi\n\nbody\n")
    for number in range(FIRST, FIRST + size):
        os.link(message, queue.mess(number))
        with open(queue.intd(number), "wb") as file:
            file.write(b"u0\0p1\0Fs@x.org\0Tu%d@mx.example.org\0" % number)
        os.link(queue.intd(number), queue.todo(number))


def deliver(home: MailHome, size: int) -> tuple[float, float, float, float]:
    """Seconds to the first order, MB then, messages per second, CPU seconds per message."""
    os.sync()
    start = time.perf_counter()
    sender = Sender(home)
    try:
        order = sender.local.order(600)
        first = time.perf_counter()
        memory = resident(sender.process.pid)
        before = cpu_seconds(sender.process.pid)
        for _ in range(size - 1):
            sender.local.report(order, b"Kdone\n")
            order = sender.local.order(600)
        sender.local.report(order, b"Kdone\n")
        end = time.perf_counter()
        cpu = cpu_seconds(sender.process.pid) - before
    finally:
        sender.stop()
    return first - start, memory, size / (end - first), cpu / size


def resident(pid: int) -> float:
    """MB of memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
