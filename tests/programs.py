"""How tests run the installed programs: in a directory, with a bound, and leaving nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

BIN = Path(sys.prefix) / "bin"
DEADLINE = 30.0  # seconds; for what happens at once on an idle machine


def environment(**more: str) -> dict[str, str]:
    """What a program under test finds: our programs first in PATH, and little else."""
    return {"PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin", **more}


def run(
    *argv: str | Path,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = DEADLINE,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end.  Its name is looked up among ours first."""
    return subprocess.run(
        resolved(argv), input=stdin, cwd=cwd, env=env or environment(), capture_output=True,
        timeout=timeout, check=False,
    )  # fmt: skip


def resolved(argv: Sequence[str | Path]) -> list[str]:
    """`argv` with our own program in place of its bare name."""
    own = BIN / argv[0]
    first = str(own) if "/" not in str(argv[0]) and own.exists() else str(argv[0])
    return [first, *map(str, argv[1:])]


@contextlib.contextmanager
def running(
    *argv: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
    **popen: object,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that stays, in a session of its own; at the end it, and all of its session, is gone."""
    process: subprocess.Popen[bytes] = subprocess.Popen(
        resolved(argv), cwd=cwd, env=env or environment(), start_new_session=True, **popen
    )  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(stop)
        try:
            process.wait(DEADLINE)
        finally:
            _kill_session(process.pid)
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()


def _kill_session(session: int) -> None:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.getsid(int(entry.name)) == session:
                    os.kill(int(entry.name), signal.SIGKILL)


def eventually(look: Callable[[], T | None], what: str = "", deadline: float = DEADLINE) -> T:
    """Wait until `look()` is true and return it; fail after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < end, f"not within {deadline} s: {what or look}"
        time.sleep(0.02)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def own_address() -> str:
    """An address of this machine where this process's tests may use fixed ports."""
    pid = os.getpid()
    return f"127.{100 + pid // 62_500 % 100}.{1 + pid // 250 % 250}.{1 + pid % 250}"
