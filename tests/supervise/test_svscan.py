"""svscan runs a supervise, and a log's, for every service; it ends them in order."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from programs import BIN, environment, eventually, run, running
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
    supervised,
    up,
)

from supervise.status import read


def test_it_starts_each_service_and_its_log_with_a_pipe_between(tmp_path: Path) -> None:
    a = service(tmp_path / "a", "echo hello", "exec sleep 1000", log=("exec cat >>said",))
    b = service(tmp_path / "b")
    with running("svscan", tmp_path) as svscan:
        pids = [up(a), up(a / "log"), up(b)]
        assert eventually(lambda: lines(a / "log/said")) == ["hello"]
        parents = [parent(pid) for pid in pids]
        assert [command_line(pid) for pid in parents] == ["supervise a", "supervise log", "supervise b"]
        assert {parent(pid) for pid in parents} == {svscan.pid}
        assert command_line(svscan.pid) == f"svscan {tmp_path}"


def is_up(directory: Path) -> bool:
    """By its status; svstat's words may not be text."""
    return (directory / "supervise/status").exists() and read(str(directory)).pid != 0


def test_a_service_may_have_any_name(tmp_path: Path) -> None:
    names = [b"caf\xe9", b"two words", b"-x", "\u202e\u00fc".encode()]
    services = [service(tmp_path / os.fsdecode(name)) for name in names]
    said = tmp_path / ".said"
    with said.open("wb") as err, running("svscan", tmp_path, stderr=err) as svscan:
        for each in services:
            eventually(partial(is_up, each))
        titles = {command_line(pid) for pid in children(svscan.pid)}
    assert {"supervise caf?", "supervise two words", "supervise -x", "supervise \u202e\u00fc"} == titles
    assert lines(said) == []


def test_hidden_names_and_plain_files_are_no_services(tmp_path: Path) -> None:
    service(tmp_path / ".hidden")
    (tmp_path / "file").touch()
    a = service(tmp_path / "a")
    with running("svscan", tmp_path):
        up(a)
        assert not (tmp_path / ".hidden/supervise").exists()


def test_a_new_service_is_taken_up_and_at_once_after_hup(tmp_path: Path) -> None:
    up_first = service(tmp_path / "a")
    with running("svscan", tmp_path) as svscan:
        up(up_first)
        late = service(tmp_path.parent / f"{tmp_path.name}-late")
        (tmp_path / "late").symlink_to(late)
        svscan.send_signal(signal.SIGHUP)
        assert alive(up(tmp_path / "late"))


def test_a_killed_supervise_is_started_again_and_no_line_is_lost(tmp_path: Path) -> None:
    count = 400
    a = service(
        tmp_path / "a",
        f"i=0; while [ $i -lt {count} ]; do echo $i; i=$((i+1)); sleep 0.01; done; exec sleep 1000",
        log=("exec cat >>said",),
    )  # fmt: skip
    with running("svscan", tmp_path) as svscan:
        up(a)
        first = up(a / "log")
        eventually(lambda: lines(a / "log/said"))
        os.kill(first, signal.SIGTERM)
        eventually(lambda: (pid := pid_of(a / "log")) != first and pid)
        second = parent(up(a / "log"))
        run("svc", "-dx", a / "log")
        eventually(lambda: not alive(second))
        svscan.send_signal(signal.SIGHUP)
        up(a / "log")
        eventually(lambda: len(lines(a / "log/said")) >= count)
    assert lines(a / "log/said") == [str(i) for i in range(count)]


def test_a_removed_service_is_let_go(tmp_path: Path) -> None:
    real = service(tmp_path / ".a", log=("exec cat",))
    (tmp_path / "a").symlink_to(real)
    with running("svscan", tmp_path) as svscan:
        up(real)
        open_before = len(os.listdir(f"/proc/{svscan.pid}/fd"))
        (tmp_path / "a").unlink()
        run("svc", "-dx", real, real / "log")
        eventually(lambda: not supervised(real) and not supervised(real / "log"))
        svscan.send_signal(signal.SIGHUP)
        eventually(lambda: len(os.listdir(f"/proc/{svscan.pid}/fd")) == open_before - 2)


