"""A log loses no line: not when a file is full, after a crash, or between C multilog and ours."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import run

from supervise.log_directory import NEAR, LogDirectory, cut
from supervise.program import Fatal

C = "/usr/bin/multilog"
needs_c = pytest.mark.skipif(not Path(C).exists(), reason="C multilog is missing: Debian package daemontools")
SIZE = 4096


@given(st.lists(st.integers(0, 3 * NEAR), max_size=20), st.integers(0, 100), st.integers(1, 3 * NEAR))
def test_what_is_cut_off_fits_and_ends_a_line_if_it_can(sizes: list[int], start: int, room: int) -> None:
    data = b"".join(b"x" * size + b"\n" for size in sizes) + b"y" * 50
    start = min(start, len(data) - 1)
    length, full = cut(data, start, room)
    piece = data[start : start + length]
    assert 0 < length <= room
    assert not full or (piece.endswith(b"\n") and length >= room - NEAR)
    if not full and length < len(data) - start:  # a line is cut in two: there was no better place
        assert b"\n" not in piece[max(room - NEAR - 1, 0) :]
        assert length == room


@given(st.lists(st.one_of(st.binary(max_size=50), st.sampled_from([b"x" * 5000, b"a\n" * 900])), max_size=20))
def test_files_hold_everything_in_order_and_are_not_too_large(pieces: list[bytes]) -> None:
    files, size = [b""], 4096
    for data in pieces:
        done = 0
        while done < len(data):
            if len(files[-1]) >= size:
                files.append(b"")
            length, full = cut(data, done, size - len(files[-1]))
            files[-1] += data[done : done + length]
            done += length
            if full:
                files.append(b"")
    assert b"".join(files) == b"".join(pieces)
    assert max(map(len, files)) <= size


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    old = os.umask(0o022)
    yield tmp_path
    os.umask(old)


def opened(count: int = 10) -> LogDirectory:
    return LogDirectory("./log", SIZE, count, None)


def old_files() -> list[Path]:
    return sorted(Path("log").glob("@*"))


def everything() -> bytes:
    """All that the log holds, in order."""
    current = Path("log/current")
    return b"".join(file.read_bytes() for file in [*old_files(), *([current] if current.exists() else [])])


def mode(name: str) -> int:
    return stat.S_IMODE(Path("log", name).stat().st_mode)


def lines(first: int, last: int) -> bytes:
    return b"".join(b"line %04d\n" % number for number in range(first, last))


def test_full_files_get_names_that_sort_and_mode_744(home: Path) -> None:
    log = opened()
    for number in range(30):
        log.write(lines(number * 50, number * 50 + 50))
    assert mode("current") == 0o644
    log.close()
    assert mode("current") == 0o744
    assert everything() == lines(0, 1500)
    names = [file.name for file in old_files()]
    assert len(names) > 3
    assert all(name.endswith(".s") and len(name) == 27 for name in names)
    assert {mode(name) for name in names} == {0o744}
    assert all(SIZE - NEAR <= file.stat().st_size <= SIZE for file in old_files())


def test_the_oldest_files_go(home: Path) -> None:
    log = opened(count=4)
    log.write(lines(0, 5000))
    log.close()
    assert len(old_files()) == 3
    assert lines(0, 5000).endswith(everything())


class _Crash(BaseException):
    """What no program can catch, as a power cut."""


def test_a_crash_while_a_full_file_goes_to_disk_leaves_as_many_files_as_ever(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(count=4)
    log.write(lines(0, 5000))
    before = everything()

    def crash(_fd: int) -> None:
        assert len(old_files()) + len(["current"]) < 4, "there is room for the full file among the old ones"
        raise _Crash

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", crash)
        with pytest.raises(_Crash):
            log.rotate()
    log.release()
    opened(count=4).close()
    assert [file.suffix for file in old_files()] == [".s", ".s", ".u"]
    assert before.endswith(everything())


def test_a_processor_whose_end_cannot_be_learnt_is_run_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    monkeypatch.setattr(time, "sleep", sleep)
    log = LogDirectory("./log", SIZE, 10, "cat")
    log.write(lines(0, 100))
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        log.rotate()
    finally:
        signal.signal(signal.SIGCHLD, before)
    log.close()
    assert everything() == lines(0, 100)
    assert "wait failed for processor in ./log, pausing: no child process" in capfd.readouterr().err
    assert len(pauses) == 2


def test_what_is_no_log_file_stays(home: Path) -> None:
    (home / "log/sub").mkdir(parents=True)
    others = ["@short", "mine", ".hidden", "@" + "4" * 23]
    for name in others:
        (home / "log" / name).write_text("mine")
    log = opened(count=2)
    log.write(lines(0, 2000))
    log.close()
    assert {*others, "sub"} <= set(os.listdir("log"))


def test_a_file_that_cannot_be_removed_stops_nothing(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (home / ("log/@" + "3" * 24)).mkdir(parents=True)
    log = opened(count=2)
    log.write(lines(0, 700))
    log.close()
    assert lines(0, 700).endswith(Path("log/current").read_bytes())
    assert capfd.readouterr().err.startswith("multilog: warning: unable to remove ./log/@333333333333333")


def test_rotate_leaves_an_empty_current_alone(home: Path) -> None:
    log = opened()
    log.rotate()
    assert old_files() == []
    log.write(b"x\n")
    log.rotate()
    log.rotate()
    assert [file.read_bytes() for file in old_files()] == [b"x\n"]
    log.close()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [("touch log", "open directory ./log: not a directory"),
     ("mkdir -p log/lock", "lock directory ./log: is a directory"),
     ("mkdir -p log/current && chmod 700 log/current", "append to ./log/current: is a directory"),
     ("mkdir log; ln -s current log/current", "stat ./log/current: symbolic link loop"),
     ("mkdir -p log/state/x", "write to ./log/state: is a directory")],
)  # fmt: skip
def test_what_cannot_be_a_log_is_refused(home: Path, prepare: str, message: str) -> None:
    run("sh", "-c", prepare, cwd=home)
    fds = os.listdir("/proc/self/fd")
    with pytest.raises(Fatal, match="^unable to " + message.replace(".", r"\.") + "$"):
        opened()
    assert os.listdir("/proc/self/fd") == fds


@needs_c
@pytest.mark.parametrize(
    "prepare",
    ["touch log", "mkdir -p log/lock", "mkdir -p log/current && chmod 700 log/current",
     "mkdir log; ln -s current log/current", "mkdir -p log/state/x", "ln -s nowhere log",
     "mkdir log; touch log/processed; ln -s processed log/previous",
     "mkdir log; ln -s x/y log/processed"],
)  # fmt: skip
def test_refusals_are_worded_as_the_originals(home: Path, prepare: str) -> None:
    outcomes = []
    for program in (C, "multilog"):
        run("sh", "-c", f"rm -rf log; {prepare}", cwd=home)
        done = run(program, "./log", cwd=home)
        outcomes.append((done.returncode, done.stderr))
    assert outcomes[0] == outcomes[1]


# crashes

KILLED = {
    "writing": ["current 644"],
    "before the rename": ["current 744"],
    "no current": ["@400000000000000000000000.s 744"],
    "C: renamed": ["previous 644"],
    "C: a new current": ["previous 744", "current 644"],
    "C: linked": ["previous 744 @400000000000000000000000.s", "current 644"],
    "a processor at work": ["previous 744", "current 644", "processed 644", "newstate 644", "state 644"],
    "a processor done": ["previous 744", "current 644", "processed 744", "newstate 644", "state 644"],
    "previous removed": ["current 644", "processed 744", "newstate 644", "state 644"],
    "state renamed": ["current 644", "processed 744", "state 644"],
    "processed linked": ["processed 744 @400000000000000000000000.s", "current 644", "state 644"],
}


def lay_out(files: list[str]) -> None:
    run("rm", "-rf", "log")
    Path("log").mkdir()
    for file in files:
        name, permissions, *link = file.split()
        Path("log", name).write_text(f"from {name}\n")
        Path("log", name).chmod(int(permissions, 8))
        if link:
            os.link(Path("log", name), Path("log", *link))


def picture() -> list[tuple[str, int, bytes]]:
    """The log's files; of names that tell the time only that they do."""
    files = []
    for file in sorted(Path("log").iterdir(), key=lambda file: (file.suffix, file.read_bytes(), file.name)):
        name = f"@now{file.suffix}" if file.name.startswith("@400000006") else file.name
        files.append((name, stat.S_IMODE(file.stat().st_mode), file.read_bytes()))
    return files


