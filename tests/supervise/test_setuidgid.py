"""The child, in the same process or not, has the account's user and group, and nothing of root's."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest
from programs import eventually, run, running

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
KEYS = ("Uid", "Gid", "Groups", "CapEff", "CapPrm")


def credentials(status: str) -> dict[str, list[str]]:
    pairs = (line.split(":", 1) for line in status.splitlines())
    return {name: value.split() for name, value in pairs if name in KEYS}


@pytest.mark.root
@needs_root
def test_a_program_of_ours_and_another_have_the_same_rights(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    (tmp_path / "log").mkdir()
    os.chown(tmp_path / "log", nobody.pw_uid, nobody.pw_gid)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.owner() == "root" and parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    other = run("setuidgid", "nobody", "cat", "/proc/self/status").stdout.decode()
    command = ("setuidgid", "nobody", "multilog", "t", "./log")
    with running(*command, cwd=tmp_path, stdin=subprocess.PIPE) as process:
        eventually(lambda: (tmp_path / "log/current").exists())
        ours = Path(f"/proc/{process.pid}/status").read_text()
    assert credentials(ours) == credentials(other)
    assert credentials(ours)["Groups"] == [str(nobody.pw_gid)]
    assert {file.owner() for file in (tmp_path / "log").iterdir()} == {"nobody"}


@pytest.mark.root
@needs_root
def test_it_is_for_good() -> None:
    done = run("setuidgid", "nobody", "sh", "-c", "grep -c 65534.65534.65534.65534 /proc/self/status; exit 5")
    assert (done.returncode, done.stdout) == (5, b"2\n")


@pytest.mark.parametrize("account", ["", "0", "0:0", "no such", "a" * 1000, "\udcff"])
def test_what_is_no_account_is_refused(account: str) -> None:
    done = run("setuidgid", account, "true")
    assert (done.returncode, done.stderr) == (
        111,
        b"setuidgid: fatal: unknown account " + os.fsencode(account) + b"\n",
    )
