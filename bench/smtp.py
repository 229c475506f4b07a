"""One-message SMTP connections accepted and delivered to Maildir per second, beside Postfix in the same run.

smtp-source opens 20 sessions at a time and sends one message of 2 kB in each.
"accepted" counts to its end, "delivered" to the last file in new/.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import postfix
from instances import HOST, running_instance
from programs import eventually, free_port

MESSAGES = 2000
ROUNDS = 3
SESSIONS = 20
SIZE = 2048  # bytes


@dataclass(frozen=True, slots=True)
class Rates:
    """Messages per second."""

    accepted: float
    delivered: float


def measure() -> Iterator[str]:
    """Yield the rates of each, and ours divided by Postfix's, medians of pairs."""
    if not shutil.which("smtp-source", path="/usr/sbin:/usr/bin"):
        yield "smtp-source is not installed (Debian: postfix): nothing to measure with"
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        top = Path(name)
        top.chmod(0o755)
        with running_instance(top / "ours") as ours:
            (top / "theirs").mkdir()
            if os.getuid() or not postfix.installed():
                for _ in range(ROUNDS):
                    yield text("paperpath", load(ours.port, HOST, ours.new_mail))
                return
            port = free_port()
            with postfix.running(top / "theirs", port) as maildir:
                load(port, postfix.DOMAIN, maildir / "new", 100)
                load(ours.port, HOST, ours.new_mail, 100)
                yield from pairs(ours.port, ours.new_mail, port, maildir / "new")


def pairs(our_port: int, our_mail: Path, their_port: int, their_mail: Path) -> Iterator[str]:
    ratios = []
    for _ in range(ROUNDS):
        theirs = load(their_port, postfix.DOMAIN, their_mail)
        yield text("Postfix  ", theirs)
        ours = load(our_port, HOST, our_mail)
        yield text("paperpath", ours)
        ratios.append((ours.accepted / theirs.accepted, ours.delivered / theirs.delivered))
    accepted, delivered = (median(column) for column in zip(*ratios, strict=True))
    yield f"paperpath / Postfix: accepted {accepted:.2f}, delivered {delivered:.2f}"


def text(who: str, rates: Rates) -> str:
    return f"{who}  accepted {rates.accepted:7.0f}/s  delivered {rates.delivered:7.0f}/s"


def load(port: int, domain: str, mail: Path, messages: int = MESSAGES) -> Rates:
    """Send `messages`, wait until all are in `mail`, and clear them away."""
    begin = time.monotonic()
    subprocess.run(
        [
            "/usr/sbin/smtp-source", "-s", str(SESSIONS), "-m", str(messages), "-l", str(SIZE),
            "-f", f"sender@{domain}", "-t", f"box@{domain}", f"127.0.0.1:{port}",
        ],
        check=True, timeout=600,
    )  # fmt: skip
    accepted = time.monotonic() - begin
    eventually(lambda: mail.exists() and len(os.listdir(mail)) >= messages, "delivery", 600)
    delivered = time.monotonic() - begin
    for file in mail.iterdir():
        file.unlink()
    return Rates(messages / accepted, messages / delivered)
