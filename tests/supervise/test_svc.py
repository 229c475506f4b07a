"""svc hands commands to supervise, warns of what it cannot reach, and goes on."""

from __future__ import annotations

import os
from pathlib import Path

from programs import run


def test_a_control_that_is_no_fifo_takes_the_commands_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "s/supervise").mkdir(parents=True)
    (tmp_path / "s/supervise/control").touch()
    assert run("svc", "-ud", tmp_path / "s").returncode == 0
    assert (tmp_path / "s/supervise/control").read_bytes() == b"ud"


def test_many_services_at_once_from_any_directory(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(300)]
    for name in names:
        (tmp_path / name / "supervise").mkdir(parents=True)
        (tmp_path / name / "supervise/control").touch()
    assert run("svc", "-t", *names, cwd=tmp_path).returncode == 0
    assert all((tmp_path / name / "supervise/control").read_bytes() == b"t" for name in names)


def test_a_supervise_that_goes_away_is_a_warning(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "control")
    (tmp_path / "s").mkdir()
    (tmp_path / "s/supervise").symlink_to(tmp_path)
    done = run("svc", "-u", tmp_path / "s")
    assert done.returncode == 0
    assert done.stderr.decode() == f"svc: warning: unable to control {tmp_path}/s: supervise not running\n"


def test_help_is_the_manual() -> None:
    done = run("svc", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(b"svc(8): ")
