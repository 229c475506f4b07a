"""On a system with qmail's accounts every part is who it should be, and mail goes through all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from programs import BIN, environment, eventually, run, running

USERS = {
    "alias": 7790, "qmaild": 7791, "qmaill": 7792, "qmailp": 7793, "qmailq": 7794, "qmailr": 7795,
    "qmails": 7796,
}  # fmt: skip
QMAIL, NOFILES = 7797, 7798
NOBODY = 65534
PARTS = {  # what ps shows: uid, gid
    "qmail-send": (USERS["qmails"], QMAIL),
    "qmail-lspawn": (0, QMAIL),
    "qmail-rspawn": (USERS["qmailr"], QMAIL),
    "qmail-clean": (USERS["qmailq"], QMAIL),
    "qmail-queued": (USERS["qmailq"], QMAIL),
}


def others_can_run_us() -> bool:
    """Can a user without rights run the interpreter, and import from it?"""
    command = ["setpriv", "--reuid=7796", "--regid=7797", "--clear-groups", str(BIN / "python")]
    code = "import qmail.home, signal, sys; assert sys.base_prefix == sys.argv[1]"
    done = subprocess.run([*command, "-c", code, sys.base_prefix], capture_output=True, cwd="/", check=False)
    return done.returncode == 0


pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root"),
    pytest.mark.skipif(not shutil.which("unshare"), reason="unshare is not installed"),
    pytest.mark.skipif(
        os.getuid() == 0 and not others_can_run_us(), reason="other users cannot read this interpreter"
    ),
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A mail home of root's, where everybody may look; joe's Maildir is nobody's."""
    for directory in [tmp_path, *tmp_path.parents[:2]]:
        directory.chmod(0o755)
    made = tmp_path / "home"
    for name in ("control", "alias", "users", "joe/Maildir/new", "joe/Maildir/cur", "joe/Maildir/tmp"):
        (made / name).mkdir(parents=True)
    (made / "bin").symlink_to(BIN)
    (made / "control/me").write_text("mx.example.org\n")
    user = f"nobody:{NOBODY}:{NOBODY}:{made}/joe"
    (made / "users/assign").write_text(f"=joe:{user}:::\n+:{user}:-::\n.\n")
    for path in [made / "joe", *(made / "joe").rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    accounts = [f"{name}:x:{uid}:{NOFILES}::/:/bin/false\n" for name, uid in USERS.items()]
    groups = [f"qmail:x:{QMAIL}:\n", f"nofiles:x:{NOFILES}:\n"]
    (tmp_path / "passwd").write_text(Path("/etc/passwd").read_text() + "".join(accounts))
    (tmp_path / "group").write_text(Path("/etc/group").read_text() + "".join(groups))
    return made


def with_accounts(home: Path, command: str) -> list[str]:
    """A shell command where /etc/passwd and /etc/group have qmail's accounts."""
    binds = [f"mount --bind {home.parent}/{name} /etc/{name}" for name in ("passwd", "group")]
    return ["unshare", "-m", "sh", "-c", " && ".join([*binds, command])]


def test_every_part_is_its_own_user_and_a_bounce_comes_back(home: Path, tmp_path: Path) -> None:
    env = environment(QMAILHOME=str(home))
    assert run(*with_accounts(home, f"qmail-newu && queue-fix {home}/queue"), env=env).returncode == 0
    log = tmp_path / "log"
    log.touch()
    command = f'exec qmail-start ./Maildir/ sh -c "exec cat >>{log}"'
    log.chmod(0o666)
    with running(*with_accounts(home, command), env=env, stdout=subprocess.DEVNULL) as process:
        eventually(lambda: b"status: local 0/10" in log.read_bytes(), "the log's first line")
        eventually(lambda: (home / "queued/socket").exists(), "qmail-queued listens")
        eventually(lambda: parts(process.pid).items() >= PARTS.items(), str(PARTS))
        found = parts(process.pid)
        for part in processes(process.pid):
            if part.uids().real:
                status = Path(f"/proc/{part.pid}/status").read_text()
                groups = status.partition("Groups:")[2].splitlines()[0].split()
                assert groups == [str(part.gids().real)]
                assert "CapEff:\t0000000000000000" in status
        assert found["cat"] == (USERS["qmaill"], NOFILES)
        queue_as_nobody(home, tmp_path, env)
        eventually(lambda: len(list((home / "joe/Maildir/new").iterdir())) == 2, log.read_text())
    texts = sorted(path.read_text() for path in (home / "joe/Maildir/new").iterdir())
    assert any(f"invoked by uid {NOBODY}" in text and "Subject: hi" in text for text in texts)
    assert any("invoked for bounce" in text and "<jim@mx.example.org>:" in text for text in texts)
    assert f"uid {USERS['qmails']}\n" in log.read_text()


def processes(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children()]


def parts(pid: int) -> dict[str, tuple[int, int]]:
    """Uid and gid of each process, by the first word that ps shows."""
    return {part.cmdline()[0].split()[0]: (part.uids().real, part.gids().real) for part in processes(pid)}


def queue_as_nobody(home: Path, tmp_path: Path, env: dict[str, str]) -> None:
    message, envelope = tmp_path / "message", tmp_path / "envelope"
    message.write_bytes(b"Subject: hi\n\nbody\n")
    envelope.write_bytes(b"Fjoe@mx.example.org\0Tjoe@mx.example.org\0Tjim@mx.example.org\0\0")
    command = [
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        str(BIN / "qmail-queue"),
    ]
    with message.open("rb") as zero, envelope.open("rb") as one:
        done = subprocess.run(command, stdin=zero, stdout=one.fileno(), env=env, check=False)
    assert done.returncode == 0
