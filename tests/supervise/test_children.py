"""Children, forked and spawned: their descriptors, signals and ends."""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import environment, run

from supervise import chain, children


def test_spawned_programs_of_either_kind_report_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", environment()["PATH"])
    assert children.wait(children.spawn(["sh", "-c", "exit 7"])) == 7
    assert children.wait(children.spawn(["sh", "-c", "kill -9 $$"])) == -9
    assert children.wait(children.spawn(["svok", str(tmp_path)])) == 100
    with pytest.raises(FileNotFoundError):
        children.spawn(["no-such-program"])


PERMUTED = """
import os
from supervise import children, descriptors
files = {fd: os.open(name, os.O_RDONLY) for fd, name in zip((10, 11, 12), "abc")}
for fd, file in files.items():
    os.dup2(file, fd, inheritable=False)
    os.close(file)
"""


@pytest.mark.parametrize("order", [*itertools.product((10, 11, 12), repeat=3)], ids=str)
def test_descriptors_arrive_in_any_arrangement(tmp_path: Path, order: tuple[int, ...]) -> None:
    wanted = dict(zip((10, 11, 12), order, strict=True))
    inodes: dict[int, int] = {}
    for number, letter in zip((10, 11, 12), "abc", strict=True):
        (tmp_path / letter).write_text("")
        inodes[number] = (tmp_path / letter).stat().st_ino
    show = "import os; print([os.fstat(fd).st_ino for fd in (10, 11, 12)])"
    code = f"{PERMUTED}\npid = children.spawn([{sys.executable!r}, '-c', {show!r}], fds={wanted})\n"
    arranged = f"children.wait(pid)\ndescriptors.arrange({wanted})\n{show}\n"
    done = run(sys.executable, "-c", code + arranged, cwd=tmp_path)
    line = f"{[inodes[source] for source in order]}\n"
    assert done.stdout.decode() == line * 2, done.stderr
    assert done.stderr == b""


def test_input_and_output_can_change_places(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("line\n")
    code = """
import os, sys
from supervise import children
os.dup2(os.open("out", os.O_WRONLY | os.O_CREAT), 0)
os.dup2(os.open("in", os.O_RDONLY), 1)
sys.exit(children.wait(children.spawn(["tai64n"], fds={0: 1, 1: 0})))
"""
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "out").read_bytes()[25:] == b" line\n"


def _fork(body: Callable[[], int]) -> int:
    return children.wait(children.fork("test", body))


def test_a_forked_body_has_its_parents_mask_but_not_its_handlers() -> None:
    old = signal.signal(signal.SIGUSR1, lambda *_: None)
    ignored = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})

    def body() -> int:
        good = (
            signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL,
            signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN,
            signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask | {signal.SIGHUP},
        )
        return 3 if all(good) else 4

    try:
        assert _fork(body) == 3
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask | {signal.SIGHUP}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR1, old)
        signal.signal(signal.SIGUSR2, ignored)


def test_a_body_that_fails_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise chain.unable_to_run("x", OSError(2, "", "x"))

    def breaks() -> int:
        raise RuntimeError

    assert _fork(fails) == 111
    assert capfd.readouterr().err == "test: fatal: unable to run x: file does not exist\n"
    assert _fork(breaks) == 111
    assert "RuntimeError" in capfd.readouterr().err


ENDED = """
import os, signal
from supervise import children

def sleep():
    signal.pause()
    return 0

print(children.any_left(), list(children.ended()))
stays = children.fork("test", sleep)
print(children.any_left(), list(children.ended()))
gone = [children.fork("test", lambda code=code: code) for code in (3, 4)]
for pid in gone:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
print(sorted(children.ended()) == sorted(zip(gone, (3 << 8, 4 << 8))), children.any_left())
os.kill(stays, signal.SIGKILL)
os.waitid(os.P_PID, stays, os.WEXITED | os.WNOWAIT)
print(children.any_left(), list(children.ended()) == [(stays, signal.SIGKILL)], children.any_left())
"""


def test_each_child_that_has_ended_is_reported_once() -> None:
    done = run(sys.executable, "-c", ENDED)
    assert done.stdout.decode().splitlines() == ["False []", "True []", "True True", "True True False"]
    assert done.stderr == b""


DEATH_BEFORE_FORK = """
import os, signal
from supervise import children
from supervise.signals import SignalPipe

def sleep():
    signal.pause()
    return 0

with SignalPipe([signal.SIGCHLD]) as signals:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    first = os.fork()
    if first == 0:
        os._exit(0)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)  # its SIGCHLD waits, too
    second = children.fork("test", sleep)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    arrived = signals.arrived()
    os.kill(second, signal.SIGKILL)
    print(children.wait(first), children.wait(second), *map(int, arrived))
"""


def test_a_childs_death_is_not_lost_because_of_a_fork() -> None:
    # In a process of its own: here another thread, pytest-xdist's, might take the signal.
    done = run(sys.executable, "-c", DEATH_BEFORE_FORK)
    assert (done.stdout.split(), done.stderr) == ([b"0", b"-9", b"%d" % signal.SIGCHLD], b"")
