"""fghack ends after all that it started, and tells how the first of it ended."""

from __future__ import annotations

import subprocess
import time

import pytest
from programs import BIN, run


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [("exit 3", 3, b""), ("kill -9 $$", 111, b"fghack: fatal: child crashed\n")],
)  # fmt: skip
def test_it_ends_as_its_child_does(script: str, code: int, said: bytes) -> None:
    done = run("fghack", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (code, said)


def test_what_the_child_leaves_behind_is_waited_for() -> None:
    began = time.monotonic()
    done = run("fghack", "sh", "-c", "(sleep 1; echo late) & exit 5")
    assert (done.returncode, done.stdout) == (5, b"late\n")
    assert time.monotonic() - began >= 1


def test_the_child_has_nothing_but_copies_of_the_pipe() -> None:
    script = f'exec 1>&-; exec {BIN}/fghack sh -c "ls -l /proc/self/fd >&2"'
    done = subprocess.run(["sh", "-c", script], stderr=subprocess.PIPE, check=False)
    pipes = [line for line in done.stderr.decode().splitlines() if "pipe:" in line]
    assert len({line.rpartition(" ")[2] for line in pipes}) == 2, "fghack's and descriptor 2"
    assert len(pipes) > 30
    assert all(line.startswith("l-w") for line in pipes)