def test_what_it_cannot_start_is_told_of_and_the_rest_runs(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    a = service(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/log").symlink_to("log")
    said = tmp_path / "said"
    with said.open("wb") as err, running("svscan", tmp_path, stderr=err):
        up(a)
        eventually(lambda: len(lines(said)) >= 2)
    assert set(lines(said)) == {
        "svscan: warning: unable to stat dangling: file does not exist",
        "svscan: warning: unable to stat b/log: symbolic link loop",
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_ends_services_then_logs_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    a = service(
        tmp_path / "a",
        "trap 'sleep 0.5; echo last words; exit 0' TERM",
        "echo up",
        "while :; do sleep 0.05; done",
        log=("exec cat >>said",),
    )
    c = service(tmp_path / "c", "trap '' TERM", "sleep 0.3", "exit 1", log=("exec cat",))
    paused = service(tmp_path / "p")
    with running("svscan", tmp_path) as svscan:
        pids = [up(s) for s in (a, a / "log", paused)]
        eventually(lambda: lines(a / "log/said"))
        up(c / "log")
        run("svc", "-p", paused)
        svscan.send_signal(number)
        assert svscan.wait(60) == 0
        assert not any(alive(pid) for pid in pids)
        assert of_session(svscan.pid) == []
    assert lines(a / "log/said") == ["up", "last words"]


def test_ctrl_c_on_the_whole_terminal_leaves_nothing_and_loses_no_line(tmp_path: Path) -> None:
    a = service(
        tmp_path / "a",
        "trap '' INT; trap 'sleep 0.5; echo last words; exit 0' TERM",
        "echo up",
        "while :; do sleep 0.05; done",
        log=("exec cat >>said",),
    )
    with running("svscan", tmp_path) as svscan:
        up(a)
        eventually(lambda: lines(a / "log/said"))
        os.killpg(svscan.pid, signal.SIGINT)
        assert svscan.wait(60) == 0
        assert of_session(svscan.pid) == []
    assert lines(a / "log/said") == ["up", "last words"]


def test_a_second_term_kills_what_does_not_end(tmp_path: Path) -> None:
    a = service(
        tmp_path / "a", "trap '' TERM", "echo up", "while :; do sleep 0.05; done", log=("exec cat >>said",)
    )
    with running("svscan", tmp_path) as svscan:
        pid = up(a)
        eventually(lambda: lines(a / "log/said"))
        svscan.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            svscan.wait(1.5)
        assert alive(pid)
        svscan.terminate()
        assert svscan.wait(60) == 0
        assert not alive(pid)


def test_a_log_that_is_to_be_down_is_not_started_for_the_end(tmp_path: Path) -> None:
    a = service(tmp_path / "a", "echo unread", "exec sleep 1000", log=("echo ran >>ran", "exec cat"))
    (a / "log/down").touch()
    with running("svscan", tmp_path) as svscan:
        up(a)
        eventually(lambda: supervised(a / "log"))
        svscan.terminate()
        assert svscan.wait(60) == 0
    assert not (a / "log/ran").exists()


SLOW_FOR_A_LOG = """
if [ "$1" = log ]; then
    cd log; mkdir supervise; mkfifo supervise/control; exec 3<>supervise/control; touch slow
    while ! [ -e go ]; do sleep 0.05; done
    cd ..
fi
exec {supervise} "$@"
"""


def test_a_log_is_told_to_end_once_its_supervise_has_said_how_it_is_to_be(tmp_path: Path) -> None:
    a = service(tmp_path / "services/a", log=("echo ran >>ran", "exec cat"))
    (a / "log/down").touch()
    script(tmp_path / "bin/supervise", SLOW_FOR_A_LOG.format(supervise=program("supervise")))
    env = environment(PATH=f"{tmp_path}/bin:{environment()['PATH']}")
    with running("svscan", tmp_path / "services", env=env) as svscan:
        pid = up(a)
        eventually((a / "log/slow").exists)
        svscan.terminate()
        eventually(lambda: not alive(pid))
        time.sleep(0.5)  # it would be told now
        (a / "log/go").touch()
        assert svscan.wait(60) == 0
    assert not (a / "log/ran").exists()


def test_a_shells_background_job_dies_of_term_as_the_original_does(tmp_path: Path) -> None:
    a = service(tmp_path / "a")
    script(tmp_path / ".launch", f"{program('svscan')} {tmp_path} &", "echo $!", "wait")
    launcher = ["sh", str(tmp_path / ".launch")]
    with running(*launcher, stdout=subprocess.PIPE) as shell:
        assert shell.stdout
        svscan = int(shell.stdout.readline())
        pid = up(a)
        os.kill(svscan, signal.SIGTERM)
        eventually(lambda: not alive(svscan))
        assert alive(pid)
        run("svc", "-dx", a)
        eventually(lambda: not alive(pid))


def test_in_a_shells_background_too_term_ends_a_supervise_and_its_service(tmp_path: Path) -> None:
    a = service(tmp_path / "a")
    script(tmp_path / ".launch", f"{program('svscan')} {tmp_path} &", "echo $!", "wait")
    with running("sh", str(tmp_path / ".launch"), stdout=subprocess.PIPE) as shell:
        assert shell.stdout
        svscan = int(shell.stdout.readline())
        pid = up(a)
        supervise = parent(pid)
        os.kill(supervise, signal.SIGTERM)
        eventually(lambda: not alive(pid))
        os.kill(svscan, signal.SIGTERM)
        eventually(lambda: not alive(svscan))
        run("svc", "-dx", a)
        eventually(lambda: not supervised(a))


def test_with_few_descriptors_it_starts_all_services_though_it_cannot_prepare_all(tmp_path: Path) -> None:
    services = [service(tmp_path / f"s{number}") for number in range(12)]
    said = tmp_path / ".said"
    limits = ("prlimit", "--nofile=30:30", program("svscan"))
    with said.open("wb") as err, running(*limits, tmp_path, stderr=err):
        pids = [up(each) for each in services]
        assert {command_line(parent(pid)) for pid in pids} == {f"supervise {each.name}" for each in services}
    assert lines(said) == []


def test_few_descriptors_are_for_the_logs_pipes_first(tmp_path: Path) -> None:
    services = [service(tmp_path / f"s{number}", log=("exec cat >>said",)) for number in range(12)]
    said = tmp_path / ".said"
    limits = ("prlimit", "--nofile=40:40", program("svscan"))
    with said.open("wb") as err, running(*limits, tmp_path, stderr=err):
        for each in services:
            assert up(each)
            assert up(each / "log")
    assert lines(said) == []


@pytest.mark.parametrize("limit", [28, 29, 30, 31])
def test_without_a_descriptor_to_spare_it_goes_on(tmp_path: Path, limit: int) -> None:
    for number in range(16):
        for part in (f"s{number}", f"s{number}/log"):
            (tmp_path / part).mkdir()
            (tmp_path / part / "down").touch()
    said = tmp_path / ".said"
    limits = ("prlimit", f"--nofile={limit}:{limit}", program("svscan"))
    with said.open("wb") as err, running(*limits, tmp_path, stderr=err) as svscan:
        for _ in range(3):
            many = len(eventually(lambda: lines(said)))  # there are no pipes for the last
            svscan.send_signal(signal.SIGHUP)
            eventually(partial(more_than, many, said))
        name, victim = next(found for found in supervises(svscan.pid).items() if not found[0].endswith("log"))
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: supervises(svscan.pid).get(name, victim) != victim, f"{name} again")
        assert alive(svscan.pid)
    assert [line for line in lines(said) if "warning: unable to " not in line] == []


def supervises(svscan: int) -> dict[str, int]:
    """Their pids by their command lines."""
    found = {}
    for pid in of_session(svscan):
        with suppress(OSError):  # it has just ended
            found[command_line(pid)] = pid
    return {line: pid for line, pid in found.items() if line.startswith("supervise ")}


def more_than(number: int, path: Path) -> bool:
    return len(lines(path)) > number


def test_a_supervise_shares_most_of_its_memory(tmp_path: Path) -> None:
    services = [service(tmp_path / f"s{number}") for number in range(20)]
    with running("svscan", tmp_path):
        own = [private(parent(up(each))) for each in services]
    assert sorted(own)[len(own) // 2] < 800  # it is 600 here; once it was 1300


def private(pid: int) -> int:
    """Kilobytes that a process shares with no other."""
    rollup = dict(line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(rollup[kind].split()[0]) for kind in ("Private_Clean", "Private_Dirty"))


def test_between_svscan_and_the_services_no_interpreter_is_started(tmp_path: Path) -> None:
    a = service(tmp_path / "services/a", "exec sleep 1000", log=("exec cat",))
    trace = tmp_path / "trace"
    command = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=execve",
        "-o",
        str(trace),
        program("svscan"),
        str(a.parent),
    ]
    try:
        subprocess.run(["strace", "-V"], capture_output=True, check=True)
    except OSError:
        pytest.skip("strace is not installed")
    with running(*command) as strace:
        up(a), up(a / "log")
        svscan = parent(parent(up(a)))
        os.kill(svscan, signal.SIGTERM)
        strace.wait(60)
    started = [line.split('"')[1] for line in lines(trace) if "execve(" in line]
    assert started[0] == program("svscan")
    assert started.count("./run") >= 2
    assert not any("python" in p or p.endswith("supervise") for p in started[1:])


@needs_daemontools
def test_a_supervise_earlier_in_path_is_run(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/supervise").symlink_to(C["supervise"])
    a = service(tmp_path / "services/a", log=("exec cat",))
    path = f"{tmp_path / 'bin'}:{BIN}:/usr/bin:/bin"
    with running("svscan", a.parent, env=environment(PATH=path)) as svscan:
        pid = parent(up(a))
        assert os.readlink(f"/proc/{pid}/exe") == str(C["supervise"])
        log = up(a / "log")
        svscan.terminate()
        assert svscan.wait(60) == 0
        assert not alive(log)


@needs_daemontools
def test_under_c_svscan_our_supervise_works(tmp_path: Path) -> None:
    a = service(tmp_path / "a", "echo hello", "exec sleep 1000", log=("exec cat >>said",))
    with running(C["svscan"], tmp_path):
        assert command_line(parent(up(a))) == "supervise a"
        assert eventually(lambda: lines(a / "log/said")) == ["hello"]
        run("svc", "-dx", a, a / "log")


def test_a_thousand_services_and_no_more(tmp_path: Path) -> None:
    for number in range(1003):
        (tmp_path / f"s{number}").mkdir()
    bin_ = tmp_path / ".bin"
    script(bin_ / "supervise", f"echo $1 >>{tmp_path}/.started", "exec sleep 1000")
    said = tmp_path / ".said"
    env = environment(PATH=f"{bin_}:/usr/bin:/bin")
    with said.open("wb") as err, running("svscan", tmp_path, env=env, stderr=err, stop=signal.SIGKILL):
        eventually(lambda: len(lines(said)) >= 3 and len(lines(tmp_path / ".started")) >= 1000, deadline=60)
        refused = {line.split()[5].rstrip(":") for line in lines(said)[:3]}
        assert lines(said)[0].startswith("svscan: warning: unable to start s")
        assert lines(said)[0].endswith(": running too many services")
        assert len(refused) == 3
        assert len(set(lines(tmp_path / ".started"))) == 1000
        assert not refused & set(lines(tmp_path / ".started"))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a pid namespace")
def test_as_process_1_it_reaps_orphans_and_ends_everything(tmp_path: Path) -> None:
    script(
        tmp_path / ".orphan", "trap 'echo orphan over >>../said; exit' TERM", "while :; do sleep 0.05; done"
    )
    a = service(tmp_path / "a", "(sleep 0.2 & ../.orphan & )", "echo up >>../said", "exec sleep 1000")
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", program("svscan"), str(tmp_path)]
    if subprocess.run([*unshare[:-2], "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespaces here")
    with running(*unshare) as outer:
        eventually(lambda: supervised(a) and lines(tmp_path / "said"))
        (svscan,) = children(outer.pid)
        eventually(lambda: all(alive(pid) for pid in children(svscan)) and len(children(svscan)) == 2)
        os.kill(svscan, signal.SIGTERM)
        assert outer.wait(60) == 0
    assert lines(tmp_path / "said") == ["up", "orphan over"]


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def of_session(session: int) -> list[int]:
    """The living processes of a session, but its leader."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != session and alive(int(entry.name)):
            try:
                if os.getsid(int(entry.name)) == session:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_log_pipe_is_never_left_without_a_reader(tmp_path: Path) -> None:
    a = service(
        tmp_path / "a",
        "i=0; while :; do echo $i || exit 9; i=$((i+1)); echo $i >../new; mv ../new ../count; done",
        log=("sleep 1000",),
    )
    with running("svscan", tmp_path):
        log = up(a / "log")
        eventually(lambda: lines(tmp_path / "count"))
        service_pid = up(a)
        os.kill(log, signal.SIGKILL)
        eventually(lambda: pid_of(a / "log") not in (0, log))
        assert pid_of(a) == service_pid


def test_a_log_that_cannot_be_supervised_does_not_keep_svscan_from_ending(tmp_path: Path) -> None:
    a = service(tmp_path / "a", "echo unread", "exec sleep 1000", log=("exec sleep 1000",))
    with running("supervise", "a/log", cwd=tmp_path) as other:
        eventually(lambda: supervised(a / "log"))
        with (tmp_path / ".said").open("wb") as err, running("svscan", tmp_path, stderr=err) as svscan:
            up(a)
            svscan.terminate()
            assert svscan.wait(60) == 0
        assert other.poll() is None
    assert set(lines(tmp_path / ".said")) == {
        "supervise: fatal: unable to acquire log/supervise/lock: temporary failure"
    }
    assert len(lines(tmp_path / ".said")) < 20


def test_who_is_left_behind_with_the_pipe_does_not_keep_the_log_up_for_ever(tmp_path: Path) -> None:
    a = service(tmp_path / "a", "sleep 1000 &", "echo up", "exec sleep 1000", log=("exec cat >>said",))
    with running("svscan", tmp_path) as svscan:
        eventually(lambda: lines(a / "log/said"))
        svscan.terminate()
        assert svscan.wait(60) == 0
    assert lines(a / "log/said") == ["up"]


def test_a_status_record_that_makes_no_sense_harms_no_service(tmp_path: Path) -> None:
    a, b = service(tmp_path / "a"), service(tmp_path / "b")
    (a / "supervise").mkdir()
    (a / "supervise/status").write_bytes(b"\xff" * 18)
    with running("svscan", tmp_path):
        assert up(b)
        assert eventually(lambda: alive(pid_of(a)) and pid_of(a))


@pytest.mark.parametrize("wait", [0.2, 2.0])
def test_a_service_whose_supervise_was_killed_is_ended_too(tmp_path: Path, wait: float) -> None:
    a = service(tmp_path / "a")
    with running("svscan", tmp_path) as svscan:
        pid = up(a)
        time.sleep(wait)
        os.kill(parent(pid), signal.SIGKILL)
        svscan.terminate()
        assert svscan.wait(60) == 0
        assert not alive(pid)


@pytest.mark.parametrize("limit", range(10, 16))  # with 9 it cannot run at all
def test_a_supervise_that_could_not_be_prepared_leaves_no_descriptor_in_svscan(
    tmp_path: Path, limit: int
) -> None:
    a = service(tmp_path / "a")
    (a / "extended").touch()
    limits = ("prlimit", f"--nofile={limit}:{limit}", program("svscan"))
    with running(*limits, tmp_path, stderr=subprocess.DEVNULL) as svscan:
        eventually(lambda: supervises(svscan.pid))
        eventually(lambda: not any("supervise/" in file for file in descriptors(svscan.pid).values()))


def test_its_own_messages_are_no_signals_to_it_if_standard_error_is_closed(tmp_path: Path) -> None:
    a = service(tmp_path / "a")
    (tmp_path / "x\x0fy").symlink_to("nowhere")  # 15 is SIGTERM
    launch = script(tmp_path / ".launch", f"exec {program('svscan')} {tmp_path} 1>&- 2>&-")
    with running(launch) as svscan:
        up(a)
        b = service(tmp_path / "b")  # it would not be looked for by a svscan that is ending
        svscan.send_signal(signal.SIGHUP)
        assert up(b)
