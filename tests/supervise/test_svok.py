"""svok says by its exit code whether supervise runs."""

from __future__ import annotations

from pathlib import Path

from programs import eventually, run, running
from service_directories import C, needs_daemontools, service, supervised


def test_before_while_and_after(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    assert run("svok", s).returncode == 100
    with running("supervise", s):
        eventually(lambda: supervised(s))
        assert run("svok", s).stdout == b""
    assert run("svok", s).returncode == 100


@needs_daemontools
def test_it_knows_c_supervise(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    with running(C["supervise"], s):
        eventually(lambda: supervised(s))
        run("svc", "-dx", s)
        eventually(lambda: not supervised(s))


def test_without_an_operand_it_is_misused() -> None:
    done = run("svok")
    assert (done.returncode, done.stderr) == (100, b"svok: usage: svok dir\n")
