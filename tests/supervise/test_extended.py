"""A service with the file `extended`: its scripts, back-off, readiness, and svc -w that waits for it."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from programs import BIN, eventually, run, running
from service_directories import alive, lines, pid_of, script, service, stat, supervised, up

from supervise import details, status
from supervise.extended import Extended
from supervise.service_directory import ServiceDirectory

PYTHON = BIN / "python"


def extended(directory: Path, *run_lines: str, **files: str) -> Path:
    """A service with extensions; a file whose text begins with "#!" is a program."""
    service(directory, *run_lines)
    (directory / "extended").touch()
    for name, text in files.items():
        path = directory / name.replace("_", "-")
        if text.startswith("#!"):
            script(path, text[2:])
        else:
            path.write_text(text)
    return directory


def known(directory: Path) -> dict[str, object]:
    """What svstat --json says."""
    facts: dict[str, object] = json.loads(run("svstat", "--json", directory).stdout)
    return facts


def test_without_the_file_extended_the_other_files_mean_nothing(tmp_path: Path) -> None:
    s = extended(tmp_path / "s", "exit 100", start="#!echo start >>said", finish="#!echo finish >>said")
    (s / "extended").unlink()
    with running("supervise", s):
        first = up(s)
        eventually(lambda: pid_of(s) not in (0, first))
    assert lines(s / "said") == []
    assert not (s / "supervise/details").exists()


def test_the_scripts_run_in_their_order_and_are_told_how_it_ended(tmp_path: Path) -> None:
    s = extended(
        tmp_path / "s",
        "echo run >>said",
        "exec sleep 1000",
        start="#!echo start >>said",
        finish='#!echo "finish $1 $2 ${3##*/}" >>said',
        stop="#!echo stop >>said",
    )
    with running("supervise", s):
        pid = up(s)
        eventually(lambda: lines(s / "said")[-1:] == ["run"])
        os.kill(up(s), signal.SIGKILL)
        eventually(lambda: lines(s / "said").count("run") == 2)
        assert known(s)["last_end"] == "signal 9"
        run("svc", "-d", "-wD", "-T30000", s)
        assert lines(s / "said") == ["start", "run", "finish 256 9 s", "run", "finish 256 15 s", "stop"]
        assert not alive(pid)


def test_a_start_that_fails_is_a_failure_and_nothing_runs(tmp_path: Path) -> None:
    s = extended(tmp_path / "s", "echo run >>said", start="#!exit 1", stop="#!echo stop >>said")
    with running("supervise", s):
        eventually(lambda: supervised(s) and known(s)["failed"])
        assert stat(s) == "down N seconds, normally up"
        script(s / "start", "exit 0")
        assert run("svc", "-u", "-wu", "-T30000", s).returncode == 0
        eventually(lambda: lines(s / "said"))
    assert lines(s / "said")[0] == "run"


@pytest.mark.parametrize("scripts", [{"run": "exit 100"}, {"finish": "exit 125"}])
def test_what_says_not_again_is_not_run_again(tmp_path: Path, scripts: dict[str, str]) -> None:
    s = extended(tmp_path / "s", "echo run >>said")
    for name, text in scripts.items():
        script(s / name, f"echo {name} >>said", text)
    with running("supervise", s):
        eventually(lambda: supervised(s) and known(s)["failed"] and known(s)["phase"] == "down")
        waited = run("svc", "-wu", "-T30000", s)
        assert waited.returncode == 100
    assert lines(s / "said").count("run") == 1


def test_backoff_doubles_and_svc_u_ends_it(tmp_path: Path) -> None:
    s = extended(tmp_path / "s", "echo x >>said", "exit 3", backoff="1000")
    with running("supervise", s):
        waits = eventually(lambda: known(s) if len(lines(s / "said")) == 3 and known(s)["starts_in"] else {})
        assert waits["phase"] == "waiting"
        assert 1 < float(str(waits["starts_in"])) <= 4
        assert waits["last_end"] == "exit 3"
        run("svc", "-u", s)
        eventually(lambda: len(lines(s / "said")) == 4)
        eventually(lambda: float(str(known(s)["starts_in"] or 0)) > 4)
        run("svc", "-dx", "-wD", "-T30000", s)
        eventually(lambda: not supervised(s))


def test_timeout_kill_ends_what_ignores_term(tmp_path: Path) -> None:
    s = extended(
        tmp_path / "s", "trap '' TERM", "echo up >>said", "while :; do sleep 0.05; done", timeout_kill="300"
    )
    with running("supervise", s):
        eventually(lambda: lines(s / "said"))
        assert run("svc", "-d", "-wd", "-T", "30000", s).returncode == 0
        assert known(s)["last_end"] == "signal 9"


def test_notify_is_told_of_each_start_and_end(tmp_path: Path) -> None:
    s = extended(
        tmp_path / "s", "exit 7", finish="#!exit 0", notify='#!echo "$1 $2 $4" >>said', backoff="1000"
    )
    with running("supervise", s):
        said = eventually(lambda: said if len(said := lines(s / "said")) >= 4 else [])
    assert sorted(said[:4]) == ["finish exit 0", "finish start 0", "run exit 7", "run start 0"]


def test_readiness_by_a_newline_on_a_descriptor(tmp_path: Path) -> None:
    s = extended(
        tmp_path / "s",
        "while [ ! -e ../go ]; do sleep 0.02; done",
        "echo >&5",
        "exec sleep 1000",
        notification_fd="5",
    )
    with running("supervise", s):
        up(s)
        assert known(s)["ready"] is False
        late = run("svc", "-wU", "-T200", s)
        assert (late.returncode, late.stderr.decode()) == (
            111, f"svc: fatal: unable to wait longer for {s}: timed out\n",
        )  # fmt: skip
        (tmp_path / "go").touch()
        assert run("svc", "-wU", "-T30000", s).returncode == 0
        assert known(s)["ready"] is True
        assert "up, ready for " in run("svstat", "-v", s).stdout.decode()
        (tmp_path / "go").unlink()
        run("svc", "-t", s)
        eventually(lambda: known(s)["up"] and known(s)["ready"] is False)


NOTIFY = """
import os, socket, time
name = os.environ["NOTIFY_SOCKET"]
assert name.startswith("@")
while not os.path.exists("../go"):
    time.sleep(0.02)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.sendto(b"STATUS=serving \\x1b[0m\\nREADY=1\\n", "\\0" + name[1:])
