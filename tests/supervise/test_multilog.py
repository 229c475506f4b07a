"""multilog loses no line that it could keep, whatever runs out, whoever kills it, whoever comes after it."""

from __future__ import annotations

import array
import fcntl
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import DEADLINE, eventually, resolved, run, running

C = Path("/usr/bin/multilog")
LABEL = re.compile(rb"@[0-9a-f]{24}")
needs_c = pytest.mark.skipif(not C.exists(), reason="C multilog is missing: Debian package daemontools")
needs_strace = pytest.mark.skipif(
    not shutil.which("strace"), reason="strace is missing: Debian package strace"
)


def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %06d\n" % number for number in range(first, last))


def logged(home: Path, log: str = "log") -> bytes:
    """All that the log holds, in order; while it is written to, perhaps less."""
    files = [*sorted(home.glob(f"{log}/@*")), home / log / "current"]
    return b"".join(_content(file) for file in files)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:  # just renamed
        return b""


@contextmanager
def multilog(home: Path, *script: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A multilog that waits for lines, and the file of what it says."""
    said = home / "said"
    with (
        said.open("wb") as err,
        running("multilog", *script, cwd=home, stdin=subprocess.PIPE, stderr=err) as process,
    ):
        eventually(lambda: (home / "log/current").exists() and b"S" in _state(process.pid))
        yield process, said


def _state(pid: int) -> bytes:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]


def finish(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin
    process.stdin.close()
    return process.wait(DEADLINE)


def give(process: subprocess.Popen[bytes], text: bytes) -> None:
    assert process.stdin
    process.stdin.write(text)
    process.stdin.flush()


# any script

words = st.lists(
    st.one_of(
        st.text("+-", min_size=1, max_size=1).flatmap(
            lambda sign: st.text("ab* ", max_size=5).map(sign.__add__)
        ),
        st.sampled_from(["e", "=file", "./log", "./two", "s4096", "n1000", "-*", "+*", "x"]),
    ),
    max_size=7,
).filter(lambda script: script.count("./log") < 2 and script.count("./two") < 2)
texts = st.lists(
    st.one_of(st.text("ab *", max_size=8), st.sampled_from(["a" * 200, "b" * 201, "ab" * 500, "a" * 5000])),
    max_size=30,
).map("\n".join)


@needs_c
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=words, text=texts, labels=st.booleans())
def test_any_script_does_what_it_does_in_the_original(
    tmp_path: Path, script: list[str], text: str, labels: bool
) -> None:
    outcomes = []
    for program in (str(C), "multilog"):
        home = tmp_path / "home"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        done = run(program, *(["t"] if labels else []), *script, cwd=home, stdin=text.encode())
        status = (home / "file").read_bytes() if (home / "file").exists() else b""
        logs = [logged(home, name) for name in ("log", "two")]
        outcomes.append((done.returncode, *(LABEL.sub(b"@", part) for part in (done.stderr, status, *logs))))
    assert outcomes[0] == outcomes[1]


# what runs out


def test_without_descriptors_it_waits_until_there_are_some(tmp_path: Path) -> None:
    with multilog(tmp_path, "s4096", "n1000", "./log") as (process, said):
        old = resource.prlimit(
            process.pid, resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
        give(process, lines(0, 2000))
        eventually(lambda: b"pausing: process cannot open more files\n" in said.read_bytes())
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, old)
        assert finish(process) == 0
    assert logged(tmp_path) == lines(0, 2000)


@pytest.mark.parametrize("script", [["t"], ["-*", "+y*"]], ids=" ".join)
def test_with_little_memory_it_goes_on_in_small_pieces(tmp_path: Path, script: list[str]) -> None:
    text = b"y\n" * 60_000
    with multilog(tmp_path, *script, "s16777215", "./log") as (process, said):
        give(process, text[:10_000])
        eventually(lambda: logged(tmp_path).count(b"\n") == 5_000)
        status = Path(f"/proc/{process.pid}/status").read_text()
        size = int(status.partition("VmSize:")[2].split()[0]) * 1024
        resource.prlimit(process.pid, resource.RLIMIT_AS, (size + 300_000, resource.RLIM_INFINITY))
        give(process, text[10_000:])
        assert finish(process) == 0
        assert said.read_bytes() == b""
    assert logged(tmp_path).count(b"\n") == 60_000


@needs_strace
@pytest.mark.parametrize(
    ("inject", "warning"),
    [("write:error=ENOSPC:when=2", "unable to write to ./log/current, pausing: out of disk space"),
     ("write:error=EIO:when=3", "unable to write to ./log/current, pausing: input/output error"),
     ("fsync:error=EIO:when=1", "unable to write ./log/current to disk, pausing: input/output error"),
     ("fchmod:error=EROFS:when=2", "unable to set mode of ./log/current, pausing: read-only file system")],
)  # fmt: skip
def test_a_disk_that_fails_is_waited_for(tmp_path: Path, inject: str, warning: str) -> None:
    (tmp_path / "log").mkdir()
    call = inject.partition(":")[0]
    strace = ["strace", "-qq", "-o", "trace", "-P", str(tmp_path / "log/current")]
    command = [
        *strace,
        "-e",
        f"trace={call}",
        "-e",
        f"inject={inject}",
        *resolved(["multilog", "s4096", "./log"]),
    ]
    done = run(*command, cwd=tmp_path, stdin=lines(0, 700))
    assert "(INJECTED)" in (tmp_path / "trace").read_text()
    assert (done.returncode, done.stderr.decode()) == (0, f"multilog: warning: {warning}\n")
    assert logged(tmp_path) == lines(0, 700)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_waited_for_and_hardly_anything_is_in_memory_only(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "said").touch()
    read, write = os.pipe()
    text = lines(0, 2200)  # more than half of the disk
    os.write(write, text)
    inside = 'mount -t tmpfs -o size=32k tmpfs log; head -c 16384 /dev/zero >log/ballast; exec "$@"'
    command = ["unshare", "-m", "sh", "-c", inside, "sh", *resolved(["multilog", "s16384", "n1000", "./log"])]
    with (
        (tmp_path / "said").open("wb") as err,
        running(*command, cwd=tmp_path, stdin=read, stderr=err) as process,
    ):
        os.close(read)
        inside_home = Path(f"/proc/{process.pid}/root{tmp_path}")
        warning = b"multilog: warning: unable to write to ./log/current, pausing: out of disk space\n"
        eventually(lambda: warning in (tmp_path / "said").read_bytes())
        kept = logged(inside_home)
        in_memory = len(text) - len(kept) - _waiting(write)
        (inside_home / "log/ballast").unlink()
        eventually(lambda: logged(inside_home) == text)
        os.close(write)
        assert process.wait(DEADLINE) == 0
    assert in_memory <= 2048, "as little as in the original"


def _grown(home: Path, size: int) -> bool:
    return len(logged(home)) > size


def _holds(file: Path, content: bytes) -> bool:
    return file.read_bytes() == content


def _waiting(pipe: int) -> int:
    """Bytes in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def test_a_line_without_end_takes_little_memory(tmp_path: Path) -> None:
    with multilog(tmp_path, "t", "-*x*", "+*", "s16777215", "n2", "./log") as (process, _):
        for _ in range(50):
            give(process, b"x" * 1_000_000)
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert finish(process) == 0
    peak = int(status.partition("VmHWM:")[2].split()[0])
    assert peak < 32 * 1024, "kB"


# who kills it


@needs_strace
@pytest.mark.parametrize("successor", ["multilog", pytest.param(str(C), marks=needs_c)])
@pytest.mark.parametrize(
    "call", ["fsync", "fchmod", "rename,renameat,renameat2", "openat", "unlink,unlinkat", "getdents64"]
)
def test_killed_at_any_call_of_a_rotation_it_loses_as_little_as_the_original(
    tmp_path: Path, call: str, successor: str
) -> None:
    script = ["s4096", "n3", "./log"] if "unlink" in call else ["s4096", "n1000", "./log"]
    text = lines(0, 5000)
    counted = _count(tmp_path, call, script, text)
    with _filled(text) as left:
        code = _killed(tmp_path, call, counted // 2, script, left.fileno())
        assert code in (-signal.SIGKILL, 128 + signal.SIGKILL), "the fault did not happen"
        done = subprocess.run(resolved([successor, *script]), stdin=left, cwd=tmp_path, check=False)
    assert done.returncode == 0
    kept = logged(tmp_path)
    if "n3" not in script:
        gap = _gap(text, kept)
        assert gap <= 2048
    assert text.endswith(kept[-4000:])


def _count(home: Path, calls: str, script: list[str], text: bytes) -> int:
    """How many of the `calls` a whole run makes."""
    with _filled(text) as pipe:
        return len(_trace(home, calls, script, pipe))


def _filled(text: bytes) -> BinaryIO:
    """The reading end of a pipe that holds `text`."""
    read, write = os.pipe()
    os.write(write, text)
    os.close(write)
    return os.fdopen(read, "rb")


def _trace(home: Path, calls: str, script: list[str], stdin: BinaryIO) -> list[str]:
    """Those of the `calls` that a whole run makes."""
    (home / "count").mkdir()
    strace = ["strace", "-qq", "-o", "trace", "-e", f"trace={calls}"]
    command = [*strace, *resolved(["multilog", *script])]
    subprocess.run(command, cwd=home / "count", stdin=stdin, timeout=DEADLINE, check=True)
    return (home / "count/trace").read_text().splitlines()


def _killed(home: Path, calls: str, when: int, script: list[str], stdin: int) -> int:
    """The end of a multilog that is killed at one of the `calls`."""
    inject = f"inject={calls}:signal=KILL:when={when}"
    strace = ["strace", "-qq", "-o", "trace", "-e", f"trace={calls}", "-e", inject]
    return subprocess.run(
        [*strace, *resolved(["multilog", *script])], stdin=stdin, cwd=home, timeout=DEADLINE, check=False
    ).returncode


def _gap(text: bytes, kept: bytes) -> int:
    """How many bytes of `text` are missing in `kept`, in one place; it must hold nothing else."""
    same = next(
        (at for at, pair in enumerate(zip(text, kept, strict=False)) if pair[0] != pair[1]), len(kept)
    )
    assert text.endswith(kept[same:])
    return len(text) - len(kept)


@needs_strace
@pytest.mark.parametrize("script", [["t"], ["-*", "+*5*"]], ids=" ".join)
@pytest.mark.parametrize("where", ["tee(0", "write(", "read(0"])
def test_killed_in_mid_flood_it_loses_at_most_the_line_it_was_in(
    tmp_path: Path, where: str, script: list[str]
) -> None:
    script, text = [*script, "s16777215", "./log"], lines(0, 5000)
    with _filled(text) as pipe:
        calls = _trace(tmp_path, "tee,write,read", script, pipe)
    wanted = [number for number, line in enumerate(calls) if line.startswith(where)]
    kind = where.partition("(")[0]
    when = sum(line.startswith(kind) for line in calls[: wanted[-2] + 1])
    with _filled(text) as pipe:
        assert _killed(tmp_path, kind, when, script, pipe.fileno()) in (-9, 128 + 9), "no fault happened"
        subprocess.run(resolved(["multilog", *script]), stdin=pipe, cwd=tmp_path, check=True)
    kept = {line[-6:] for line in logged(tmp_path).splitlines()}
    wanted_lines = [line for line in text.splitlines() if "t" in script or b"5" in line]
    assert sum(line[-6:] not in kept for line in wanted_lines) <= 1


@needs_c
def test_terminated_in_mid_stream_it_leaves_the_rest_to_the_next(tmp_path: Path) -> None:
    read, write = os.pipe()
    text, given = lines(0, 20_000), 0
    while given < len(text):
        if _waiting(write) < 20_000:
            given += os.write(write, text[given : given + 15_555])
        program, size = (str(C), "multilog")[given % 2], len(logged(tmp_path))
        with running(program, "s16384", "n1000", "./log", cwd=tmp_path, stdin=read) as process:
            eventually(partial(_grown, tmp_path, size))
            process.send_signal(signal.SIGTERM)
            if not text[:given].endswith(b"\n"):
                given += os.write(write, text[given : text.index(b"\n", given) + 1])
            assert process.wait(DEADLINE) == 0
    os.close(write)
    with os.fdopen(read, "rb") as rest:
        assert logged(tmp_path) + rest.read() == text


def test_alarm_rotates_at_once_even_without_lines(tmp_path: Path) -> None:
    with multilog(tmp_path, "./log") as (process, _):
        give(process, b"one\npart")
        eventually(lambda: logged(tmp_path) == b"one\n")
        process.send_signal(signal.SIGALRM)
        eventually(lambda: [file.read_bytes() for file in tmp_path.glob("log/@*.s")] == [b"one\n"])
        give(process, b"ial\n")
        assert finish(process) == 0
    assert (tmp_path / "log/current").read_bytes() == b"partial\n"


# what it writes to


def test_a_status_file_is_never_partly_old(tmp_path: Path) -> None:
    with multilog(tmp_path, "-*", "+line*", "=last", "./log") as (process, _):
        for number in (1, 11, 1111111, 21):
            give(process, b"line %d\nother\n" % number)
            expected = (b"line %d" % number).ljust(1001, b"\n")
            eventually(partial(_holds, tmp_path / "last", expected))
        assert finish(process) == 0


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-", "<&- >&- 2>&-", "2>&- </dev/null"])
def test_an_input_that_cannot_be_read_is_at_its_end(tmp_path: Path, closed: str) -> None:
    done = run("sh", "-c", f"exec multilog t ./log {closed}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "log/current").stat().st_mode & 0o777 == 0o744


def test_it_can_be_run_again_in_one_process(tmp_path: Path) -> None:
    code = """
import os
from supervise.multilog import main
fds = os.listdir("/proc/self/fd")
for text in (b"one\\n", b"two\\n"):
    read, write = os.pipe()
    os.write(write, text)
    os.close(write)
    os.dup2(read, 0)
    os.close(read)
    assert main.run(["e", "=last", "./log"]) == 0
assert os.listdir("/proc/self/fd") == fds
"""
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"one\ntwo\n")
    assert logged(tmp_path) == b"one\ntwo\n"


def test_of_two_actions_for_one_file_the_later_line_stays(tmp_path: Path) -> None:
    run("multilog", "=s", "-*", "+bad*", "=s", stdin=b"bad 1\ngood 2\n", cwd=tmp_path)
    assert (tmp_path / "s").read_bytes().startswith(b"good 2\n\n")
