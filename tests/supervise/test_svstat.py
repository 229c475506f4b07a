"""svstat tells how each service is, one line each, errors in the same place."""

from __future__ import annotations

import json
import re
from pathlib import Path

from programs import eventually, run, running
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


def test_nothing_to_write_is_no_error() -> None:
    done = run("sh", "-c", "svstat >&-")
    assert (done.returncode, done.stderr) == (0, b"")


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


def test_v_adds_the_figures_of_the_process_tree(tmp_path: Path) -> None:
    a = service(tmp_path / "a", "sleep 1000 & sleep 1000 & wait")
    with running("supervise", a):
        pid = up(a)
        eventually(lambda: b"3 processes since " in run("svstat", "-v", a).stdout)
        first, second = run("svstat", "-v", a).stdout.decode().splitlines()
        assert first.startswith(f"{a}: up (pid {pid}) ")
        assert re.fullmatch(r"    3 processes since \d+\.\d s, CPU \d+\.\d+ s, memory \d+\.\d MB", second)


def test_json_is_one_object_a_line(tmp_path: Path) -> None:
    a = service(tmp_path / "a", "exec sleep 1000")
    (tmp_path / "b").mkdir()
    with running("supervise", a):
        pid = up(a)
        told = [json.loads(line) for line in run("svstat", "--json", a, tmp_path / "b").stdout.splitlines()]
        full = json.loads(run("svstat", "--json", "-v", a).stdout)
    assert (told[0]["service"], told[0]["up"], told[0]["pid"], told[0]["want"]) == (str(a), True, pid, "up")
    assert (told[0]["ready"], told[0]["normally"], told[0]["paused"]) == (True, "up", False)
    assert told[1] == {
        "service": str(tmp_path / "b"), "error": "unable to open supervise/ok: file does not exist",
    }  # fmt: skip
    assert full["processes"] == 1
    assert full["memory_bytes"] > 0


def test_a_directory_may_be_called_like_an_option(tmp_path: Path) -> None:
    done = run("svstat", "s", "-v", "--json", cwd=tmp_path)
    assert done.stdout.decode().splitlines() == [
        f"{name}: unable to chdir: file does not exist" for name in ("s", "-v", "--json")
    ]