time.sleep(1000)
"""


def test_readiness_by_notify_socket_from_the_service_or_its_child_only(tmp_path: Path) -> None:
    (tmp_path / "notify.py").write_text(NOTIFY)
    s = extended(tmp_path / "s", f"{PYTHON} ../notify.py & wait", notify_socket="")
    script(s / "run", "echo $NOTIFY_SOCKET >../socket", f"{PYTHON} ../notify.py & wait")
    with running("supervise", s):
        up(s)
        name = eventually(lambda: lines(tmp_path / "socket"))[0]
        stranger = (
            f"import socket as s; s.socket(1, 2).sendto(b'READY=1\\nSTATUS=lie', '\\0{name[1:]}'); input()"
        )
        with running(PYTHON, "-c", stranger, stdin=-1):
            time.sleep(0.5)
            assert known(s)["ready"] is False
        (tmp_path / "go").touch()
        assert run("svc", "-wU", "-T30000", s).returncode == 0
        assert known(s)["remark"] == "serving ?[0m"


def test_waiting_for_a_new_start(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    with running("supervise", s):
        old = up(s)
        assert run("svc", "-t", "-wr", "-T30000", s).returncode == 0
        assert pid_of(s) not in (0, old)


def test_waiting_for_many(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        service(tmp_path / name)
    with running("svscan", tmp_path):
        services = [tmp_path / name for name in ("a", "b", "c")]
        for s in services:
            up(s)
        assert run("svc", "-d", "-wd", "-T30000", *services).returncode == 0
        assert [pid_of(s) for s in services] == [0, 0, 0]
        assert run("svc", "-u", "-wU", "-T30000", *services).returncode == 0
        assert all(alive(pid_of(s)) for s in services)


def test_waiting_in_vain(tmp_path: Path) -> None:
    s = service(tmp_path / "s")
    never = run("svc", "-wu", s)
    assert (never.returncode, never.stderr.decode()) == (
        111, f"svc: fatal: unable to wait for {s}: file does not exist\n",
    )  # fmt: skip
    with running("supervise", s):
        up(s)
        run("svc", "-dx", "-wD", "-T30000", s)
        eventually(lambda: not supervised(s))
    gone = run("svc", "-wu", s)
    assert (gone.returncode, gone.stderr.decode()) == (
        111, f"svc: warning: unable to control {s}: supervise not running\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["-wx", "s"], "unable to wait for x: it is none of u, U, d, D, r"),
        (["-wu", "-Tsoon", "s"], "unable to wait for soon milliseconds: it is no number"),
    ],
)
def test_bad_waits(argv: list[str], why: str) -> None:
    done = run("svc", *argv)
    assert (done.returncode, done.stderr.decode()) == (100, f"svc: fatal: {why}\n")


def test_nonsense_in_a_file_is_a_warning(tmp_path: Path) -> None:
    s = extended(tmp_path / "s", "exec sleep 1000", notification_fd="five", timeout_kill="-1")
    said = tmp_path / "said"
    with said.open("wb") as err, running("supervise", s, stderr=err):
        up(s)
        assert known(s)["ready"] is True
        run("svc", "-d", "-wd", "-T30000", s)
    assert lines(said)[0] == f"supervise: warning: unable to read a number from {s}/notification-fd"


def test_details_of_another_time_count_for_nothing(tmp_path: Path) -> None:
    s = extended(tmp_path / "s")
    with running("supervise", s):
        up(s)
    assert details.read(status.read(str(s)).when, str(s)) is not None
    (s / "extended").unlink()
    with running("supervise", s):
        up(s)
        assert details.read(status.read(str(s)).when, str(s)) is None
        assert known(s)["last_end"] is None


def test_the_next_supervise_knows_that_it_is_ready(tmp_path: Path) -> None:
    s = extended(tmp_path / "s", "echo >&3; exec sleep 1000", notification_fd="3", stop="#!echo stop >>said")
    with running("supervise", s, stop=signal.SIGKILL) as killed:
        pid = up(s)
        assert run("svc", "-wU", "-T30000", s).returncode == 0
        since = known(s)["ready"]
        killed.kill()
        killed.wait()
        with running("supervise", s):
            eventually(lambda: supervised(s))
            assert (known(s)["ready"], known(s)["pid"]) == (since, pid)
            run("svc", "-d", "-wD", "-T30000", s)
    assert lines(s / "said") == ["stop"]


def test_start_that_could_not_be_forked_is_still_to_be_run_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(extended(tmp_path / "s", start="#!exit 0"))
    habits = Extended(ServiceDirectory("s"))
    assert habits.argv("starting") == habits.argv("starting") == ("./start",)
    os.waitpid(habits.spawn("starting", ("./start",)), 0)
    assert habits.argv("starting") is None


def test_what_cannot_be_started_is_tried_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(extended(tmp_path / "s", backoff="20"))
    (tmp_path / "s/run").unlink()
    habits = Extended(ServiceDirectory("s"))
    rests = []
    for _ in range(4):
        with pytest.raises(FileNotFoundError):
            habits.spawn("up", ("./run",))
        habits.ended("up", 0, 111 << 8)
        rests.append(habits.rest())
    assert rests == [1.0, 2.0, 4.0, 8.0]


def test_a_time_to_kill_that_never_comes_is_waited_for(tmp_path: Path) -> None:
    s = extended(
        tmp_path / "s", "trap '' TERM; echo up >>said; while :; do sleep 0.1; done", timeout_kill="9999999999"
    )
    with running("supervise", s) as supervise:
        pid = up(s)
        eventually(lambda: lines(s / "said"))
        run("svc", "-d", s)
        eventually(lambda: stat(s).endswith("want down"))
        assert (alive(pid), alive(supervise.pid)) == (True, True)
        os.kill(pid, signal.SIGKILL)


def test_a_start_that_was_left_running_is_no_run_and_is_made_again(tmp_path: Path) -> None:
    s = extended(
        tmp_path / "s",
        "echo run >>said; exec sleep 1000",
        start="#!echo start >>said; [ -e twice ] || { >twice; sleep 1; exit 1; }",
        finish="#!echo finish >>said",
    )
    with running("supervise", s) as first:
        eventually((s / "twice").exists)
        first.kill()
        first.wait()
        with running("supervise", s):
            eventually(lambda: "run" in lines(s / "said"))
    assert lines(s / "said")[:3] == ["start", "start", "run"]
