"""qmail-lspawn and qmail-local: deliveries per second, one at a time and ten."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from programs import run
from queues import MailHome, make_home
from spawners import RunningSpawner, put_message, spawner

from qmail.home import LEDGER

ROUNDS = 3
DELIVERIES = 200  # a round
MESSAGE = b"Subject: test\n\n" + b"x" * 69 * 28 + b"\n"  # 2 kB
INSTRUCTIONS = {
    "Maildir": "./Maildir/",
    "mbox": "./Mailbox",
    "own program": "|bouncesaying no false",
    "the same by sh": "|bouncesaying 'no' false",
}


def measure() -> Iterator[str]:
    """In $TMPDIR: on a disk the syncs cost most, in memory it is the programs alone."""
    with tempfile.TemporaryDirectory() as name:
        home = _home(Path(name) / "mail")
        with spawner(home, "qmail-lspawn", "./Maildir/") as started:
            for what in INSTRUCTIONS:
                recipient = what.replace(" ", "_").encode() + b"@x"
                started.deliver(recipient)
                for at_once in (1, 10):
                    rates = [_rate(started, recipient, at_once) for _ in range(ROUNDS)]
                    best, median = max(rates), statistics.median(rates)
                    yield f"{what}, {at_once} at a time: median {median:.0f}/s, best {best:.0f}/s"


def _home(path: Path) -> MailHome:
    home = make_home(path)
    (path / LEDGER).touch()
    user = path / "user"
    for part in ("new", "cur", "tmp"):
        (user / "Maildir" / part).mkdir(parents=True)
    for what, text in INSTRUCTIONS.items():
        (user / f".qmail-{what.replace(' ', '_').lower()}").write_text(f"{text}\n")
    (path / "users").mkdir()
    (path / "users/assign").write_text(f"+:me:{os.getuid()}:{os.getgid()}:{user}:-::\n.\n")
    made = run("qmail-newu", env=home.environment())
    assert made.returncode == 0, made.stderr
    put_message(home, content=MESSAGE)
    return home


def _rate(started: RunningSpawner, recipient: bytes, at_once: int) -> float:
    """Deliveries per second, with so many under way all the time."""
    begin = time.monotonic()
    for slot in range(at_once):
        started.order(slot, recipient)
    for number in range(DELIVERIES):
        slot, text = started.report()
        assert text.startswith(b"K"), text
        if number < DELIVERIES - at_once:
            started.order(slot, recipient)
    return DELIVERIES / (time.monotonic() - begin)
