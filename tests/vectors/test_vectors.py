"""What the recorded C originals do, our programs do: one test a program, on its file of vectors.

README.md beside this file gives the format.  A file whose program is not
built yet is missing from `.venv/bin`, and fails.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from programs import BIN

from supervise import accounts

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.jsonl"))
ACCOUNTS = {"qmail-getpw": ("alias", "joe")}
LATER = {"qmail-pop3d", "qmail-popup", "maildir2mbox"}  # mailboxes and POP3 are still to come


def missing_accounts(program: str) -> list[str]:
    """The accounts that a program's vectors were recorded with, and this machine lacks."""
    return [name for name in ACCOUNTS.get(program, ()) if not accounts.look_up(name)]


@pytest.mark.parametrize("file", [f for f in FILES if f.stem not in LATER], ids=lambda f: f.stem)
def test_behaves_as_recorded(file: Path) -> None:
    missing = missing_accounts(file.stem)
    if missing:
        pytest.skip(f"no account {' and no account '.join(missing)} on this machine")
    runner = [sys.executable, str(HERE / "run_vectors.py"), "--bin", str(BIN), "--home-env", "QMAILHOME"]
    runner += ["--jobs", "2", "--show", "10", str(file)]
    done = subprocess.run(runner, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
