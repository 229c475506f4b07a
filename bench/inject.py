"""qmail-inject: its cold start beside the bare interpreter's, and a million fields or recipients."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from qmail.queueing import queue_layout

BIN = Path(sys.prefix) / "bin"
ROUNDS = 60
MESSAGE = b"To: bob@example.org\nSubject: hello\n\nhello\n"
MILLION = 1_000_000


def measure() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "control").mkdir()
        (home / "control/me").write_text("mx.example.org\n")
        (home / "bin").symlink_to(BIN)
        queue_layout.create(str(home / "queue"))
        environment = {"PATH": "/usr/bin:/bin", "QMAILHOME": name, "USER": "joe"}
        message = home / "message"
        message.write_bytes(MESSAGE)
        yield _cold_start("qmail-inject -n", [str(BIN / "qmail-inject"), "-n"], message, environment)
        yield _cold_start("qmail-inject, queued", [str(BIN / "qmail-inject")], message, environment)
        yield _cold_start(
            "sendmail, queued", [str(BIN / "sendmail"), "bob@example.org"], message, environment
        )
        yield _large("fields", (b"X-Field-%d: hello there\n" % n for n in range(MILLION)), environment)
        yield _large("To fields", (b"To: u%d@example.org\n" % n for n in range(MILLION)), environment)
        many = (b"%bu%d@example.org" % (b",\n  " if n else b"To: ", n) for n in range(MILLION))
        yield _large("addresses in one field", many, environment)


def _cold_start(what: str, command: list[str], message: Path, environment: dict[str, str]) -> str:
    bare = [str(BIN / "python"), "-c", "pass"]
    pairs = [
        (_seconds(bare, message, environment), _seconds(command, message, environment)) for _ in range(ROUNDS)
    ]
    bare_time, time_here = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
    ratio = statistics.median(ours / python for python, ours in pairs)
    return f"{what:22} {time_here:5.1f} ms, python -c pass {bare_time:5.1f} ms: {ratio:.2f} x"


def _seconds(command: list[str], message: Path, environment: dict[str, str]) -> float:
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, str(message), os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    ]
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], command, environment, file_actions=actions)
    status = os.waitpid(pid, 0)[1]
    spent = time.perf_counter() - start
    if status:
        raise SystemExit(f"{command} ended with {status}")
    return spent


def _large(what: str, pieces: Iterable[bytes], environment: dict[str, str]) -> str:
    command = [str(BIN / "qmail-inject"), "-n", "x@example.org"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdin
        for piece in pieces:
            process.stdin.write(piece)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return f"a million {what}: {after.ru_utime - before.ru_utime:.1f} s of user time"
