"""Whatever the files are called and hold, the child finds the environment that the original would give it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import BIN, run

C = Path("/usr/bin/envdir")

names = st.text("ABab=_ .\xe4", min_size=1, max_size=4).filter(
    lambda name: name not in (".", "..") and name[0] != "="
)
contents = st.lists(st.sampled_from([b"a", b"=", b" ", b"\t", b"\0", b"\n", b"\r", b"\xff"]), max_size=6).map(
    b"".join
)


def shown(envdir: Path, home: Path) -> tuple[int, list[bytes], bytes]:
    env = {"PATH": os.environ["PATH"], "A": "old", "B": "kept"}
    done = run(envdir, "env", "/usr/bin/env", "-0", cwd=home, env=env)
    return done.returncode, sorted(done.stdout.split(b"\0")), done.stderr


@pytest.mark.skipif(not C.exists(), reason="C envdir is missing: Debian package daemontools")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(files=st.dictionaries(names, contents, max_size=6))
def test_any_directory_is_read_as_the_original_does(tmp_path: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(tmp_path / "env", ignore_errors=True)
    (tmp_path / "env").mkdir()
    for name, content in files.items():
        (tmp_path / "env" / name).write_bytes(content)
    assert shown(BIN / "envdir", tmp_path) == shown(C, tmp_path)


def test_a_name_that_begins_with_an_equals_sign_sets_nothing(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/=X").write_text("y")
    assert shown(BIN / "envdir", tmp_path)[1] == [b"", b"A=old", b"B=kept", b"PATH=" + os.environb[b"PATH"]]


@pytest.mark.parametrize("size", [131_069, 131_070, 5_000_000])
def test_a_value_too_long_for_exec_is_refused_before_any_program(tmp_path: Path, size: int) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/X").write_text("x" * size)
    for child in ("true", "svok"):
        done = run("envdir", "env", child, cwd=tmp_path)
        if size == 131_069:
            assert b"unable to run" not in done.stderr
        else:
            said = f"envdir: fatal: unable to run {child}: argument list too long\n"
            assert (done.returncode, done.stderr.decode()) == (111, said)


def test_a_value_too_long_for_a_program_that_is_not_there_is_not_the_reason(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/X").write_text("x" * 200_000)
    done = run("envdir", "env", "no-such-program", cwd=tmp_path)
    said = b"envdir: fatal: unable to run no-such-program: file does not exist\n"
    assert (done.returncode, done.stderr) == (111, said)


def test_a_dangling_link_takes_its_variable_away_whatever_was_read_before(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    for name in ("A", "C", "E"):
        (tmp_path / "env" / name).write_text("value\n")
    for name in ("B", "D", "F"):
        (tmp_path / "env" / name).symlink_to("nowhere")
    done = run("envdir", "env", "/usr/bin/env", cwd=tmp_path, env={"B": "1", "D": "1"})
    assert sorted(done.stdout.split()) == [b"A=value", b"C=value", b"E=value"]


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/X").symlink_to("/dev/zero")
    done = run("envdir", "env", "true", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        111,
        b"envdir: fatal: unable to run true: argument list too long\n",
    )


def test_it_comes_back_to_its_directory_for_the_child(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    assert run("envdir", "env", "/bin/pwd", cwd=tmp_path).stdout == f"{tmp_path}\n".encode()
