"""qmail-clean(8): remove the files of messages that qmail-send is done with.

SYNOPSIS
    qmail-clean

DESCRIPTION
    qmail-send may not write in mess/, intd/ and todo/, so it asks qmail-clean
    to remove files there.  A request on descriptor 0 ends in NUL:
    todo/N   message N is preprocessed: remove intd/N, then todo/N
    foop/N   message N is finished: remove intd/N, then the message itself
    N may stand below its subdirectory, as in todo/12/457 (big-todo).
    The answer on descriptor 1 is one byte: + done (also if there was nothing
    to remove), ! a file could not be removed, x not understood.

    Files in pid/ that nobody has touched for 36 hours are what is left of a
    qmail-queue that died; they go at the start and every 30 requests.

EXIT
    0: end of requests.  100: nobody reads the answers.  111: no queue.

FILES
    queue/mess, queue/intd, queue/todo, queue/pid
"""

from __future__ import annotations

import os
import signal
import time

from qmail import home
from qmail.queueing.queue_layout import Queue
from supervise.durable import write_all
from supervise.program import PERMANENT, TEMPORARY, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OSSIFIED = 129600  # seconds: 36 hours; must exceed qmail-queue's own limit of 24 hours
SWEEP_EVERY = 30  # requests
SHORTEST, LONGEST = 6, 99  # bytes of a request, without the NUL
DONE, FAILED, UNKNOWN = b"+", b"!", b"x"


@program("qmail-clean", resident=True)
def main(argv: Sequence[str]) -> int:
    del argv
    try:
        os.chdir(f"{home.find()}/queue")
        queue = Queue.recognise(".")
    except OSError:
        return TEMPORARY
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return serve(queue, 0, 1)


def serve(queue: Queue, requests: int, answers: int) -> int:
    """Answer what comes from the descriptor `requests` until it ends; return the exit code."""
    sweep_pids(time.time())
    until_sweep = SWEEP_EVERY
    partial = b""
    while data := os.read(requests, 4096):
        *lines, partial = (partial + data).split(b"\0")
        partial = partial[: LONGEST + 1]  # enough to know that it is too long
        for start in range(0, len(lines), SWEEP_EVERY):
            some = lines[start : start + SWEEP_EVERY]
            if until_sweep <= 0:
                sweep_pids(time.time())
                until_sweep = SWEEP_EVERY
            until_sweep -= len(some)
            try:
                write_all(answers, b"".join([answer(queue, line) for line in some]))
            except OSError:
                return PERMANENT
    return 0


def answer(queue: Queue, request: bytes) -> bytes:
    """Do what one request asks, and return what to answer.

    As in the original, every byte that is no digit where a number should be
    is answered on its own, and the digits before it count.
    """
    if not SHORTEST <= len(request) <= LONGEST:
        return UNKNOWN
    place = request[5:]
    if queue.big_todo:
        place = _below(queue, place)
    digits = place[: len(place) - len(place.lstrip(b"0123456789"))]
    complaints = UNKNOWN * len(place.translate(None, b"0123456789"))
    if not digits or not request.startswith((b"foop/", b"todo/")):
        return complaints + UNKNOWN
    number = int(digits)
    second = queue.mess(number) if request.startswith(b"foop/") else queue.todo(number)
    return complaints + (DONE if remove([queue.intd(number), second]) else FAILED)


def _below(queue: Queue, place: bytes) -> bytes:
    """`457` for `12/457`, if that is the place of message 457."""
    part, _, digits = place.rpartition(b"/")
    right = part.isdigit() and digits.isdigit() and int(part) == int(digits) % queue.split
    return digits if right else place


def remove(paths: Iterable[str]) -> bool:
    """Remove files in order, up to one that cannot be; a missing one is as good as removed."""
    try:
        for path in paths:
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
    except OSError:
        return False
    return True


def sweep_pids(now: float) -> None:
    """Remove what a qmail-queue that died long ago left in pid/."""
    try:
        names = os.listdir("pid")
    except OSError:
        return
    for name in names:
        try:
            if os.stat(f"pid/{name}").st_atime + OSSIFIED <= now:
                os.unlink(f"pid/{name}")
        except OSError:  # gone already, or not ours to remove
            continue
