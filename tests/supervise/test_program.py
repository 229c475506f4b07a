"""What the interpreter does to its process at the start is undone before a program of ours sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import environment, run
from service_directories import needs_daemontools, program


@pytest.mark.parametrize("value", [None, "", "no_such", "C.UTF-8", "\udcff\n"])
def test_lc_ctype_is_handed_on_as_it_came(value: str | None) -> None:
    env = environment() if value is None else environment(LC_CTYPE=value)
    ours = run("pgrphack", "/usr/bin/env", "-0", env=env).stdout
    assert ours == run("/usr/bin/env", "-0", env=env).stdout


@needs_daemontools
def test_a_variable_without_a_name_is_left_out_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "=x").write_text("foo")  # the original hands =x=foo on
    (tmp_path / "A").write_text("1")
    done = run("/usr/bin/envdir", tmp_path, program("fghack"), "/usr/bin/env")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"A=1" in done.stdout.splitlines()
    assert b"=x=foo" not in done.stdout
