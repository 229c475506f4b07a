"""Whichever process of an instance is killed, it is started again, and no accepted message is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import smtplib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from instances import RunningInstance, running_instance
from programs import eventually

SENDERS = 2
RANDOM_KILLS = 15
END = "this is the end"
HOW_MANY = {"multilog": 2, "supervise": 4}
PATIENCE = 60.0  # seconds; a killed supervise, spawner or qmail-send costs some restarts, a second apart
STAYS = {
    "multilog", "qmail-clean", "qmail-lspawn", "qmail-rspawn", "qmail-send", "supervise", "tcpserver",
}  # fmt: skip


class Traffic:
    """Messages sent all the time, and which of them were accepted."""

    def __init__(self, instance: RunningInstance) -> None:
        self._instance = instance
        self._stop = threading.Event()
        self._number = 0
        self._lock = threading.Lock()
        self.accepted: set[str] = set()

    @contextlib.contextmanager
    def flowing(self) -> Iterator[None]:
        senders = [threading.Thread(target=self._flow) for _ in range(SENDERS)]
        for sender in senders:
            sender.start()
        try:
            yield
        finally:
            self._stop.set()
            for sender in senders:
                sender.join()

    def _flow(self) -> None:
        while not self._stop.is_set():
            self.send()
            time.sleep(0.01)

    def send(self) -> str | None:
        """Send a message; return its name if it was accepted."""
        with self._lock:
            self._number += 1
            name = f"message-{self._number}-"
        try:
            self._instance.send(f"{name}\r\n{END}")
        except (OSError, smtplib.SMTPException):  # the server, or what it needs, was just killed
            return None
        self.accepted.add(name)
        return name


def processes(instance: RunningInstance) -> dict[int, str]:
    """The processes below svscan, and those that lost their parent, by pid: the programs' names."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == instance.svscan.pid != process.pid:
                words = " ".join(process.cmdline()).split()
                if words and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = os.path.basename(words[0])
    return found


def nudge(instance: RunningInstance) -> None:
    """Have qmail-send try now what a killed process made it put off."""
    for pid, name in processes(instance).items():
        if name == "qmail-send":
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGALRM)


def delivered(instance: RunningInstance) -> dict[str, int]:
    """How often each message is in the Maildir."""
    counts: dict[str, int] = {}
    for file in instance.new_mail.iterdir():
        lines = file.read_text().splitlines()
        assert lines[-1] == END, f"{file} is not whole"
        counts[lines[-2]] = counts.get(lines[-2], 0) + 1
    return counts


def await_delivery(instance: RunningInstance, names: set[str], when: str = "") -> None:
    def all_there() -> bool:
        missing = names - delivered(instance).keys()
        if missing:
            nudge(instance)
            time.sleep(0.2)
        return not missing

    eventually(all_there, f"every accepted message in the Maildir {when}", PATIENCE)


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it ended by itself
        return False
    return True


def test_each_program_is_started_again_and_mail_goes_on(instance: RunningInstance) -> None:
    traffic = Traffic(instance)
    with traffic.flowing():
        eventually(lambda: set(processes(instance).values()) >= STAYS)
        for pid, name in processes(instance).items():
            if kill(pid):
                if name in STAYS:
                    await_successor(instance, name)
                probe = eventually(traffic.send, f"a message accepted after {name} was killed", PATIENCE)
                await_delivery(instance, {probe})
    await_delivery(instance, traffic.accepted)


def await_successor(instance: RunningInstance, killed: str) -> None:
    """Wait until there are as many of the program again as a whole instance has."""
    usual = HOW_MANY.get(killed, 1)
    eventually(lambda: list(processes(instance).values()).count(killed) >= usual, f"{killed} again", PATIENCE)


def test_kills_at_any_moment_lose_nothing(instance: RunningInstance) -> None:
    seed = os.environ.get("KILL_SEED") or str(random.randrange(10**6))
    chance = random.Random(seed)
    traffic = Traffic(instance)
    killed = [f"with KILL_SEED={seed}:"]
    deadline = time.monotonic() + PATIENCE
    with traffic.flowing():
        while len(killed) <= RANDOM_KILLS:
            assert time.monotonic() < deadline, killed
            alive = sorted(processes(instance).items())
            pid, name = chance.choice(alive) if alive else (0, "")
            if pid and kill(pid):  # there is nothing to kill until svscan looks around again
                killed.append(name)
            time.sleep(chance.random() / 2)
        before = len(traffic.accepted)
        eventually(lambda: len(traffic.accepted) > before + 20, f"new mail after {killed}", PATIENCE)
    await_delivery(instance, traffic.accepted, " ".join(killed))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[RunningInstance]:
    with running_instance(tmp_path / "i") as made:
        yield made
