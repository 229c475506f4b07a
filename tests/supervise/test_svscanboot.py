"""svscanboot runs svscan in a clean environment, shows its errors, and ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from programs import BIN, environment, eventually, run, running
from service_directories import alive, command_line, descriptors, lines, parent, pid_of, service, up

TEMPLATES = Path(__file__).parents[2] / "service-templates/boot"


def children(pid: int) -> dict[str, int]:
    """The children of a process by the first word of their command lines."""
    pids = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return {command_line(pid).partition(" ")[0]: pid for pid in pids}


def test_it_runs_svscan_with_path_only_and_shows_errors_in_a_title(tmp_path: Path) -> None:
    a = service(tmp_path / "a", "env >../env.new; mv ../env.new ../env; exec sleep 1000")
    (tmp_path / "dangling").symlink_to("nowhere")
    with running("svscanboot", tmp_path, env=environment(SECRET="x")) as boot:
        up(a)
        found = eventually(lambda: c if len(c := children(boot.pid)) == 2 and "readproctitle" in c else {})
        shown = "svscan: warning: unable to stat dangling: file does not exist"
        eventually(lambda: shown in command_line(found["readproctitle"]))
        assert command_line(found["svscan"]) == f"svscan {tmp_path}"
        assert {fd: descriptors(boot.pid)[fd] for fd in (0, 1, 2)} == dict.fromkeys((0, 1, 2), "/dev/null")
        assert descriptors(found["svscan"])[0] == "/dev/null"
    names = {line.partition("=")[0] for line in lines(tmp_path / "env")}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH"}
    path = next(line for line in lines(tmp_path / "env") if line.startswith("PATH="))
    assert path.startswith(f"PATH={BIN}:/command:/usr/local/bin:")


def test_term_is_passed_on_and_waited_for(tmp_path: Path) -> None:
    a = service(tmp_path / "a", log=("exec cat",))
    with running("svscanboot", tmp_path) as boot:
        pids = [up(a), up(a / "log")]
        eventually(lambda: len(children(boot.pid)) == 2)
        boot.terminate()
        assert boot.wait(60) == 0
        assert not any(alive(pid) for pid in pids)


def test_what_an_earlier_svscan_left_behind_is_ended_first(tmp_path: Path) -> None:
    a = service(tmp_path / "a", log=("exec cat",))
    with running("svscan", tmp_path) as svscan:
        old = [up(a), up(a / "log")]
        svscan.kill()
        svscan.wait()
        assert all(alive(pid) for pid in old)
        with running("svscanboot", tmp_path):
            eventually(lambda: not any(alive(pid) for pid in old))
            eventually(lambda: pid_of(a) not in (0, None, *old))  # the status may lag behind the death


def test_as_a_daemon_it_returns_at_once_and_runs_on_in_a_session_of_its_own(tmp_path: Path) -> None:
    a = service(tmp_path / "a")
    done = run("svscanboot", "--daemon", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    svscan = parent(parent(up(a)))
    boot = parent(svscan)
    try:
        assert command_line(boot) == f"svscanboot --daemon {tmp_path}"
        assert os.getsid(boot) != os.getsid(0)
        assert os.readlink(f"/proc/{boot}/cwd") == "/"
    finally:
        os.kill(boot, signal.SIGTERM)
        eventually(lambda: not alive(boot))
    assert not alive(svscan)


def test_bad_usage_and_a_directory_that_is_not_there() -> None:
    usage = run("svscanboot", "a", "b")
    assert (usage.returncode, usage.stderr) == (100, b"svscanboot: usage: svscanboot [--daemon] [dir]\n")
    missing = run("svscanboot", "/nonexistent")
    assert missing.returncode == 111
    assert missing.stderr == b"svscanboot: fatal: unable to read /nonexistent: file does not exist\n"


def test_the_rc_script_starts_and_stops_it(tmp_path: Path) -> None:
    a = service(tmp_path / "a")
    script = (
        (TEMPLATES / "svscan.rc").read_text().replace("PATH=/usr/local/bin", f"PATH={BIN}:/usr/local/bin")
    )
    assert str(BIN) in script
    (tmp_path / "rc").write_text(script)

    def rc(action: str) -> str:
        env = environment(SERVICES=str(tmp_path))
        return run("sh", tmp_path / "rc", action, env=env, timeout=90).stdout.decode()

    try:
        assert rc("start") == "Starting svscan.\n"
        pid = up(a)
        assert rc("start") == "svscan is already running.\n"
        assert rc("status").startswith(f"{a}: up (pid {pid}) ")
    finally:
        stopped = rc("stop")
    assert stopped == "Stopping svscan and its services.\n"
    assert not alive(pid)
    assert rc("stop") == "svscan is not running.\n"


def test_the_boot_files_are_well_formed() -> None:
    fields = (TEMPLATES / "inittab").read_text().rstrip("\n").split(":")
    assert fields[2:] == ["respawn", "/usr/local/bin/svscanboot"]
    assert subprocess.run(["sh", "-n", TEMPLATES / "svscan.rc"], check=False).returncode == 0


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = (TEMPLATES / "svscan.service").read_text()
    (tmp_path / "svscan.service").write_text(
        unit.replace("/usr/local/bin/svscanboot", str(BIN / "svscanboot"))
    )
    try:
        seen = run("systemd-analyze", "verify", "--man=no", tmp_path / "svscan.service")
    except OSError:
        pytest.skip("systemd-analyze is not installed (apt install systemd)")
    assert (seen.returncode, seen.stderr) == (0, b"")
