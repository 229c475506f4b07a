"""Running a program under strace: what it did, and with faults injected into it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from programs import DEADLINE, environment, resolved

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


@dataclass(frozen=True, slots=True)
class Traced:
    """How a program ended, and its system calls, one a line, with the paths of descriptors."""

    code: int
    stdout: bytes
    stderr: bytes
    calls: list[str]

    @property
    def injected(self) -> int:
        """How many faults did happen."""
        return sum("(INJECTED)" in call for call in self.calls)

    def order(self, *patterns: str) -> list[str]:
        """Of each call, the first of `patterns` that it matches, for the calls that succeeded."""
        found = []
        for call in self.calls:
            if re.search(r" = -1 E", call):
                continue
            found += [pattern for pattern in patterns if re.search(pattern, call)][:1]
        return found


def strace(
    trace: Path,
    argv: Sequence[str | Path],
    *options: str,
    stdin: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Traced:
    """Run `argv` under strace with more `options`, such as `--inject=fsync:error=EIO`."""
    with (stdin or Path("/dev/null")).open("rb") as message:
        done = subprocess.run(
            ["strace", "-f", "-y", "-s", "200", "-o", str(trace), *options, *resolved(argv)],
            stdin=message, cwd=cwd, env=env or environment(), capture_output=True, timeout=DEADLINE,
            check=False,
        )  # fmt: skip
    calls = [re.sub(r"^\d+ +", "", line) for line in trace.read_text(errors="replace").splitlines()]
    return Traced(done.returncode, done.stdout, done.stderr, calls)
