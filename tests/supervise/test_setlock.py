"""The lock lasts exactly as long as the program, be it ours and in the same process."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from programs import eventually, run, running


def free(home: Path) -> bool:
    return run("setlock", "-n", "lock", "true", cwd=home).returncode == 0


@pytest.mark.parametrize(
    "child", [("tai64n",), ("cat",), ("envuidgid", "root", "pgrphack", "tai64n")], ids=str
)
def test_the_program_holds_the_lock(tmp_path: Path, child: tuple[str, ...]) -> None:
    with running(
        "setlock", "lock", *child, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"x\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith(b"x\n")
        assert not free(tmp_path)
        process.stdin.close()
        assert process.wait(30) == 0
        assert free(tmp_path)


def test_who_waits_gets_it_next(tmp_path: Path) -> None:
    with running("setlock", "lock", "cat", cwd=tmp_path, stdin=subprocess.PIPE) as first:
        eventually(lambda: (tmp_path / "lock").exists() and not free(tmp_path))
        with running(
            "setlock", "lock", "sh", "-c", "echo mine >got; cat", cwd=tmp_path, stdin=subprocess.PIPE
        ):
            assert not (tmp_path / "got").exists()
            assert first.stdin
            first.stdin.close()
            eventually(lambda: (tmp_path / "got").exists())
            assert not free(tmp_path)


@pytest.mark.parametrize(
    ("options", "code", "ran"),
    [(["-nx"], 0, False), (["-nX"], 111, False), (["-n", "-x", "-X"], 111, False), (["-nXx"], 0, False)],
    ids=str,
)  # fmt: skip
def test_the_last_of_x_and_capital_x_counts(tmp_path: Path, options: list[str], code: int, ran: bool) -> None:
    with running("setlock", "lock", "cat", cwd=tmp_path, stdin=subprocess.PIPE):
        eventually(lambda: (tmp_path / "lock").exists() and not free(tmp_path))
        done = run("setlock", *options, "lock", "touch", "ran", cwd=tmp_path)
        assert (done.returncode, (tmp_path / "ran").exists()) == (code, ran)
        assert bool(done.stderr) == (code == 111)
