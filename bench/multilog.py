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
ROUNDS = 6  # even, so that each program is the first as often
OURS = Path(sys.prefix) / "bin/multilog"
THEIRS = Path("/usr/bin/multilog")
MEMORY = Path("/dev/shm")
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
    for place, what in ((Path.cwd(), "on this disk"), (MEMORY, "in memory")):
        if not place.is_dir():
            continue
        with tempfile.TemporaryDirectory(dir=place) as directory:
            lines = Path(directory) / "lines"
            text = (f"line {number} ".ljust(99, ".") + "\n" for number in range(LINES))
            lines.write_text("".join(text))
            for name, script in SCRIPTS.items():
                yield _compared(f"{name}, {what}", script, lines)


def _compared(name: str, script: Sequence[str], lines: Path) -> str:
    """Both in turn, each as often the first; the median of the pairs' ratios, the least and the greatest."""
    times = []
    for number in range(ROUNDS):
        pair = [_seconds(program, script, lines) for program in (THEIRS, OURS)[:: 1 - number % 2 * 2]]
        times.append(pair[:: 1 - number % 2 * 2])
    ratios = sorted(theirs / ours for theirs, ours in times)
    size = lines.stat().st_size / 1e6
    speeds = [size / statistics.median(column) for column in zip(*times, strict=True)]
    spread = f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f}-{ratios[-1]:.2f})"
    return f"{name:42} C {speeds[0]:4.0f} MB/s, ours {speeds[1]:4.0f} MB/s: {spread}"


def _seconds(multilog: Path, script: Sequence[str], lines: Path) -> float:
    """How long `multilog` takes for `lines` from a pipe into an empty log."""
    shutil.rmtree(lines.parent / "main", ignore_errors=True)
    os.sync()
    start = time.perf_counter()
    with subprocess.Popen(["cat", lines], stdout=subprocess.PIPE) as source:
        subprocess.run([multilog, *script, "./main"], stdin=source.stdout, cwd=lines.parent, check=True)
    return time.perf_counter() - start
