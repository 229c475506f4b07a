"""svstat tells how each service is, one line each, errors in the same place."""

from __future__ import annotations

from pathlib import Path

from programs import run, running
from service_directories import C, needs_daemontools, service, up


def test_a_status_that_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "s/supervise/status").mkdir(parents=True)
    (tmp_path / "s/supervise/ok").touch()
    done = run("svstat", "s", cwd=tmp_path)
    assert done.stdout == b"s: unable to read supervise/status: is a directory\n"


def test_names_are_bytes(tmp_path: Path) -> None:
    done = run("sh", "-c", "svstat $(printf 'a\\377b')", cwd=tmp_path)
    assert done.stdout == b"a\xffb: unable to chdir: file does not exist\n"


def test_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    done = run("sh", "-c", "svstat s >/dev/full")
    assert (done.returncode, done.stderr) == (
        111,
        b"svstat: fatal: unable to write output: out of disk space\n",
    )


@needs_daemontools
def test_ours_and_the_original_say_the_same(tmp_path: Path) -> None:
    a, b = service(tmp_path / "a", "exec sleep 1000"), tmp_path / "never"
    b.mkdir()
    with running("supervise", a):
        up(a)
        for _ in range(3):  # the seconds may turn in between
            ours, theirs = run("svstat", a, b, "x"), run(C["svstat"], a, b, "x")
            if ours.stdout == theirs.stdout:
                break
        assert ours.stdout == theirs.stdout
        assert ours.returncode == theirs.returncode == 0
