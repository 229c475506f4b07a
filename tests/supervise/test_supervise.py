"""supervise keeps one service as its administrator wants it, by the original's files and fifos."""

from __future__ import annotations

import os
import shutil
import signal
import stat as modes
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pytest
from programs import eventually, run, running
from service_directories import (
    C,
    alive,
    command_line,
    descriptors,
    lines,
    needs_daemontools,
    parent,
    pid_of,
    program,
    script,
    service,
    stat,
    supervised,
    up,
)

from supervise.status import Status, read
from supervise.tai import SECOND


def test_a_killed_service_is_started_again(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    with running("supervise", s):
        first = up(s)
        os.kill(first, signal.SIGKILL)
        second = eventually(lambda: (pid := pid_of(s)) != first and pid)
        assert alive(second)
        assert not alive(first)


def test_it_pauses_for_a_second_after_each_start(tmp_path: Path) -> None:
    s = service(tmp_path / "s", "date +%s.%N >>times")
    with running("supervise", s):
        times = eventually(lambda: t if len(t := lines(s / "times")) >= 3 else [])
    moments = [float(t) for t in times]
    assert all(later - earlier > 0.9 for earlier, later in pairwise(moments))


def test_a_service_that_cannot_be_run_is_told_of_and_tried_again(tmp_path: Path) -> None:
    s = tmp_path / "s"
    s.mkdir()
    said = tmp_path / "said"
    with said.open("wb") as err, running("supervise", s, stderr=err):
        eventually(lambda: len(lines(said)) >= 2)
        assert set(lines(said)) == {f"supervise: fatal: unable to start {s}/run: file does not exist"}
        service(s)
        assert alive(up(s))


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [("exit 0\n", 0o755, "exec format error"), ("#!/bin/sh\n", 0o644, "access denied")],
)
def test_why_a_run_cannot_be_run(tmp_path: Path, content: str, mode: int, why: str) -> None:
    s = tmp_path / "s"
    s.mkdir()
    (s / "run").write_text(content)
    (s / "run").chmod(mode)
    said = tmp_path / "said"
    with said.open("wb") as err, running("supervise", s, stderr=err):
        first = eventually(lambda: lines(said))[0]
    assert first == f"supervise: fatal: unable to start {s}/run: {why}"


def test_term_ends_the_service_then_supervise(tmp_path: Path) -> None:
    s = service(
        tmp_path / "s",
        "trap 'echo over >>said; exit 0' TERM",
        "echo up >>said",
        "while :; do sleep 0.05; done",
    )
    with running("supervise", s) as supervisor:
        pid = up(s)
        eventually(lambda: lines(s / "said"))
        supervisor.terminate()
        assert supervisor.wait(30) == 0
        assert not alive(pid)
    assert lines(s / "said") == ["up", "over"]


