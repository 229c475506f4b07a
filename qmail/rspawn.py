"""qmail-rspawn(8): start remote deliveries for qmail-send.

SYNOPSIS   qmail-rspawn

           Orders come in on descriptor 0, reports go out on 1.
DESCRIPTION
           For each order qmail-remote, as found in PATH, is run with the
           recipient's host, the sender and the recipient.
EXIT       0: descriptor 0 was closed, and all deliveries are over.  111: no queue.
FILES      queue/mess
           queue/lock/tcpto: cleared at the start
           control/conf-spawn: deliveries at a time, at most (120); above
           255 with the big-concurrency patch's protocol, at most 65000
ENVIRONMENT
           QMAILREMOTE names a program to run in place of qmail-remote.
"""

from __future__ import annotations

import os

from qmail import home
from qmail.control import Controls
from qmail.queueing.queue_layout import TCPTO_SIZE
from qmail.spawning.order_checks import Mess
from qmail.spawning.orders import Order
from qmail.spawning.spawner import DEFAULT_LIMIT, Run, Spawner, limit_of, preload
from supervise.program import PERMANENT, TEMPORARY, program, unable_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_OUTPUT = 1 << 20  # bytes; qmail-send keeps 10,000


def report(status: int, output: bytes) -> bytes:
    """The text for qmail-send, given the exit code of qmail-remote and what it said.

    It says one paragraph for the recipient (r taken, h refused, s later) and
    then one for the message (K accepted, Z later, D refused), each ended by a
    NUL.  The recipient's may make the verdict worse, never better, and only
    then does the message's text stay away.
    """
    if status < 0:
        return b"Zqmail-remote crashed.\n"
    if status:
        return (b"Z" if status == TEMPORARY else b"D") + b"Unable to run qmail-remote.\n"
    if not output:
        return b"Zqmail-remote produced no output.\n"
    message = _rank(output)
    recipient = {b"s": 0, b"h": -1}.get(output[:1], message)
    verdict = {1: b"K", 0: b"Z", -1: b"D"}[recipient]
    first, end, rest = output[1:].partition(b"\0")
    if not end:
        return verdict
    second = rest.partition(b"\0")[0]
    if message <= recipient and second[:1] in (b"Z", b"D", b"K"):
        return verdict + first + second[1:]
    return verdict + first


def _rank(output: bytes) -> int:
    """1, 0 or -1 for the first paragraph of `output` that begins with K, Z or D."""
    for paragraph in output.split(b"\0")[:-1]:
        rank = {b"K": 1, b"Z": 0, b"D": -1}.get(paragraph[:1])
        if rank is not None:
            return rank
    return -1


@program("qmail-rspawn", resident=True, later=("qmail.remote",))
def main(argv: Sequence[str]) -> int:  # noqa: ARG001
    where = home.find()
    with unable_to(f"chdir to {where}/queue/mess"):
        os.chdir(f"{where}/queue/mess")
        mess = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with unable_to("read controls"):
            limit = limit_of(Controls.of(where).number("conf-spawn", DEFAULT_LIMIT))
        _clear_timeouts()
        remote = os.environ.get("QMAILREMOTE") or "qmail-remote"
        preload(remote)
        Spawner(limit, Mess(mess), lambda order: _delivery(remote, order)).serve()
    finally:
        os.close(mess)
    return 0


def _delivery(remote: str, order: Order) -> Run:
    host = order.recipient.rpartition(b"@")[2]
    argv = [remote, *map(os.fsdecode, (host, order.sender, order.recipient))]
    return Run(argv, None, report, (TEMPORARY, PERMANENT), MOST_OUTPUT)


def _clear_timeouts() -> None:
    """Give hosts that timed out another chance: after a restart, and as the original does."""
    try:
        fd = os.open("../lock/tcpto", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, bytes(TCPTO_SIZE))
    except OSError:
        pass
    finally:
        os.close(fd)
