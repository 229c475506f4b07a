"""A program that runs in the process of the one before it is, and looks, as if exec had started it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from programs import BIN, environment, eventually, run, running

from supervise import chain
from supervise.program import Become

THEIRS = Path("/usr/bin/envuidgid")

DRIVER = """
import json, os, signal, sys
from supervise import chain
from supervise.program import program

@program("driver", helps=False)
def main(argv):
    way, code, *argv = argv
    exec(code)
    with open("before", "w") as file:
        json.dump([os.getpid(), open("/proc/self/auxv", "rb").read().hex()], file)
    if way == "exec":
        os.execvpe(argv[0], argv, dict(os.environ))
    chain.run(argv)

main()
"""

Facts = dict[str, object]


def driver(way: str, code: str, *argv: str) -> list[str]:
    """A command that does `code`, and then becomes `argv` by `way`: exec or chain."""
    return [sys.executable, "-c", DRIVER, way, code, *argv]


def facts(pid: int, *, since: list[object] | None = None) -> Facts:
    """What the system shows of a process."""
    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
    masks = {name: status[name] for name in ("SigBlk", "SigIgn", "SigCgt", "Name", "Umask")}
    fds = {int(fd.name): os.readlink(fd) for fd in (proc / "fd").iterdir()}
    return {
        **masks,
        "fds": {fd: target for fd, target in fds.items() if not target.startswith(("pipe:", "socket:"))},
        "cwd": os.readlink(proc / "cwd"),
        "same image": since == [pid, (proc / "auxv").read_bytes().hex()],
    }


def observed(tmp_path: Path, way: str, code: str) -> Facts:
    """The facts of a multilog that comes after `code` by `way`, once it stands and waits for lines."""
    home = tmp_path / way
    home.mkdir()
    command = driver(way, code, "multilog", "t", "./log")
    with running(*command, cwd=home, env=environment(HOME="/"), stdin=subprocess.PIPE) as process:
        eventually(lambda: (home / "log/current").exists())
        before = json.loads((home / "before").read_text())
        seen = facts(process.pid, since=before)
        seen["title"] = Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0 ")
    seen["exit"] = process.returncode
    return seen


CODES = {
    "handlers go": "signal.signal(signal.SIGUSR1, print); signal.signal(signal.SIGCHLD, print)",
    "ignored signals stay": "for n in (signal.SIGHUP, signal.SIGQUIT): signal.signal(n, signal.SIG_IGN)",
    "blocked signals stay": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})",
    "close-on-exec": "os.open('/dev/full', os.O_RDONLY); os.dup2(os.open('/dev/null', os.O_RDONLY), 20)",
    "directory and umask": "os.mkdir('log'); os.umask(0o027)",
    "a wakeup descriptor": "signal.set_wakeup_fd(os.pipe2(os.O_NONBLOCK)[1])",
}


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_looks_as_after_exec(tmp_path: Path, code: str) -> None:
    expected, seen = (observed(tmp_path, way, code) for way in ("exec", "chain"))
    assert (expected.pop("same image"), seen.pop("same image")) == (False, True)
    assert _without_place(seen, tmp_path) == _without_place(expected, tmp_path)
    assert seen["title"] == b"multilog t ./log"
    assert seen["Name"] == "multilog"


def _without_place(facts: Facts, tmp_path: Path) -> str:
    shown = repr(facts)
    return shown.replace(f"{tmp_path}/exec", "HOME").replace(f"{tmp_path}/chain", "HOME")


def test_the_environment_is_the_new_one_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/NEW").write_text("new")
    (tmp_path / "env/OLD").write_text("")
    multilog = ("multilog", "s4096", "!/usr/bin/env >&2", "./log")
    done = run("envdir", "env", *multilog, cwd=tmp_path, env={"OLD": "1", "KEPT": "2", "PATH": f"{BIN}"},
               stdin=b"x" * 5000)  # fmt: skip
    shown = [
        line for line in done.stderr.decode().splitlines() if not line.startswith(("PWD=", "_=", "SHLVL="))
    ]
    assert sorted(shown) == sorted(["KEPT=2", "NEW=new", f"PATH={BIN}"])


def test_the_time_zone_is_that_of_the_new_environment(tmp_path: Path) -> None:
    (tmp_path / "TZ").write_text("IST-5:30")
    done = run("envdir", ".", "tai64nlocal", cwd=tmp_path, stdin=b"@4000000037c219bf2ef02e94\n")
    assert done.stdout == b"1999-08-24 09:34:05.787492500\n"


def test_an_ignored_sigpipe_stays_so(tmp_path: Path) -> None:
    code = "signal.signal(signal.SIGPIPE, signal.SIG_IGN)"  # a new interpreter could not tell
    ignored = int(str(observed(tmp_path, "chain", code)["SigIgn"]), 16)
    assert ignored & 1 << signal.SIGPIPE - 1


def test_the_exit_code_is_the_last_programs() -> None:
    done = run("envuidgid", "root", "pgrphack", "setlock")
    assert (done.returncode, done.stderr[:16]) == (100, b"setlock: usage: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
def test_a_signal_kills_it_as_any_program(number: signal.Signals, tmp_path: Path) -> None:
    with running("envuidgid", "root", "tai64n", stdin=subprocess.PIPE) as process:
        comm = Path(f"/proc/{process.pid}/comm")
        eventually(lambda: comm.read_text() == "tai64n\n")
        process.send_signal(number)
        assert process.wait(30) == -number


def test_a_closed_pipe_kills_it() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [BIN / "envuidgid", "root", "tai64n"], input=b"x\n", stdout=closed, env=environment(), check=False
        )
    assert done.returncode == -signal.SIGPIPE


# which program it is


def script(file: Path, text: str = "#!/bin/sh\necho mine $*\n", mode: int = 0o755) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_users_own_program_earlier_in_path_wins(tmp_path: Path) -> None:
    script(tmp_path / "tai64n")
    env = environment()
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    assert run("envuidgid", "root", "tai64n", "x", env=env).stdout == b"mine x\n"


def test_a_users_own_program_later_in_path_does_not(tmp_path: Path) -> None:
    script(tmp_path / "tai64n")
    env = environment()
    env["PATH"] += f":{tmp_path}"
    assert run("envuidgid", "root", "tai64n", "x", env=env).stdout == b""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is the whole PATH, and the working directory."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_links_to_our_scripts_are_ours(path: Path) -> None:
    (path / "one").symlink_to(BIN / "svok")
    (path / "two").symlink_to("one")
    os.link(shutil.copy2(BIN / "svok", path / "three"), path / "four")
    for name in ("one", "two", "three", "four", "./one", str(path / "two")):
        assert chain.find(name)[1] == "supervise.svok", name


@pytest.mark.parametrize(
    "text",
    ["#!/bin/sh\nfrom supervise.svok import main\n", "from supervise.svok import main\n", "",
     f"#!{sys.prefix}/bin/python\nfrom elsewhere.svok import main\n",
     f"#!{sys.prefix}/bin/python\nprint('from supervise.svok import main')\n",
     f"#!{sys.prefix}/bin/python"],
)  # fmt: skip
def test_what_only_looks_like_ours_is_not(path: Path, text: str) -> None:
    script(path / "program", text)
    assert chain.find("program") == (f"{path}/program", None)


def test_a_long_interpreter_path_is_seen_through(path: Path) -> None:
    # what pip writes when #! would be too long for the kernel
    wrapped = f"#!/bin/sh\n'''exec' \"{sys.prefix}/bin/python\" \"$0\" \"$@\"\n' '''\nimport sys\n"
    script(path / "program", wrapped + "from supervise.svok import main\n")
    assert chain.find("program")[1] == "supervise.svok"


def test_our_script_without_the_right_to_run_it_is_refused(path: Path) -> None:
    shutil.copy(BIN / "svok", path / "svok")
    (path / "svok").chmod(0o644)
    with pytest.raises(PermissionError):
        chain.find("svok")


PLAIN, DIRECTORY = "#!plain\n", "/"
CASES = {
    "nothing there": ("a:b", {}),
    "not executable": ("a:b", {"a/program": PLAIN}),
    "not executable, then another": ("a:b", {"a/program": PLAIN, "b/program": "#!/bin/sh\necho b\n"}),
    "a directory": ("a:b", {"a/program": DIRECTORY}),
    "a directory, then another": ("a:b", {"a/program": DIRECTORY, "b/program": "#!/bin/sh\necho b\n"}),
    "a file in PATH": ("a:b", {"a": PLAIN, "b/program": "#!/bin/sh\necho b\n"}),
    "a loop": ("a:b", {"a/program": "-> program"}),
    "a dangling link": ("a:b", {"a/program": "-> gone", "b/program": "#!/bin/sh\necho b\n"}),
    "no interpreter": ("a:b", {"a/program": "#!/no/such/thing\n"}),
    "no format": ("a:b", {"a/program": "echo a\n", "b/program": "#!/bin/sh\necho b\n"}),
    "an empty element": ("a::b", {"program": "#!/bin/sh\necho here\n"}),
    "an empty PATH": ("", {"program": "#!/bin/sh\necho here\n"}),
    "a trailing colon": ("a:", {"program": "#!/bin/sh\necho here\n"}),
}


def lay_out(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        if text == DIRECTORY:
            (root / name).mkdir()
        elif text.startswith("-> "):
            (root / name).symlink_to(text[3:])
        else:
            script(root / name, text, 0o644 if text == PLAIN else 0o755)


@pytest.mark.skipif(not THEIRS.exists(), reason="the C original is missing: Debian package daemontools")
@pytest.mark.parametrize(("path", "files"), CASES.values(), ids=CASES)
def test_finds_what_the_original_finds(tmp_path: Path, path: str, files: dict[str, str]) -> None:
    lay_out(tmp_path, files)
    env = {"PATH": path}
    command = ["root", "program", "x"]
    expected = run(THEIRS, *command, cwd=tmp_path, env=env)
    seen = run(BIN / "envuidgid", *command, cwd=tmp_path, env=env)
    assert (seen.returncode, seen.stdout, seen.stderr) == (
        expected.returncode,
        expected.stdout,
        expected.stderr,
    )


def test_run_raises_what_it_becomes(path: Path) -> None:
    (path / "svok").symlink_to(BIN / "svok")
    with pytest.raises(Become) as become:
        chain.run(["svok", "x"], {"A": "b"})
    image = become.value
    assert (image.module, image.file, image.argv, image.env) == (
        "supervise.svok", f"{path}/svok", ("svok", "x"), {"A": "b"},
    )  # fmt: skip


# children


def test_no_interpreter_starts_between_programs_of_ours(tmp_path: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("strace is missing (Debian package strace)")
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-qq", "-o", str(trace), "-e", "trace=execve")
    own = (BIN / "envuidgid", "root", "softlimit", "-o", "50", "setlock", "lock", "multilog", "./log")
    assert run(*strace, *own, cwd=tmp_path).returncode == 0
    started = [line for line in trace.read_text().splitlines() if line.endswith("= 0")]
    assert len(started) == 1, started
    assert stat.S_IMODE((tmp_path / "log/current").stat().st_mode) == 0o744


def test_all_programs_of_a_command_line_are_loaded_with_what_they_need_later() -> None:
    script = (
        "import sys; from supervise import chain\n"
        "assert chain.preload_all(['sh', 'rblsmtpd']) is None\n"
        "assert 'ucspi.rblsmtpd' not in sys.modules\n"
        "first = chain.preload_all(['rblsmtpd', '-r', 'list.test', '', '/', 'addcr'])\n"
        "wanted = ('ucspi.rblsmtpd', 'ucspi.dns_lookup', 'ucspi.addcr')\n"
        "print(first.name, *(name in sys.modules for name in wanted))\n"
    )
    assert run("python", "-c", script).stdout == b"rblsmtpd True True True\n"
