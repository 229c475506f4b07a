"""A few megabytes are enough for a program of ours, and all it gets; before others a limit is a limit."""

from __future__ import annotations

import os
import smtplib
import subprocess
from pathlib import Path

import pytest
from programs import environment, eventually, free_port, run, running

MEMORY = {"Max address space": "VmSize", "Max data size": "VmData"}


def limits(pid: int) -> dict[str, tuple[str, str]]:
    """Soft and hard limits by name."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): (line[26:47].strip(), line[47:68].strip()) for line in lines}


def used(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {words[0][:-1]: int(words[1]) * 1024 for words in map(str.split, lines) if words[-1] == "kB"}


@pytest.mark.parametrize("amount", [1_000_000, 9_000_000, 100_000_000])
def test_memory_counts_above_the_interpreters_own(tmp_path: Path, amount: int) -> None:
    command = ("softlimit", "-m", str(amount), "multilog", "t", "./log")
    with running(*command, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        eventually(lambda: (tmp_path / "log/current").exists())
        for limit, line in MEMORY.items():
            left = int(limits(process.pid)[limit][0]) - used(process.pid)[line]
            assert 0 < left <= amount
            assert left > amount - 1_000_000
        assert process.stdin
        process.stdin.write(b"line\n")
        process.stdin.close()
        assert process.wait(30) == 0
    assert (tmp_path / "log/current").read_bytes()[25:] == b" line\n"


def test_only_soft_limits_are_set(tmp_path: Path) -> None:
    before = limits(os.getpid())
    command = ("softlimit", "-m", "9000000", "-c", "0", "-f", "1000000", "-o", "50", "-p", "500", "-t", "60")
    with running(*command, "multilog", "./log", cwd=tmp_path, stdin=subprocess.PIPE) as process:
        eventually(lambda: (tmp_path / "log/current").exists())
        after = limits(process.pid)
    assert {name: hard for name, (_, hard) in after.items()} == {
        name: hard for name, (_, hard) in before.items()
    }
    assert after["Max open files"][0] == "50"
    assert after["Max file size"][0] == "1000000"
    assert after["Max cpu time"][0] == "60"


def test_who_takes_more_is_refused_and_says_so(tmp_path: Path) -> None:
    rules = b"".join(
        b'10.%d.%d.%d:allow,X="%d"\n' % (n >> 16, n >> 8 & 255, n & 255, n) for n in range(60_000)
    )
    codes = {}
    for amount in ("2000000", "500000000"):
        done = run("softlimit", "-m", amount, "tcprules", "cdb", "tmp", cwd=tmp_path, stdin=rules)
        codes[done.returncode] = done.stderr
        assert (tmp_path / "cdb").exists() == (done.returncode == 0)
    assert codes == {111: b"tcprules: fatal: out of memory\n", 0: b""}


@pytest.mark.parametrize("amount", ["1", "1000", "30000", "100000", "200000", "300000", "500000"])
def test_too_little_to_start_with_is_one_line(amount: str) -> None:
    done = run("softlimit", "-d", amount, "-a", amount, "tai64n", stdin=b"x\n")
    failed = b"tai64n: fatal: unable to start: out of memory\n"
    assert (done.returncode, done.stderr) in (
        (111, failed),
        (111, b"tai64n: fatal: out of memory\n"),
        (0, b""),
    )


@pytest.mark.parametrize("amount", [2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1, 2**64, 10**30])
def test_a_number_may_have_64_bits(amount: int) -> None:
    done = run("softlimit", "-r", str(amount), "cat", "/proc/self/limits")
    shown = next(line for line in done.stdout.decode().splitlines() if "resident" in line).split()[3]
    assert shown == (str(amount) if amount < 2**64 - 1 else "unlimited")


@pytest.mark.parametrize("options", [["-H", "-R", "-l0"], ["-R"]], ids=["no names", "with DNS"])
def test_the_run_scripts_of_old_work_and_their_limit_holds(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control/me").write_text("me.example\n")
    port = free_port()
    server = ("tcpserver", *options, "-t1", "127.0.0.1", str(port), "qmail-smtpd")
    env = environment(QMAILHOME=str(tmp_path))
    with running("softlimit", "-m", "8000000", *server, env=env, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: _listens(process.pid, port))
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            assert client.ehlo()[0] == 250
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            for pid in [process.pid, *map(int, children)]:
                for limit, line in MEMORY.items():
                    assert 0 < int(limits(pid)[limit][0]) - used(pid)[line] <= 8_000_000


def _listens(pid: int, port: int) -> bool:
    table = Path(f"/proc/{pid}/net/tcp").read_text()
    return f":{port:04X} 00000000:0000 0A" in table