@needs_c
@pytest.mark.parametrize("files", KILLED.values(), ids=KILLED)
def test_ours_recovers_as_the_original_does(home: Path, files: list[str]) -> None:
    pictures = []
    for program in (C, "multilog"):
        lay_out(files)
        done = run(program, "./log", cwd=home, stdin=b"new\n")
        assert (done.returncode, done.stderr) == (0, b"")
        pictures.append(picture())
    assert pictures[0] == pictures[1]


@needs_c
def test_either_multilog_goes_on_where_the_other_stopped(home: Path) -> None:
    for number in range(40):
        text = lines(number * 60, number * 60 + 60)
        done = run((C, "multilog")[number % 2], "s4096", "n1000", "./log", cwd=home, stdin=text)
        assert (done.returncode, done.stderr) == (0, b"")
    assert everything() == lines(0, 2400)
    assert all(file.suffix == ".s" for file in old_files())


def test_a_lock_is_respected_both_ways(home: Path) -> None:
    log = opened()
    for program in ("multilog", *([C] if Path(C).exists() else [])):
        done = run(program, "./log", cwd=home)
        said = b"multilog: fatal: unable to lock directory ./log: temporary failure\n"
        assert (done.returncode, done.stderr) == (111, said)
    log.close()
    assert run("multilog", "./log", cwd=home).returncode == 0


def test_a_full_file_is_ended_by_settle_or_by_the_next_line(home: Path) -> None:
    log = LogDirectory("./log", SIZE, 10, None)
    log.write(lines(0, 300))
    assert not list(home.glob("log/@*"))
    assert log.room == SIZE - NEAR // 2, "as much as in a new file"
    log.settle()
    assert len(list(home.glob("log/@*"))) == 1
    log.settle()
    log.write(lines(300, 600))
    log.write(b"x\n")
    assert len(list(home.glob("log/@*"))) == 2
    log.release()
