"""make run: a whole mail system in one directory, shown at work.

SYNOPSIS   python -m qmail.demonstration DIR [qmail-install's options]
DESCRIPTION  Makes (or brings up to date) the private instance in DIR, runs
           svscan on its services, sends one message through it by SMTP, shows
           the services, the message's log lines and the delivered file, and
           stays until Ctrl-C or SIGTERM; then it ends every process it started,
           and waits for deliveries under way.
EXIT       0: stopped as asked.  111: something did not work; it says what.
"""

from __future__ import annotations

import os
import select
import signal
import smtplib
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from qmail import install
from qmail.instance import Instance
from supervise import chain, children, svok
from supervise.program import PERMANENT, Fatal, Usage, program, say, unable_to
from supervise.signals import SignalPipe

PATIENCE = 20.0  # seconds for what takes one on an idle machine
RECIPIENT = "you"

Seen = TypeVar("Seen")


def show(text: str) -> None:
    say(text, 1)


@program("make run", helps=False)
def main(argv: Sequence[str]) -> int:
    if not argv or argv[0].startswith("-"):
        raise Usage("python -m qmail.demonstration DIR [qmail-install's options]")
    home = Path(os.path.abspath(argv[0]))
    code = install.main.run(["--private", str(home), *argv[1:]])
    if code:
        return code
    options = Instance.load(home).options
    host, port = options["host"], int(options["smtp-port"])
    refuse_second(home)
    check_port(port)
    with SignalPipe([signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD]) as signals:
        scanner = start_svscan(home)
        try:
            demonstrate(home, host, port)
            stay(scanner, signals)
        finally:
            stop(scanner)
    return 0


def refuse_second(home: Path) -> None:
    """Two svscans on one service directory would fight."""
    if svok.main.run([str(home / "service/qmail-send")]) == 0:
        raise Fatal(f"{home} is running already: try {home}/bin/qmailctl stat", PERMANENT)


def check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Fatal(
                f"port {port} on 127.0.0.1 is taken: choose another with make run RUN_OPTIONS='--smtp-port N'"
            ) from error


def start_svscan(home: Path) -> int:
    """svscan on the services, in a session of its own: Ctrl-C is for us, and we stop it in order."""

    def body() -> int:
        os.setsid()
        os.environ["PATH"] = f"{home}/bin:{os.environ.get('PATH', chain.DEFAULT_PATH)}"
        with unable_to("run svscan"):
            chain.run(["svscan", f"{home}/service"])

    with unable_to("start svscan"):
        return children.fork("make run", body)


def demonstrate(home: Path, host: str, port: int) -> None:
    wait_for(lambda: answers(port), f"qmail-smtpd on port {port}; see {home}/log/qmail-smtpd/current")
    subject = f"make run at {time.strftime('%H:%M:%S')}"
    send(host, port, subject)
    delivered = wait_for(lambda: find(home / "home/Maildir/new", subject), f"mail in {home}/home/Maildir/new")
    number = delivered.stat().st_ino
    lines = wait_for(lambda: log_of_last(home), f"the end of the message in {home}/log/qmail-send/current")
    show("\n== qmailctl stat")
    call(f"{home}/bin/qmailctl", "stat")
    show(f"\n== the message in {home}/log/qmail-send/current")
    show("\n".join(lines))
    show(f"\n== {delivered}  (inode {number})")
    show(delivered.read_text(errors="replace"))
    show(farewell(home, host, port))


def farewell(home: Path, host: str, port: int) -> str:
    smtp = f'smtplib.SMTP("127.0.0.1", {port})'
    return f"""\
Send another, from a second terminal:
    swaks --server 127.0.0.1:{port} --to anyone@{host}
    echo 'Subject: hello' | {home}/bin/sendmail anyone@{host}
    python3 -c 'import smtplib; {smtp}.sendmail("me@{host}", "anyone@{host}", "hello")'
It arrives in {home}/home/Maildir/new.  Look after it with {home}/bin/qmailctl (try: help).
Ctrl-C stops everything."""


def wait_for(look: Callable[[], Seen | None], what: str) -> Seen:
    end = time.monotonic() + PATIENCE
    while (seen := look()) is None:
        if time.monotonic() > end:
            raise Fatal(f"waited {PATIENCE:.0f} seconds in vain for {what}")
        time.sleep(0.05)
    return seen


def answers(port: int) -> bool | None:
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE):
            return True
    except (OSError, smtplib.SMTPException):
        return None


def send(host: str, port: int, subject: str) -> None:
    message = f"From: postmaster@{host}\r\nTo: {RECIPIENT}@{host}\r\nSubject: {subject}\r\n\r\nIt works.\r\n"
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE) as client:
            client.sendmail(f"postmaster@{host}", [f"{RECIPIENT}@{host}"], message)
    except (OSError, smtplib.SMTPException) as error:
        raise Fatal(f"unable to send a message to port {port}: {error}") from error


def find(directory: Path, subject: str) -> Path | None:
    newest_first = sorted(directory.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    return next(
        (file for file in newest_first if f"Subject: {subject}\n".encode() in file.read_bytes()), None
    )


def log_of_last(home: Path) -> list[str] | None:
    """The log lines from the last `new msg` to its `end msg`, with local times; None before its end."""
    lines = (home / "log/qmail-send/current").read_text(errors="replace").splitlines()
    starts = [number for number, line in enumerate(lines) if " new msg " in line]
    message = lines[starts[-1] :] if starts else []
    return message if any(" end msg " in line for line in message) else None


def call(*argv: str) -> None:
    with unable_to(f"run {argv[0]}"):
        children.wait(children.spawn(argv))


def stay(scanner: int, signals: SignalPipe) -> None:
    """Wait for the signal to stop, or for svscan to die."""
    while True:
        select.select([signals], [], [])
        arrived = signals.arrived()
        if arrived & {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}:
            return
        if signal.SIGCHLD in arrived and os.waitid(os.P_PID, scanner, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            raise Fatal("svscan has died")


def stop(scanner: int) -> None:
    """End svscan, which ends its services and waits for them."""
    show("\nStopping: deliveries under way are finished first.")
    try:
        os.kill(scanner, signal.SIGTERM)
    except ProcessLookupError:
        pass
    children.wait(scanner)
    show("Stopped.")


if __name__ == "__main__":
    sys.exit(main())
