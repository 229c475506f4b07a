"""multilog beside C multilog: bytes per second of 100-byte lines, in one run."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

LINES = 1_000_000
ROUNDS = 3
OURS = Path(sys.prefix) / "bin/multilog"
THEIRS = Path("/usr/bin/multilog")
SCRIPTS = {
    "t ./main": ["t"],
    "t s16777215 ./main": ["t", "s16777215"],
    "t -* '+* line *9*' ./main": ["t", "-*", "+* line *9*"],
    "-* '+line *9*' -*x* ./main": ["-*", "+line *9*", "-*x*"],
}


def measure() -> Iterator[str]:
    if not THEIRS.exists():
        yield "skipped: C multilog is not installed (Debian package daemontools)"
        return
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory:
        lines = Path(directory) / "lines"
        lines.write_bytes(
            b"".join(b"line %d ".ljust(93, b".") % n + b"\n" for n in range(100_000, 100_000 + LINES))
        )
        for name, script in SCRIPTS.items():
            yield _compared(name, script, lines)


def _compared(name: str, script: Sequence[str], lines: Path) -> str:
    """Both in turn, the ratios of the pairs."""
    times = [(_seconds(THEIRS, script, lines), _seconds(OURS, script, lines)) for _ in range(ROUNDS)]
    ratio = statistics.median(theirs / ours for theirs, ours in times)
    size = lines.stat().st_size / 1e6
    speeds = [size / statistics.median(column) for column in zip(*times, strict=True)]
    return f"{name:28} C {speeds[0]:4.0f} MB/s, ours {speeds[1]:4.0f} MB/s: {ratio:.2f} x"


def _seconds(multilog: Path, script: Sequence[str], lines: Path) -> float:
    """How long `multilog` takes for `lines` from a pipe into an empty log."""
    shutil.rmtree(lines.parent / "main", ignore_errors=True)
    os.sync()
    start = time.perf_counter()
    with subprocess.Popen(["cat", lines], stdout=subprocess.PIPE) as source:
        subprocess.run([multilog, *script, "./main"], stdin=source.stdout, cwd=lines.parent, check=True)
    return time.perf_counter() - start