def test_a_paused_service_goes_down_all_the_same(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    with running("supervise", s):
        up(s)
        run("svc", "-p", s)
        eventually(lambda: stat(s).endswith(", paused"))
        run("svc", "-d", s)
        eventually(lambda: stat(s) == "down N seconds, normally up")


def test_once_runs_once_and_status_wants_nothing(tmp_path: Path) -> None:
    s = service(tmp_path / "s", "echo ran >>said")
    (s / "down").touch()
    with running("supervise", s):
        eventually(lambda: supervised(s))
        run("svc", "-o", s)
        eventually(lambda: lines(s / "said") and pid_of(s) == 0)
        assert read(str(s)).want == ""
    assert lines(s / "said") == ["ran"]


def test_commands_of_one_svc_count_in_their_order_as_in_the_original(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    (s / "down").touch()
    with running("supervise", s):
        eventually(lambda: supervised(s))
        run("svc", "-op", s)
        eventually(lambda: stat(s) == f"up (pid {pid_of(s)}) N seconds, normally down, paused")
        run("svc", "-d", s)
        eventually(lambda: pid_of(s) == 0)
        run("svc", "-ud", s)
        eventually(lambda: read(str(s)).want == "d" and pid_of(s) == 0)


def test_the_service_inherits_what_supervise_was_given_and_nothing_of_its_own(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    with (tmp_path / "out").open("wb") as out, running("supervise", s, stdout=out, stdin=subprocess.DEVNULL):
        mine = descriptors(up(s))
    assert sorted(mine) == [0, 1, 2]
    assert mine[1] == str(tmp_path / "out")


def test_ignored_signals_stay_ignored_and_caught_ones_are_default(tmp_path: Path) -> None:
    s = service(
        tmp_path / "s",
        "while read -r name set; do echo $name $set; done </proc/$$/status >said.new",  # no fork: that blocks
        "mv said.new said; exec sleep 1000",
    )
    launcher = f"trap '' INT HUP; exec {program('supervise')} {s}"
    with running("sh", "-c", launcher):
        said = dict(line.partition(": ")[::2] for line in eventually(lambda: lines(s / "said")))
    without_threads_own = (1 << 31) - 1  # posix_spawn has the C library's two ignored
    assert int(said["SigIgn"], 16) & without_threads_own == 1 << (signal.SIGHUP - 1) | 1 << (
        signal.SIGINT - 1
    )
    assert int(said["SigBlk"], 16) == 0


def test_it_keeps_its_files_to_itself(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    with running("supervise", s):
        up(s)
        found = {p.name: p.stat().st_mode for p in (s / "supervise").iterdir() if p.name != "status.new"}
        assert modes.S_IMODE((s / "supervise").stat().st_mode) == 0o700
    assert {name: modes.S_IMODE(mode) for name, mode in found.items()} == {
        "control": 0o600, "lock": 0o600, "ok": 0o600, "status": 0o644,
    }  # fmt: skip
    assert modes.S_ISFIFO(found["control"])
    assert modes.S_ISFIFO(found["ok"])


def test_any_bytes_in_control_leave_it_working(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    with running("supervise", s) as supervisor:
        up(s)
        meaningful = set(b"udopchaitkx")
        with (s / "supervise/control").open("wb", buffering=0) as control:
            for _ in range(20):
                control.write(bytes(b for b in range(256) if b not in meaningful) * 8)
        run("svc", "-p", s)
        eventually(lambda: stat(s).endswith(", paused"))
        assert supervisor.poll() is None


def test_a_status_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    (s / "supervise/status.new").mkdir(parents=True)
    said = tmp_path / "said"
    with said.open("wb") as err, running("supervise", s, stderr=err):
        eventually(lambda: lines(said))
        assert lines(said)[0] == (
            f"supervise: warning: unable to open {s}/supervise/status.new: is a directory"
        )
        (s / "supervise/status.new").rmdir()
        run("svc", "-p", s)
        eventually(lambda: stat(s).endswith(", paused"))


def test_a_dangling_link_to_the_supervise_directory_is_followed(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    (s / "supervise").symlink_to(tmp_path / "run-s")
    with running("supervise", s):
        up(s)
    assert (tmp_path / "run-s/status").exists()


@needs_daemontools
def test_c_tools_work_on_our_supervise(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    with running("supervise", s):
        pid = up(s)
        assert supervised(s, C["svok"])
        assert stat(s, C["svstat"]) == f"up (pid {pid}) N seconds"
        run(C["svc"], "-p", s)
        eventually(lambda: stat(s, C["svstat"]) == f"up (pid {pid}) N seconds, paused")
        run(C["svc"], "-d", s)
        eventually(lambda: stat(s, C["svstat"]) == "down N seconds, normally up")
        assert run(C["supervise"], s).stderr.decode() == (
            f"supervise: fatal: unable to acquire {s}/supervise/lock: temporary failure\n"
        )
        run(C["svc"], "-x", s)
        eventually(lambda: not supervised(s, C["svok"]))


@needs_daemontools
def test_our_tools_work_on_c_supervise(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    with running(C["supervise"], s):
        pid = up(s)
        assert supervised(s)
        assert command_line(parent(pid)).startswith("/usr/bin/supervise")
        run("svc", "-p", s)
        eventually(lambda: stat(s) == f"up (pid {pid}) N seconds, paused")
        run("svc", "-d", s)
        eventually(lambda: stat(s) == "down N seconds, normally up")
        refused = run("supervise", s)
        assert (refused.returncode, b"temporary failure" in refused.stderr) == (111, True)
        run("svc", "-x", s)
        eventually(lambda: not supervised(s))


@needs_daemontools
def test_a_service_directory_can_be_taken_over_in_both_directions(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    for supervise in (C["supervise"], program("supervise"), C["supervise"]):
        with running(supervise, s):
            up(s)
            run("svc", "-dx", s)
            eventually(lambda: not supervised(s))
        assert stat(s) == "supervise not running"


def test_a_run_that_is_a_program_of_the_toolkit_needs_no_second_interpreter(tmp_path: Path) -> None:
    s = tmp_path / "s"
    s.mkdir()
    service(tmp_path / "inner", "exec sleep 1000")
    script(s / "run", f"exec {program('supervise')} {tmp_path / 'inner'}")
    with running("supervise", s):
        outer = up(s)
        eventually(lambda: command_line(outer).startswith("supervise"))
        assert alive(up(tmp_path / "inner"))


@pytest.mark.parametrize("first", ["supervise", pytest.param(str(C["supervise"]), marks=needs_daemontools)])
def test_a_supervise_that_is_killed_leaves_the_service_to_the_next(tmp_path: Path, first: str) -> None:
    s = service(tmp_path / "s", "echo run >>said; exec sleep 1000")
    with running(first, s, stop=signal.SIGKILL) as killed:
        pid = up(s)
        killed.kill()
        killed.wait()
        assert alive(pid)
        with running("supervise", s) as supervisor:
            eventually(lambda: supervised(s))
            assert up(s) == pid
            assert lines(s / "said") == ["run"]
            run("svc", "-p", s)
            eventually(lambda: stat(s).endswith(", paused"))
            run("svc", "-c", s)
            os.kill(pid, signal.SIGKILL)
            again = eventually(lambda: (p := pid_of(s)) != pid and p)
            assert parent(again) == supervisor.pid
            assert lines(s / "said") == ["run", "run"]


def test_what_was_to_go_down_goes_down_under_the_next_supervise(tmp_path: Path) -> None:
    s = service(
        tmp_path / "s", "trap 'exit 0' USR1; trap '' TERM", "echo up >>said", "while :; do sleep 0.05; done"
    )
    with running("supervise", s, stop=signal.SIGKILL) as killed:
        pid = up(s)
        eventually(lambda: lines(s / "said"))
        run("svc", "-d", s)
        eventually(lambda: stat(s) == f"up (pid {pid}) N seconds, want down")
        killed.kill()
        killed.wait()
        with running("supervise", s):
            eventually(lambda: supervised(s))
            assert stat(s) == f"up (pid {pid}) N seconds, want down"
            os.kill(pid, signal.SIGUSR1)
            eventually(lambda: stat(s) == "down N seconds, normally up")


def test_a_process_that_merely_has_the_pid_is_left_alone(tmp_path: Path) -> None:
    s = service(tmp_path / "s", "echo run >>said; exec sleep 1000")
    (s / "supervise").mkdir()
    with running("sleep", "1000") as stranger:
        record = Status((int(time.time()) - 100) * SECOND, stranger.pid, want="u")
        (s / "supervise/status").write_bytes(record.pack())
        with running("supervise", s):
            eventually(lambda: up(s) != stranger.pid)
            assert lines(s / "said") == ["run"]
        assert stranger.poll() is None


def test_a_supervise_has_nothing_to_do_while_nothing_happens(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    with running("supervise", s) as supervisor:
        up(s)
        time.sleep(1.5)  # the pause after the start

        def woken() -> int:
            status = Path(f"/proc/{supervisor.pid}/status").read_text()
            return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)

        before = woken()
        time.sleep(3)
        assert woken() == before


def test_when_there_is_no_fork_it_says_so_waits_and_still_obeys(tmp_path: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed (apt install strace)")
    s = service(tmp_path / "s", "echo run >>said; exec sleep 1000")
    said = tmp_path / "said"
    inject = [
        "-e",
        "inject=clone3,clone,vfork,fork:error=EAGAIN:when=1",
        "-e",
        "trace=clone3,clone,vfork,fork",
    ]
    strace = ["strace", "-I1", "-qq", "-o", "/dev/null", *inject, program("supervise"), str(s)]
    with said.open("wb") as err, running(*strace, stderr=err) as tracer:
        warning = f"supervise: warning: unable to fork for {s}, sleeping 60 seconds: temporary failure"
        eventually(lambda: warning in lines(said))
        assert stat(s) == "down N seconds, normally up, want up"
        run("svc", "-u", s)
        assert alive(up(s))
        run("svc", "-dx", s)
        assert tracer.wait(30) == 0


REAPED_ELSEWHERE = """
import ctypes, os, signal, subprocess, sys, time
from supervise.status import read

def eventually(look):
    deadline = time.monotonic() + 10
    while not (seen := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return seen

def pid_besides(old):
    try:
        pid = read(sys.argv[1]).pid
    except OSError:
        return 0
    return pid if pid != old else 0

def has_adopted(pid):
    place = f"/proc/{pid}/fd"
    return any("pidfd" in os.readlink(f"{place}/{fd}") for fd in os.listdir(place))

assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER: orphans become children
first = subprocess.Popen(sys.argv[2:])
service = eventually(lambda: pid_besides(0))
first.kill()
first.wait()
second = subprocess.Popen(sys.argv[2:])
eventually(lambda: has_adopted(second.pid))
second.send_signal(signal.SIGSTOP)
os.kill(service, signal.SIGKILL)
os.waitpid(service, 0)
second.send_signal(signal.SIGCONT)
successor = eventually(lambda: pid_besides(service))
second.terminate()
print(second.wait(), os.path.exists(f"/proc/{successor}"))
"""


def test_an_adopted_service_that_somebody_else_reaps_is_started_again(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    argv = (sys.executable, "-c", REAPED_ELSEWHERE, s, program("supervise"), s)
    with running(*argv, stdout=subprocess.PIPE) as reaper:
        assert reaper.communicate(timeout=90)[0] == b"0 False\n"


def test_a_command_after_a_start_waits_until_the_service_has_had_its_second(tmp_path: Path) -> None:
    s = service(
        tmp_path / "s",
        "sleep 0.2; trap 'echo hup >>said' HUP",
        "echo ready >>said",
        "sleep 2",
        "echo end >>said",
    )
    (s / "down").touch()
    with running("supervise", s):
        eventually(lambda: supervised(s))
        run("svc", "-oh", s)
        assert eventually(lambda: said if "end" in (said := lines(s / "said")) else []) == [
            "ready",
            "hup",
            "end",
        ]


def test_a_signal_meets_the_next_run_if_this_one_has_just_ended(tmp_path: Path) -> None:
    s = service(tmp_path / "s", "[ -e once ] && exec sleep 1000", ">once", "sleep 0.3")
    with running("supervise", s):
        eventually((s / "once").exists)
        time.sleep(0.6)  # it has ended, and the second's pause is not over
        run("svc", "-p", s)
        eventually(lambda: stat(s).endswith("paused"))
        run("svc", "-c", s)


def test_svc_is_answered_by_a_status_record_though_the_last_one_was_removed(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    with running("supervise", s):
        pid = up(s)
        (s / "supervise/status").unlink()
        run("svc", "-c", s)
        assert up(s) == pid


@pytest.mark.root
def test_a_service_that_it_may_not_signal_is_kept(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="another-user-"))  # which everybody may enter
    try:
        interpreter = place / "python"
        shutil.copy(os.path.realpath(sys.executable), interpreter)
        interpreter.chmod(0o4755)
        root = "import os, time; os.setresuid(0, 0, 0); open('root', 'w').close(); time.sleep(1000)"
        s = service(place / "s", f'exec {interpreter} -I -S -c "{root}"')
        for directory in (place, s):
            directory.chmod(0o777)
        with running("setuidgid", "nobody", program("supervise"), s, stop=signal.SIGKILL) as supervise:
            pid = up(s)
            eventually((s / "root").exists)
            run("svc", "-t", s)
            run("svc", "-p", s)
            eventually(lambda: read(str(s)).paused)
            assert (alive(pid), alive(supervise.pid)) == (True, True)
    finally:
        shutil.rmtree(place)
