"""What ps shows of a program, whatever bytes it was started with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from programs import eventually, run, running


def test_arguments_that_are_no_text_are_no_trouble() -> None:
    odd = os.fsdecode(b"a\xff")
    done = run("tai64n", odd, stdin=b"")
    assert (done.returncode, done.stderr) == (0, b"")
    with running("tai64n", odd, stdin=subprocess.PIPE) as process:
        shown = Path(f"/proc/{process.pid}/cmdline")
        eventually(lambda: shown.read_bytes().startswith(b"tai64n a"), "its title")
