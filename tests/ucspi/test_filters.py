"""addcr, delcr, fixcrio, recordio do to a stream what Debian's C programs do, and are no deadlock."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from programs import BIN, DEADLINE, environment, eventually, run, running

from ucspi.recordio import recorded

needs_c = pytest.mark.skipif(
    not shutil.which("addcr", path="/usr/bin"), reason="no C programs (Debian: ucspi-tcp)"
)
SEEDED = random.Random(4711)
TEXT = bytes(SEEDED.choice(b"ab \r\n\r\n\0") for _ in range(300_000))


def c_program(name: str, *argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return run(f"/usr/bin/{name}", *argv, stdin=stdin)


@needs_c
@pytest.mark.parametrize("name", ["addcr", "delcr"])
def test_a_filter_writes_what_the_original_writes(name: str) -> None:
    assert run(name, stdin=TEXT).stdout == c_program(name, stdin=TEXT).stdout


@needs_c
def test_fixcrio_changes_both_directions_as_the_original_does(tmp_path: Path) -> None:
    for kept in ("ours", "theirs"):
        program = ["sh", "-c", f"tee {tmp_path}/{kept}"]
        done = (
            run("fixcrio", *program, stdin=TEXT)
            if kept == "ours"
            else c_program("fixcrio", *program, stdin=TEXT)
        )
        (tmp_path / f"{kept}.out").write_bytes(done.stdout)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert (tmp_path / "ours.out").read_bytes() == (tmp_path / "theirs.out").read_bytes()


@needs_c
def test_recordio_prints_what_the_original_prints() -> None:
    whole = TEXT[: 256 * 16]  # less than a pipe holds, so that every piece but the last is whole
    program = ["sh", "-c", "cat >/dev/null"]
    ours, theirs = run("recordio", *program, stdin=whole), c_program("recordio", *program, stdin=whole)
    assert _without_pid(ours.stderr) == _without_pid(theirs.stderr)


def _without_pid(lines: bytes) -> list[bytes]:
    return [
        line.partition(b" ")[2] if b" < " in line or b" > " in line else line for line in lines.split(b"\n")
    ]


@pytest.mark.parametrize("name", ["fixcrio", "recordio"])
def test_much_data_both_ways_at_once_is_no_deadlock(name: str) -> None:
    data = os.urandom(3_000_000).replace(b"\n", b"").replace(b"\r", b"") + b"\r\n"
    program = [sys.executable, "-c", "import sys; w = sys.stdout.buffer; w.write(b'x' * 1000000); w.flush()\n"
               "w.write(sys.stdin.buffer.read())"]  # fmt: skip
    assert run(name, *program, stdin=data).stdout == b"x" * 1_000_000 + data


@pytest.mark.parametrize("name", ["fixcrio", "recordio"])
def test_the_program_keeps_its_process_and_the_copier_goes_with_it(name: str, tmp_path: Path) -> None:
    with running(
        name, "sh", "-c", "echo $$ >pid; exec sleep 60", cwd=tmp_path, stdin=subprocess.PIPE
    ) as process:
        eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the program runs")
        assert int((tmp_path / "pid").read_text()) == process.pid
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        copier = int(children.read_text().split()[0])
        process.terminate()
        assert process.wait(DEADLINE) == -15
        eventually(lambda: not Path(f"/proc/{copier}").exists(), "the copier is gone")


@pytest.mark.parametrize("name", ["addcr", "delcr"])
def test_a_full_disk_is_told(name: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([BIN / name], input=TEXT, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (111, b"")


@pytest.mark.parametrize("name", ["addcr", "delcr"])
def test_input_that_cannot_be_read_is_told(name: str, tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as not_readable:
        done = subprocess.run([BIN / name], stdin=not_readable, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (111, b"")


@pytest.mark.parametrize("name", ["addcr", "delcr"])
def test_each_piece_passes_at_once(name: str) -> None:
    with running(name, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline().rstrip() == line.rstrip()
        process.stdin.close()
        assert process.wait(DEADLINE) == 0


def test_recordio_goes_on_without_anyone_to_read_the_record(tmp_path: Path) -> None:
    script = f"{BIN}/recordio cat 2>&- >{tmp_path}/out"
    assert run("sh", "-c", script, stdin=b"data\n").returncode == 0
    eventually(lambda: (tmp_path / "out").read_bytes() == b"data\n", "the data have passed")


def test_recorded_lines_are_cut_at_256_bytes_and_at_newlines() -> None:
    lines = list(recorded(b"1 < ", b"a\n" + b"b" * 254 + b"c\n\nd"))
    assert lines == [b"1 < a \n", b"1 < " + b"b" * 254 + b"+\n", b"1 < c \n", b"1 <  \n", b"1 < d+\n"]


def test_argv0_gives_a_program_another_name() -> None:
    script = "import os; os.write(1, open('/proc/self/cmdline', 'rb').read().split(b'\\0')[0])"
    assert run("argv0", sys.executable, "my-name", "-c", script).stdout == b"my-name"
    assert run("argv0", sys.executable, "", "-c", script).stdout == b""
    missing = run("argv0", "no-such-program", "", env=environment())
    assert (missing.returncode, missing.stderr) == (
        111,
        b"argv0: fatal: unable to run no-such-program: file does not exist\n",
    )


@pytest.mark.parametrize("name", ["fixcrio", "recordio"])
def test_a_connection_ends_if_the_program_cannot_be_run(name: str, tmp_path: Path) -> None:
    with open(tmp_path / "port", "wb") as out, open(tmp_path / "log", "wb") as log:
        argv = ["tcpserver", "-1RHl0", "127.0.0.1", "0", name, "no-such-program"]
        with running(*argv, stdout=out, stderr=log):
            port = int(eventually(lambda: (tmp_path / "port").read_text().strip(), "tcpserver listens"))
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", port), 20) as connection:
                    assert connection.recv(100) == b""
    assert (tmp_path / "log").read_text().count(f"{name}: fatal: unable to run no-such-program") == 3
